/**
 * Lists the tests that fail behind PgBouncer although LOOM is right: they watch or change the node's own sessions, or
 * expect the words of PostgreSQL. With LOOM_TEST_PGBOUNCER=1 they must fail: one that passes fails the run, and leaves
 * the list. Maps a file to the reason of each test.
 */
export const sessionTests: Record<string, Record<string, string>> = {
  'test/persistence/connection/database.test.ts': {
    'changes no setting of its sessions, which a pooler may lend to others':
      'PgBouncer sets application_name itself, for each client.',
    'survives a connection that breaks while it is idle, and logs it':
      'The test ends the session of an idle connection, which PgBouncer replaces unseen.',
    'are closed by a reset: the idle ones at once, and a lent one when it comes back':
      'The test counts sessions, and PgBouncer keeps its own when a node closes a connection.',
    'are closed when a server refuses to write, also those that are idle':
      'The test counts sessions, and PgBouncer keeps its own when a node closes a connection.',
    'are closed when a short statement has no answer':
      'The test counts sessions, and PgBouncer keeps its own when a node closes a connection.',
    'is closed when the function throws an error that neither the database nor LOOM raised':
      'The test compares sessions, and PgBouncer lends the same one again.',
  },
  'test/persistence/connection/hosts.test.ts': {
    'reports the first fault if no host can be reached':
      'PgBouncer reports a missing database with its own code, 08P01.',
  },
  'test/persistence/probe/serving.test.ts': {
    'sees a setting that only new sessions obey': 'PgBouncer keeps sessions from before the change.',
  },
  'test/persistence/probe/node.test.ts': {
    'is told which table it may not use, at its start on an existing schema':
      'It ends with a role that may no longer connect, but PgBouncer is connected already.',
  },
  'test/e2e/secrets.test.ts': {
    'a wrong password: the node waits, and reports the fault without the password':
      'PgBouncer reports a wrong password with its own code, 08P01.',
  },
  'test/setup/server/database.test.ts': {
    'a database with only changed rows is emptied and reused':
      'A database is reused only if nobody is connected to it.',
  },
};
