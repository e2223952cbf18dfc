import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { errorCodes } from '../../src/errors.ts';

/** Returns the rows such as "| `not_found` | 404 | … | … |". */
function documentedCodes(markdown: string): { code: string; status: number; meaning: string; remedy: string }[] {
  const row = /^\| `([a-z0-9_]+)` \| (\d{3}) \| ([^|]+) \| ([^|]+) \|$/gm;
  return [...markdown.matchAll(row)].map(([, code = '', status, meaning = '', remedy = '']) => {
    return { code, status: Number(status), meaning, remedy };
  });
}

const byCode = (one: { code: string }, other: { code: string }): number => (one.code < other.code ? -1 : 1);

test('docs/errors.md explains every code of the catalogue, with its status, once', async () => {
  const documented = documentedCodes(await readFile(new URL('../../docs/errors.md', import.meta.url), 'utf8'));
  const codes = errorCodes().map(({ code, status }) => ({ code, status }));
  expect(documented.map(({ code, status }) => ({ code, status })).sort(byCode)).toEqual(codes.sort(byCode));
  for (const { meaning, remedy } of documented) expect(Math.min(meaning.length, remedy.length)).toBeGreaterThan(5);
});
