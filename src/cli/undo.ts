import { assertCanAsk, createClientCommand } from './client/client-command.ts';
import { planAskAct } from './client/confirmed.ts';
import { undoText } from './client/plan-text.ts';

/** Undoes the last restore, or undo: first the plan, then the question, then the deed. */
export const undo = createClientCommand({
  name: 'undo',
  summary: 'undo the last restore: shows the plan, and asks',
  synopsis: '[options]',
  help:
    '  --yes                  do not ask\n' +
    '  --dry-run              only show the plan\n' +
    '  --event-id ID          undo this one of those that status lists, and all after it\n',
  options: { yes: { type: 'boolean' }, 'dry-run': { type: 'boolean' }, 'event-id': { type: 'string' } },
  operands: 0,
  run: async (values, _operands, { client, context }) => {
    if (values['dry-run'] !== true) assertCanAsk(context, values.yes, 'undo without asking');
    const eventId = values['event-id'];
    const members = eventId === undefined ? {} : { event_id: eventId };
    const report = await planAskAct({
      context,
      word: 'undo',
      hasYes: values.yes === true,
      isDryRun: values['dry-run'] === true,
      guards: true,
      plan: () => client.undo({ ...members, dry_run: true }),
      act: (revision) => client.undo({ ...members, ...(revision === undefined ? {} : { expect_revision: revision }) }),
      textOf: undoText,
    });
    if (report !== undefined && !report.dry_run) {
      context.write(`\nUndone. An undo can be undone likewise.\n${undoText(report)}`);
    }
    return report === undefined ? 1 : 0;
  },
});
