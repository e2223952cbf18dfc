import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach } from 'vitest';
import { usesPooler } from '../roles/pooled.ts';
import { sessionTests } from '../roles/session-tests.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

// Behind PgBouncer, a listed test must fail. So the list has no test that could run.
if (usesPooler) {
  beforeEach(({ task }) => {
    const path = relative(root, task.file.filepath);
    if (Object.hasOwn(sessionTests[path] ?? {}, task.name)) Object.assign(task, { fails: true });
  });
}
