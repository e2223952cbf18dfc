import { readdir, readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';

const root = new URL('../../', import.meta.url);

/**
 * Returns the lines of a page's shell blocks that pass a token to `curl`, directly or in a variable. `printf` is safe.
 */
function exposedTokens(markdown: string): string[] {
  const blocks = [...markdown.matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(([, block = '']) =>
    block.replaceAll('\\\n', ' '),
  );
  const lines = blocks.flatMap((block) => block.split('\n'));
  return lines.filter((line) => /-token: |Bearer |curl.*_TOKEN\b/.test(line) && !line.includes('printf'));
}

test('no page puts a token on the command line of curl, where every user of the machine sees it', async () => {
  // The runbook is a contract, and keeps its commands.
  const names = (await readdir(new URL('docs/', root))).filter((name) => name.endsWith('.md') && name !== 'runbook.md');
  const paths = ['README.md', ...names.map((name) => `docs/${name}`)];
  const pages = await Promise.all(paths.map((path) => readFile(new URL(path, root), 'utf8')));
  expect(paths.length).toBeGreaterThan(10);
  expect(pages.flatMap(exposedTokens)).toEqual([]);
});

test('the search finds a token', () => {
  const page = (line: string): string => `\`\`\`sh\n${line}\n\`\`\`\n`;
  expect(exposedTokens(page('curl -sS "$LOOM_URL/v1/state" -H "x-loom-admin-token: $LOOM_ADMIN_TOKEN"'))).toHaveLength(
    1,
  );
  expect(exposedTokens(page('curl -sS \\\n -H "authorization: Bearer $T" http://127.0.0.1'))).toHaveLength(1);
  expect(exposedTokens(page('AUTH="x-loom-admin-token: $LOOM_ADMIN_TOKEN"'))).toHaveLength(1);
  expect(exposedTokens(page('curl -sS "$LOOM_URL/v1/state" -H @token.header'))).toEqual([]);
});
