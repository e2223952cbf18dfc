import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { expect, it } from 'vitest';
import { EntryText } from '../../../src/backup/check/entry-text.ts';
import type { Mismatch } from '../../../src/backup/offline/fold/compare.ts';
import { createTrailFold, type FoldReport } from '../../../src/backup/offline/fold/fold.ts';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import { canonicalize } from '../../../src/json/canonical.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import { entryText, writeBackup } from '../../setup/backup/written-backup.ts';

type Step = [op: 'put' | 'merge' | 'delete', name: string, value?: unknown, sha256?: string | null];

/** Applies the steps to documents, as a node does: each step is an entry with the digest of its result. */
function tell(steps: (Step | 'untold' | 'told')[], first = 1) {
  const documents = new Map<string, unknown>();
  const entries = steps.map((step, index) => {
    const seq = first + index;
    if (typeof step === 'string') {
      const restore = step === 'told' ? { recorded_changes: 0 } : {};
      return entryText(seq, { action: 'restore', changes: '[]', more: { restore } });
    }
    const [op, name, value, stated] = step;
    if (op === 'delete') documents.delete(name);
    else documents.set(name, op === 'put' ? value : { ...(documents.get(name) as object), ...(value as object) });
    const sha256 = stated === undefined ? digestOf(documents.get(name)) : stated;
    const change = { op, name, ...(op === 'delete' ? {} : { value, ...(sha256 === null ? {} : { sha256 }) }) };
    return entryText(seq, { action: 'document.put', changes: JSON.stringify([change]) });
  });
  return { entries, documents: [...documents].map(([name, value]): [string, unknown] => [name, value]) };
}

function digestOf(value: unknown): string | null {
  if (value === undefined) return null;
  return createHash('sha256')
    .update(canonicalize(JSON.stringify(value)))
    .digest('hex');
}

async function foldOf(entries: string[], documents: [string, unknown][]): Promise<FoldReport | undefined> {
  const texts = documents.map(([name, value]): [string, string] => [name, JSON.stringify(value)]);
  const plain = writeBackup({ documents: texts, entries });
  const folds: (FoldReport | undefined)[] = [];
  // As LOOM writes it, and with other spaces and orders, where no value is in canonical form.
  const { state, audit_entries, ...rest } = JSON.parse(plain);
  for (const text of [plain, JSON.stringify({ audit_entries, ...rest, state })]) {
    const open = () => Readable.from([Buffer.from(text)]);
    folds.push((await verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION })).fold);
  }
  expect(folds[1]).toEqual(folds[0]);
  return folds[0];
}

const ok = { toldFrom: 1, untoldDocuments: 0, uncheckedMerges: 0, mismatches: [], mismatchCount: 0 };
const history: Step[] = [
  ['put', 'a', { x: 1 }],
  ['put', 'ä "b"', ['é', 1e21]],
  ['merge', 'a', { y: 2 }],
  ['merge', 'new', { z: [1] }],
  ['put', 'gone', 1],
  ['delete', 'gone'],
];

it('a trail gives the documents of its backup', async () => {
  const { entries, documents } = tell(history);
  expect(await foldOf(entries, documents)).toEqual(ok);
});

it('names each document that was edited, inserted or removed', async () => {
  const { entries, documents } = tell(history);
  const changed: [string, unknown][] = [
    ...documents
      .filter(([name]) => name !== 'new')
      .map(([name, value]): [string, unknown] => [name, name === 'a' ? 7 : value]),
    ['gone', 1],
    ['never', 2],
  ];
  const mismatches: Mismatch[] = [
    { document: 'a', seq: 3, how: 'edited' },
    { document: 'gone', seq: 6, how: 'inserted' },
    { document: 'never', seq: null, how: 'inserted' },
    { document: 'new', seq: 4, how: 'removed' },
  ];
  expect(await foldOf(entries, changed)).toEqual({ ...ok, mismatches, mismatchCount: 4 });
});

it('names each change that does not give the digest that it states', async () => {
  const wrong = 'f'.repeat(64);
  const { entries, documents } = tell([
    ['put', 'a', { x: 1 }, wrong],
    ['put', 'a', { x: 1 }],
    ['merge', 'a', { x: 2 }, wrong],
    ['put', 'a', 3],
  ]);
  const mismatches = [1, 3].map((seq) => ({ document: 'a', seq, how: 'change' }));
  expect(await foldOf(entries, documents)).toEqual({ ...ok, mismatches, mismatchCount: 2 });
});

