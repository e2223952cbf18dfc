import { createWriteStream } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { expect, test } from 'vitest';
import { openRestoreBody } from '../../src/cli/client/restore-body.ts';
import type { RestoreReport } from '../../src/domain/backup.ts';
import { createNodeClient } from '../../src/http/client/client.ts';
import { rounds } from '../setup/depth.ts';
import { runProgramToEnd, startProgram, waitUntilReady } from '../setup/node/program.ts';
import { createEmptyDatabase, type TestDatabase } from '../setup/server/database.ts';
import { filledName, fillState } from '../setup/server/filled-state.ts';

const TOKEN = 'admin-token-of-the-large-backup';
const DOCUMENT_BYTES = 1_000_000;
/** Each document is in the backup once as a document and once in the trail. */
const documents = rounds({ quick: 2, full: 320 });

/**
 * At full depth, the backup has more than 600 MB: more than a string of Node can hold, and more than the node's memory
 * may grow by.
 */
test('a large backup is taken, verified, planned, restored and undone', { timeout: 1_200_000 }, async () => {
  const database = await createEmptyDatabase();
  await fillState(database.url, { documents, documentBytes: DOCUMENT_BYTES, entries: documents });
  const directory = await mkdtemp(join(tmpdir(), 'loom-large-'));
  const node = await startProgram({ env: { LOOM_PG_URL: database.url, LOOM_ADMIN_TOKEN: TOKEN } });
  const client = createNodeClient({ url: node.url, token: TOKEN });
  const file = join(directory, 'backup.json');
  const restore = async (isPlan: boolean): Promise<RestoreReport> => {
    const { body, isGzip } = await openRestoreBody({ path: file }, { dry_run: isPlan }, () => undefined);
    return client.restore(body, isGzip);
  };
  const change = async (method: string, name: string, body?: string): Promise<void> => {
    const headers = { 'x-loom-admin-token': TOKEN, 'content-type': 'application/json' };
    const request = { method, headers, ...(body === undefined ? {} : { body }) };
    const answer = await fetch(`${node.url}/v1/documents/${name}`, request);
    expect(answer.ok, await answer.text()).toBe(true);
  };
  try {
    await waitUntilReady(node.url);
    const { body } = await client.openBackup();
    await pipeline(body, createWriteStream(file));
    expect((await stat(file)).size).toBeGreaterThan(1.8 * documents * DOCUMENT_BYTES);
    const verified = await runProgramToEnd(['verify', file], {});
    expect([verified.code, verified.output]).toEqual([0, expect.stringContaining('ok')]);
    const backedUp = await digestsOf(database);

    await change('PUT', filledName(0), '{"changed":true}');
    await change('DELETE', filledName(1));
    await change('PUT', 'added', '{"added":true}');
    const changed = await digestsOf(database);
    const expected = { added: 1, changed: 1, removed: 1, unchanged: documents - 2 };
    expect((await restore(true)).documents).toMatchObject(expected);
    expect(await digestsOf(database)).toEqual(changed);
    expect((await restore(false)).documents).toMatchObject(expected);
    expect(await digestsOf(database)).toEqual(backedUp);
    await client.undo({});
    expect(await digestsOf(database)).toEqual(changed);
    expect(await client.verifyAudit()).toMatchObject({ ok: true });
  } finally {
    await client.close();
    await node.stop();
    await database.drop();
    await rm(directory, { recursive: true, force: true });
  }
});

async function digestsOf({ pool }: TestDatabase): Promise<unknown[]> {
  const text = `select name, encode(sha256, 'hex') as sha256 from loom_document where state_key = 'default' order by name`;
  return (await pool.query(text)).rows;
}
