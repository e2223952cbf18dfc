import { rebuildIndex } from '../../persistence/audit/rebuild.ts';
import { createPlainCommand } from '../command.ts';
import { counted, quoted } from '../terminal/text.ts';
import { withDatabase } from './database.ts';

/** Rebuilds the index of changes of one state, after someone has changed it by hand. */
export const reindex = createPlainCommand({
  name: 'reindex',
  help: {
    summary: 'rebuild the index of changes of documents from the audit trail',
    about:
      'Rebuilds loom_change, from which a node answers the history of a document. It covers the state that ' +
      'LOOM_PG_STATE_KEY names and its scratch states. Commits wait meanwhile, and restores are refused. It changes ' +
      'no document and no audit entry.',
    succeeds: 'the index matches the audit trail',
    fails:
      'the database cannot be reached or needs migrations, or the state does not exist, is locked, or is being ' +
      'restored',
    examples: ['LOOM_PG_URL=postgres://loom@db.example/loom node dist/main.js reindex'],
  },
  run: ({ env, write }) =>
    withDatabase({ env }, 'loom-reindex', async (database, { stateKey }) => {
      for (const { kind, name, changes } of await rebuildIndex(database, stateKey)) {
        write(`Rebuilt the index of the ${kind} ${quoted(name)}: ${counted(changes, 'change')}.\n`);
      }
      return 0;
    }),
});