it('a restore that did not record its changes makes the documents before it untold', async () => {
  const { entries, documents } = tell([
    ...history,
    'untold',
    ['put', 'a', 1],
    ['put', 'later', 1],
    ['delete', 'later'],
  ]);
  const restored: [string, unknown][] = [...documents, ['restored', 1]];
  expect(await foldOf(entries, restored)).toEqual({ ...ok, toldFrom: 8, untoldDocuments: 3 });
  const edited = restored.map(([name]): [string, unknown] => [name, 'edited']);
  const mismatches = [{ document: 'a', seq: 8, how: 'edited' }];
  expect(await foldOf(entries, edited)).toMatchObject({ untoldDocuments: 3, mismatches });
});

it('a restore that recorded its changes leaves all documents told', async () => {
  const { entries, documents } = tell([...history, 'told', ['put', 'a', 1]]);
  expect(await foldOf(entries, documents)).toEqual(ok);
});

/** Returns an entry of a restore or undo, or one that follows it, with as many changes. */
function operationText(seq: number, action: string, changes: number, claimed?: unknown): string {
  const [kind = '', isFollowing] = action.split('.');
  const list = Array.from({ length: changes }, () => ({ op: 'delete', name: 'a' }));
  const more = isFollowing === undefined ? { [kind]: claimed === undefined ? {} : { recorded_changes: claimed } } : {};
  return entryText(seq, { action, changes: JSON.stringify(list), more });
}

const commit = (seq: number) => entryText(seq, { action: 'document.delete', changes: '[{"op":"delete","name":"b"}]' });

it.each<[why: string, entries: string[]]>([
  ['no changes', [operationText(1, 'restore', 0, 0), commit(2)]],
  ['one entry of changes', [operationText(1, 'restore', 0, 2), operationText(2, 'restore.changes', 2), commit(3)]],
  [
    'several entries, and an operation directly after them',
    [
      operationText(1, 'undo', 0, 3),
      operationText(2, 'undo.changes', 2),
      operationText(3, 'undo.changes', 1),
      operationText(4, 'restore', 0, 0),
    ],
  ],
  ['an older node that recorded nothing', [operationText(1, 'restore', 0), operationText(2, 'undo', 0, null)]],
])('restores and undos that claim what the entries after them have: %s', async (_, entries) => {
  expect(await foldOf(entries, [])).toMatchObject({ mismatches: [], mismatchCount: 0 });
});

it.each<[why: string, seq: number, claimed: string, recorded: number, entries: string[]]>([
  ['fewer changes', 1, '2', 1, [operationText(1, 'restore', 0, 2), operationText(2, 'restore.changes', 1)]],
  ['more changes', 1, '0', 1, [operationText(1, 'undo', 0, 0), operationText(2, 'undo.changes', 1)]],
  ['none at the end', 2, '7', 0, [commit(1), operationText(2, 'restore', 0, 7)]],
  ['none before the next', 1, '1', 0, [operationText(1, 'undo', 0, 1), operationText(2, 'undo', 0, 0)]],
  ['an older node with changes', 1, '0', 1, [operationText(1, 'restore', 0), operationText(2, 'restore.changes', 1)]],
  ['changes without an operation', 2, '0', 1, [commit(1), operationText(2, 'restore.changes', 1), commit(3)]],
  ['no changes without an operation', 1, '0', 0, [operationText(1, 'undo.changes', 0)]],
  [
    'a commit between',
    1,
    '1',
    1,
    [operationText(1, 'restore', 0, 1), commit(2), operationText(3, 'restore.changes', 1)],
  ],
  ['changes of another kind', 1, '1', 1, [operationText(1, 'restore', 0, 1), operationText(2, 'undo.changes', 1)]],
  ['a claim of another form', 1, '{"x": [1]}', 0, [operationText(1, 'restore', 0, { x: [1] })]],
  ['a long claim', 1, `"${'x'.repeat(63)}…`, 0, [operationText(1, 'undo', 0, 'x'.repeat(200))]],
])('names a restore or undo with %s', async (_, seq, claimed, recorded, entries) => {
  const mismatches: Mismatch[] = [{ document: null, seq, how: 'recorded_changes', claimed, recorded }];
  expect(await foldOf(entries, [])).toMatchObject({ mismatches, mismatchCount: 1 });
});

