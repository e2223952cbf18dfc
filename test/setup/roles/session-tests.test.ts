import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { sessionTests } from './session-tests.ts';

test.each(Object.entries(sessionTests))('the list for runs behind PgBouncer names tests of %s', async (path, tests) => {
  const text = await readFile(new URL(`../../../${path}`, import.meta.url), 'utf8');
  for (const name of Object.keys(tests)) expect(text).toContain(`'${name}'`);
});
