import { assertCanAsk, createClientCommand } from './client/client-command.ts';
import { planAskAct } from './client/plan-ask-act.ts';
import { undoText } from './client/plan-text.ts';

/** Undoes the newest restore or undo: shows the plan, asks, and acts. */
export const undo = createClientCommand({
  name: 'undo',
  help: {
    summary: 'undo the last restore: shows the plan, and asks',
    synopsis: '[options]',
    about:
      'Undoes the newest restore or undo that the node has kept. It shows the plan and asks before it changes anything.',
    examples: ['node dist/main.js undo --dry-run', 'node dist/main.js undo --yes --json'],
  },
  options: {
    yes: { type: 'boolean', help: 'do not ask' },
    'dry-run': { type: 'boolean', help: 'show only the plan' },
    'event-id': {
      type: 'string',
      value: 'ID',
      help: 'undo this restore or undo, which status lists, and all later ones',
    },
  },
  operandCount: 0,
  run: async ({ values, client, context, wantsJson }) => {
    const isDryRun = values['dry-run'] === true;
    if (!isDryRun) assertCanAsk(context, values.yes, 'undo');
    const eventId = values['event-id'];
    const members = eventId === undefined ? {} : { event_id: eventId };
    const report = await planAskAct({
      context,
      wantsJson,
      word: 'undo',
      hasYes: values.yes === true,
      isDryRun,
      guardsRevision: true,
      plan: () => client.undo({ ...members, dry_run: true }),
      act: (revision) => client.undo({ ...members, ...(revision === undefined ? {} : { expect_revision: revision }) }),
      textOf: undoText,
    });
    const text = isDryRun ? '' : `\nUndone. Another undo takes this one back.\n${undoText(report)}`;
    return { exitCode: 0, text, json: { ok: true, report } };
  },
});