it('a merge without a digest leaves its document untold until the next change', async () => {
  const merge: Step = ['merge', 'a', { y: 2 }, null];
  const { entries, documents } = tell([['put', 'a', { x: 1 }], merge]);
  expect(await foldOf(entries, documents)).toEqual({ ...ok, untoldDocuments: 1 });
  expect(await foldOf(entries, [])).toMatchObject({ mismatches: [{ document: 'a', seq: 2, how: 'removed' }] });
  const later = tell([['put', 'a', { x: 1 }], merge, ['merge', 'a', { z: 3 }]]);
  expect(await foldOf(later.entries, later.documents)).toEqual({ ...ok, uncheckedMerges: 1 });
});

it('a put without a digest states that of its value', async () => {
  const { entries } = tell([['put', 'a', { x: 1 }, null]]);
  expect(await foldOf(entries, [['a', { x: 1 }]])).toEqual(ok);
  expect(await foldOf(entries, [['a', { x: 2 }]])).toMatchObject({ mismatchCount: 1 });
});

it('elements of another form are skipped, as the index in the database skips them', async () => {
  const changes = [
    '{"op":"put","value":1}',
    '{"op":"put","name":"","value":1}',
    `{"op":"put","name":"${'n'.repeat(513)}","value":1}`,
    '{"op":"other","name":"a"}',
    '["put","a"]',
    '7',
  ].join(',');
  const entries = [`[${changes}]`, '{"op":"put","name":"a","value":1}', '[]'].map((text, index) =>
    entryText(index + 1, { action: 'other', changes: text }),
  );
  expect(await foldOf(entries, [])).toEqual(ok);
});

it('a backup with a part of its trail, or none, has no fold', async () => {
  const previous = { seq: 4, hash: 'a'.repeat(64) };
  const { entries } = tell([['put', 'a', 1]], 5);
  const partial = writeBackup({ documents: [['b', '2']], entries, previous });
  for (const text of [partial, writeBackup({ documents: [['b', '2']] })]) {
    const open = () => Readable.from([Buffer.from(text)]);
    expect((await verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION })).fold).toBeUndefined();
  }
});

function readEntry(text: string): EntryText {
  const entry = new EntryText();
  entry.read(Buffer.from(canonicalize(text)));
  return entry;
}

/** Folds a trail with little memory for values, and compares it with what it makes. */
async function foldWithin(maxValueBytes: number, steps: Step[]): Promise<FoldReport | undefined> {
  const fold = createTrailFold(maxValueBytes);
  const { entries, documents } = tell(steps);
  for (const [name, value] of documents) {
    fold.addDocument(name, Buffer.from(digestOf(value) ?? '', 'hex'));
  }
  for (const entry of entries) {
    fold.addEntry(readEntry(entry));
  }
  return await fold.compare(() => Promise.reject(new Error('nothing to name')));
}

it('merges whose earlier value does not fit in memory are counted, and their digests taken as stated', async () => {
  const steps: Step[] = Array.from({ length: 40 }, (_, index) => ['put', `d${index}`, { index }]);
  const report = await foldWithin(3000, [...steps, ['merge', 'd0', { more: 1 }], ['merge', 'd39', { more: 1 }]]);
  expect(report).toEqual({ ...ok, uncheckedMerges: 1 });
});

it('the values of documents that change again and again stay in memory', async () => {
  const others = Array.from({ length: 60 }, (_, index): Step[] => [
    ['put', `d${index}`, { index }],
    ['merge', 'often', { index }],
  ]);
  expect(await foldWithin(3000, [['put', 'often', { x: 1 }], ...others.flat()])).toEqual(ok);
});

it('values that become shorter and longer keep nothing of what they were', async () => {
  const steps = [1, 90, 2, 300, 3, 40].flatMap((length): Step[] => [
    ['merge', 'a', { aa: 'x'.repeat(length) }],
    ['merge', 'a', { aaa: { b: length } }],
    ['put', 'b', { long: 'y'.repeat(200 - (length % 200)) }],
    ['merge', 'b', {}],
  ]);
  const { entries, documents } = tell([['put', 'a', { z: [] }], ...steps]);
  expect(await foldOf(entries, documents)).toEqual(ok);
});

it('thousands of documents are counted', async () => {
  const fold = createTrailFold();
  fold.addEntry(readEntry(entryText(1, { action: 'other', changes: '[]' })));
  for (let index = 0; index < 3000; index += 1) fold.addDocument(`n${index}`, Buffer.alloc(32, index));
  const report = await fold.compare(() => Promise.resolve());
  expect(report).toMatchObject({ mismatchCount: 3000, mismatches: [] });
});
