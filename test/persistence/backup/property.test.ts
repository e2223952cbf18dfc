import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canonicalize } from '../../../src/json/canonical.ts';
import { limits } from '../../../src/limits.ts';
import { rounds } from '../../setup/depth.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { documentName, jsonText } from '../../setup/values/arbitrary.ts';
import { normalizeDocument } from '../../setup/values/normalize-document.ts';

let nodes: TestNodes;
beforeAll(async () => {
  nodes = await openNodes();
});
afterAll(() => nodes.close());

let states = 0;
function openState(): Promise<TestStore> {
  states += 1;
  return openTestStore(nodes.database.url, { stateKey: `state-${states}`, poolMax: 2 });
}

/** Normalizes a document as the HTTP side does. */
function normal(text: string): string {
  return normalizeDocument(text, { maxBytes: limits.maxDocumentBytes, maxDepth: limits.maxDocumentDepth }).text;
}

/** Compares values. Unlike `toEqual`, distinguishes 0 from -0 and sees a member called `__proto__`. */
function expectSame(actual: string | undefined, expected: string): void {
  const parsed: unknown = JSON.parse(actual ?? 'undefined');
  if (!isDeepStrictEqual(parsed, JSON.parse(expected))) expect(actual).toBe(expected);
}

async function readText(node: TestStore, name: string): Promise<string | undefined> {
  return (await node.store.readDocument(name))?.text;
}

/** Rewritings that a backup may undergo before its restore. */
const passes: ((text: string) => string)[] = [
  (text) => text,
  (text) => JSON.stringify(JSON.parse(text)),
  (text) => JSON.stringify(JSON.parse(text), null, 2),
];

describe('random documents', () => {
  it('survive put, get, merge, backup, JSON.parse and JSON.stringify, and restore, unchanged', async () => {
    const documents = fc.uniqueArray(fc.tuple(documentName, jsonText), {
      minLength: 1,
      maxLength: 30,
      selector: ([name]) => name,
    });
    await fc.assert(
      fc.asyncProperty(documents, fc.constantFrom(...passes), async (given, pass) => {
        const [from, to] = await Promise.all([openState(), openState()]);
        try {
          await Promise.all(
            given.flatMap(([name, text]) => [
              from.commit({ changes: [{ op: 'put', name, json: normal(text) }] }),
              // In a list, because a merge patch removes members that are null.
              from.commit({
                action: 'document.patch',
                changes: [{ op: 'merge', name: `${name} merged`, json: `{"in":[${normal(text)}]}` }],
              }),
            ]),
          );
          for (const [name, text] of given) expectSame(await readText(from, name), text);

          const backup = pass(await from.backup());
          await to.restore(backup, { accept_state_key: from.stateKey });
          for (const [name, text] of given) {
            expectSame(await readText(to, name), text);
            expect(await readText(to, name)).toBe(canonicalize(text));
          }
          expect(
            (await to.store.listDocuments({ limit: 1_000 })).documents.map(({ name, bytes }) => [name, bytes]),
          ).toEqual(
            (await from.store.listDocuments({ limit: 1_000 })).documents.map(({ name, bytes }) => [name, bytes]),
          );
          expect(JSON.parse(await to.backup()).manifest.state_sha256).toBe(JSON.parse(backup).manifest.state_sha256);
          expect(await verify(to)).toMatchObject({ ok: true, entries: given.length * 2 + 1 });
        } finally {
          await Promise.all([from.close(), to.close()]);
        }
      }),
      { numRuns: rounds({ quick: 6, full: 25 }) },
    );
  });

  it('survive a merge with unchanged lists', async () => {
    const node = await openState();
    try {
      await fc.assert(
        fc.asyncProperty(jsonText, async (text) => {
          await node.commit({
            action: 'document.patch',
            changes: [{ op: 'merge', name: 'merged', json: `{"in":[${normal(text)}]}` }],
          });
          expectSame(await readText(node, 'merged'), `{"in":[${text}]}`);
        }),
        { numRuns: rounds({ quick: 15, full: 60 }) },
      );
    } finally {
      await node.close();
    }
  });

  it('negative zero is zero, and numbers have one spelling', async () => {
    const node = await openState();
    try {
      await node.commit({ changes: [{ op: 'put', name: 'n', json: normal('[-0, 1.0, 1e2, 10E-1, -0.0e5]') }] });
      expect(await readText(node, 'n')).toBe('[0, 1, 100, 1, 0]');
    } finally {
      await node.close();
    }
  });
});
