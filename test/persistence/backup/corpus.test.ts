import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBackupFile } from '../../../src/backup/offline/file.ts';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import { verify as verifyCommand } from '../../../src/cli/verify.ts';
import { isLoomError } from '../../../src/errors.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import {
  corpusFiles,
  corpusFolder,
  type GoodFile,
  isGzip,
  readCorpus,
  readCorpusFile,
  verdictKind,
} from '../../setup/backup/corpus.ts';
import { runCommand } from '../../setup/cli/command.ts';
import { sampleByKind } from '../../setup/depth.ts';
import { asAdmin, createTestServer, json, type TestResponse, type TestServer } from '../../setup/node/http.ts';
import { digestTables } from '../../setup/server/digest.ts';

const RESTORE = '/v1/admin/persistence/restore';
/** The part of a restore request before the backup. */
const BEFORE = '{"confirm":"restore","backup":';
const BEFORE_DRY = '{"confirm":"restore","dry_run":true,"backup":';

const corpus = await readCorpus();

interface Verdict {
  code: string;
  place: Record<string, unknown>;
}

const pathOf = (file: string): string => fileURLToPath(new URL(file, corpusFolder));

async function verdictOf(file: string): Promise<Verdict | undefined> {
  try {
    await verifyBackup(await openBackupFile(pathOf(file)), {
      schemaVersion: CURRENT_SCHEMA_VERSION,
    });
    return undefined;
  } catch (error) {
    if (!isLoomError(error)) throw error;
    return { code: error.code, place: { ...error.place } };
  }
}

/** Builds the request around a file as docs/restore.md does: compressed files stand between compressed parts. */
function requestOf(
  bytes: Buffer,
  { packed, isCut = false, before = BEFORE }: { packed: boolean; isCut?: boolean; before?: string },
) {
  const parts = [Buffer.from(before), bytes, Buffer.from(isCut ? '' : '}')];
  if (!isGzip(bytes)) return packed ? gzipSync(Buffer.concat(parts)) : Buffer.concat(parts);
  return Buffer.concat(parts.map((part, index) => (index === 1 || part.length === 0 ? part : gzipSync(part))));
}

function sendRestore(server: TestServer, body: Buffer): Promise<TestResponse> {
  const encoding = isGzip(body) ? { 'content-encoding': 'gzip' } : {};
  return server.request('POST', RESTORE, { headers: { ...asAdmin, ...json, ...encoding }, body });
}

it('every file of the corpus is listed once, and every fault has one file', async () => {
  const listed = [...corpus.good, ...corpus.spoiled].map(({ file }) => file);
  expect(listed.toSorted()).toEqual((await corpusFiles()).toSorted());
  expect(corpus.spoiled.length).toBeGreaterThan(100);
  const whys = corpus.spoiled.map(({ why }) => why);
  expect(new Set(whys).size).toBe(whys.length);
});

describe('a spoiled file is refused by verify and by restore alike', () => {
  let server: TestServer;
  let before: string;
  beforeAll(async () => {
    server = await createTestServer();
    for (const name of ['a', 'counter', 'live'])
      await server.request('PUT', `/v1/documents/${name}`, { body: '{"live":1}' });
    before = await digestTables(server.database.pool);
  });
  afterAll(() => server.close());

  async function restoreVerdict(body: Buffer): Promise<Verdict> {
    const answer = await sendRestore(server, body);
    const { code, pointer, offset, document, seq } = answer.json();
    const place = Object.entries({ pointer, offset, document, seq }).filter(([, value]) => value !== undefined);
    expect(await digestTables(server.database.pool)).toBe(before);
    return { code, place: Object.fromEntries(place) };
  }

  /** Returns the verdict with its place in a request around the file. */
  function wrapped(verdict: Verdict): Verdict {
    const { pointer, offset, ...place } = verdict.place;
    if (pointer !== undefined) place.pointer = `/backup${pointer}`;
    // The offset at which gzip damage is detected depends on the chunks of the body.
    if (offset !== undefined && verdict.code !== 'malformed_request') place.offset = Number(offset) + BEFORE.length;
    return { ...verdict, place };
  }

  it.each(sampleByKind(corpus.spoiled, verdictKind, { purpose: 'corpus' }))('$file: $why', async (spoiled) => {
    const { file, code, place = {}, restore, cut: isCut = false } = spoiled;
    const verdict = await verdictOf(file);
    if (code === null) expect(verdict).toBeUndefined();
    else expect(verdict).toMatchObject({ code, place });

    const printed = await runCommand(verifyCommand, [pathOf(file)]);
    expect(printed.code).toBe(code === null ? 0 : 1);
    expect(printed.stdout).toContain(code === null ? 'ok: ' : `not ok: ${code}`);

    const bytes = await readCorpusFile(file);
    const expected = restore ?? (verdict && wrapped(verdict)) ?? {};
    const found = await restoreVerdict(requestOf(bytes, { packed: false, isCut }));
    expect(found).toMatchObject(expected);
    expect(await restoreVerdict(requestOf(bytes, { packed: true, isCut }))).toEqual(found);
  });

  it('the same node then accepts a good file', async () => {
    const bytes = await readCorpusFile('good/small.json');
    expect((await sendRestore(server, requestOf(bytes, { packed: false }))).status).toBe(200);
  });
});

describe('a good file', () => {
  let server: TestServer;
  afterAll(() => server?.close());

  it.each(corpus.good)('$file: $why', async ({ file, verified, documents, entries }: GoodFile) => {
    const verdict = await verdictOf(file);
    // A restore accepts a backup without a manifest here, but verify cannot confirm it.
    expect(verdict?.code).toBe(verified ? undefined : 'backup_unverified');
    expect((await runCommand(verifyCommand, [pathOf(file)])).code).toBe(verified ? 0 : 1);

    await server?.close();
    server = await createTestServer();
    const { pool } = server.database;
    const bytes = await readCorpusFile(file);
    const before = await digestTables(pool);
    const plan = await sendRestore(server, requestOf(bytes, { packed: false, before: BEFORE_DRY }));
    expect(plan.json()).toMatchObject({ dry_run: true, verified, imported_audit_count: entries });
    expect(await digestTables(pool)).toBe(before);

    const deed = await sendRestore(server, requestOf(bytes, { packed: true }));
    expect(deed.status).toBe(200);
    const report = deed.json();
    expect(report).toMatchObject({ dry_run: false, verified, imported_audit_count: entries });
    expect(report).toMatchObject({ documents: plan.json().documents, revision: plan.json().revision });
    await expectFound(server, bytes, documents);
  });
});

/** Expects the node to have the file's state and history, and a valid chain. */
async function expectFound(server: TestServer, bytes: Buffer, documents: number): Promise<void> {
  const backup = JSON.parse((isGzip(bytes) ? gunzipSync(bytes) : bytes).toString('utf8'));
  const state = (await server.request('GET', '/v1/state')).json();
  expect(Object.keys(state)).toHaveLength(documents);
  expect(state).toEqual(backup.state ?? {});
  const { entries } = (await server.request('GET', '/v1/audit?limit=1000&order=asc', { headers: asAdmin })).json();
  const kept: unknown[] = entries.map((entry: { import?: { original: unknown } }) => entry.import?.original ?? entry);
  for (const entry of backup.audit_entries ?? []) {
    expect([...kept, ...entries]).toContainEqual(entry);
  }
  const verdict = (await server.request('GET', '/v1/audit/verify', { headers: asAdmin })).json();
  expect(verdict).toMatchObject({ ok: true, entries: entries.length });
}
