import { ACTOR_OPTION, createClientCommand } from './client/client-command.ts';
import { readNodeIdentity } from './client/identity.ts';
import { assertCanAsk, PLAN_OPTIONS, planAskAct } from './client/plan-ask-act.ts';
import { undoQuestion, undoText } from './client/plan-text.ts';
import { whileWatched } from './client/watch.ts';
import { valued } from './terminal/arguments.ts';
import { createProgress } from './terminal/progress.ts';

/** Undoes the newest restore or undo: shows the plan, asks, and acts. */
export const undo = createClientCommand({
  name: 'undo',
  help: {
    summary: 'show the plan of an undo, ask, and undo the last restore',
    synopsis: '[options]',
    about: 'Undoes the newest restore or undo of the node. It shows the plan and asks before it changes anything.',
    examples: ['node dist/main.js undo --dry-run', 'node dist/main.js undo --yes --json'],
  },
  options: {
    ...PLAN_OPTIONS,
    ...ACTOR_OPTION,
    'event-id': valued('ID', 'undo this restore or undo, which status lists, and all later ones'),
  },
  operandCount: 0,
  run: async ({ client, config, ...input }) => {
    assertCanAsk(input, 'undo');
    const eventId = input.values['event-id'];
    const members = eventId === undefined ? {} : { event_id: eventId };
    const progress = createProgress(input.context);
    const node = await readNodeIdentity(client, config.url);
    return await planAskAct(input, {
      word: 'undo',
      guardsRevision: true,
      send: (more) => {
        progress.begin(more.dry_run === true ? 'the node plans' : 'the node undoes');
        const send = (requestId: string) => client.undo({ ...members, ...more }, requestId);
        return whileWatched(client, progress, send).finally(progress.end);
      },
      planText: (plan) => undoText(plan, node),
      doneText: (report) => `\nUndone. Another undo reverses this one.\n${undoText(report)}`,
      question: (plan) => undoQuestion(plan, node),
    });
  },
});
