import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rounds, seededRandom, seedLabel } from '../../setup/depth.ts';
import { type Edit, edits, type Named, type Rows, readRows } from '../../setup/faults/edits.ts';
import { entryEdits } from '../../setup/faults/entry-edits.ts';
import { asSuperuser } from '../../setup/faults/superuser.ts';
import { asAdmin, createTestServer, json, mergePatch, type TestServer } from '../../setup/node/http.ts';
import { digestTables } from '../../setup/server/digest.ts';

const CASES = rounds({ quick: 12, full: 200 });
const statement = await readFile(new URL('../../../docs/verify-chain.sql', import.meta.url), 'utf8');

const tables: Record<string, string> = {
  loom_state: '*',
  loom_audit: '*',
  loom_change: '*',
  loom_document: 'state_key, name, value, revision, updated_at',
  loom_snapshot: '*',
  loom_snapshot_document: '*',
  loom_snapshot_audit: '*',
};

let server: TestServer;
let rows: Rows;
let whole: string;
beforeAll(async () => {
  server = await createTestServer();
  await makeHistory();
  rows = await readRows(server.pool);
  for (const [table, columns] of Object.entries(tables)) {
    await server.pool.query(`create table kept_${table} as select ${columns} from ${table}`);
  }
  whole = await digestTables(server.pool, 'default');
});
afterAll(() => server.close());

async function send(method: 'PUT' | 'PATCH' | 'DELETE' | 'POST', url: string, value?: unknown): Promise<void> {
  const type = method === 'PATCH' ? mergePatch : json;
  const body = value === undefined ? {} : { body: JSON.stringify(value) };
  const answer = await server.request(method, url, { headers: { ...asAdmin, ...type }, ...body });
  expect([method, url, answer.status < 300 ? 'made' : answer.text]).toEqual([method, url, 'made']);
}

/** Makes entries and undo records of every kind: commits, restores with recorded changes, removed entries, an undo. */
async function makeHistory(): Promise<void> {
  const document = (name: string): string => `/v1/documents/${encodeURIComponent(name)}`;
  const restore = async (members: Record<string, unknown>): Promise<void> =>
    send('POST', '/v1/admin/persistence/restore', { confirm: 'restore', ...members });
  const backup = async (): Promise<unknown> =>
    (await server.request('GET', '/v1/admin/persistence/backup', { headers: asAdmin })).json();
  for (let index = 0; index < 8; index += 1) await send('PUT', document(`doc-${index % 5}`), { index, odd: 'é"\\🧵' });
  for (const name of ['doc-1', 'doc-2', 'new'])
    await send('PATCH', document(name), { added: [1e21, null], n: { m: 1 } });
  await send('PATCH', document('doc-1'), { n: { m: null, o: name63 } });
  await send('DELETE', document('doc-3'));
  const early = await backup();
  await send('PATCH', '/v1/state', { 'doc-0': null, both: { a: 1 }, 'doc-2': { index: 77 } });
  await send('PUT', document('doc-4'), 'replaced');
  await restore({ backup: early });
  await send('PUT', document('after'), [1, 2, 3]);
  await restore({ backup: early, truncate_audit: true });
  await send('PATCH', document('new'), { later: true });
  await send('PATCH', document('doc-1'), { later: 7 });
  await send('POST', '/v1/admin/persistence/undo', { confirm: 'undo' });
  await send('DELETE', document('new'));
  await send('PUT', document('last'), { of: 'all' });
}

const name63 = 'x'.repeat(63);

const putBack = (): Promise<void> =>
  asSuperuser(server.pool, async (client) => {
    for (const [table, columns] of Object.entries(tables)) {
      const into = columns === '*' ? table : `${table} (${columns})`;
      await client.query(`delete from ${table}; insert into ${into} select * from kept_${table}`);
    }
  });

interface Verdict {
  ok: boolean;
  first_bad_seq: number | null;
  mismatches?: { reason: string; document?: string; seq?: number; event_id?: string; detail: string }[];
}

/** Returns what HTTP and the SQL file say. */
async function judge(): Promise<Record<'http' | 'sql', Verdict>> {
  const answer = await server.request('GET', '/v1/audit/verify', { headers: asAdmin });
  expect(answer.status).toBe(200);
  const { rows: found } = await server.pool.query<{ verdict: Verdict }>(
    `select to_jsonb(v) as verdict from (${statement.replace(/;\s*$/, '')}) v`,
  );
  expect(found).toHaveLength(1);
  const [{ verdict: sql } = {}] = found;
  if (sql === undefined) throw new Error('the statement returns one row');
  return { http: answer.json() as Verdict, sql };
}

/** Returns whether a verdict names the edit. A chain has one first bad entry, so another edit may have come before. */
function names(
  { ok, first_bad_seq: badSeq, mismatches = [] }: Verdict,
  { reason, document, seq, event_id: eventId, detail }: Named,
): boolean {
  if (ok) return false;
  if (reason === 'chain') return badSeq === seq;
  return mismatches.some(
    (one) =>
      one.reason === reason &&
      (document === undefined || one.document === document) &&
      (seq === undefined || one.seq === seq) &&
      (eventId === undefined || one.event_id === eventId) &&
      (detail === undefined || one.detail.includes(detail)),
  );
}

function draw(index: number): Edit[] {
  const random = seededRandom(`superuser edits ${index}`);
  const kinds = Object.values({ ...edits, ...entryEdits });
  const first = (kinds[index % kinds.length] ?? random.pick(kinds))(rows, random);
  if (index % 2 === 0) return [first];
  for (;;) {
    const second = random.pick(kinds)(rows, random);
    if (!second.targets.some((target) => first.targets.includes(target))) return [first, second];
  }
}

describe('edits of a superuser', () => {
  it('are none after a history with restores and an undo', async () => {
    const { http, sql } = await judge();
    expect(http).toMatchObject({ ok: true, told_from_seq: 1, untold_documents: 0 });
    expect(sql).toMatchObject({ ok: true, mismatches: [], told_from_seq: 1, untold_documents: 0 });
    expect(new Set(rows.changes.map(({ op }) => op))).toEqual(new Set(['put', 'merge', 'delete']));
    expect(rows.records.some(({ audit_entries: kept }) => kept > 0)).toBe(true);
  });

  it(`are each found and named in ${CASES} random cases, alone and in pairs, by HTTP and by the SQL file`, async () => {
    const offset = CASES < 100 ? seededRandom('superuser edits').integer(0, 199) : 0;
    for (let index = offset; index < offset + CASES; index += 1) {
      const made = draw(index);
      await asSuperuser(server.pool, async (client) => {
        for (const edit of made) await edit.run(client);
      });
      const verdicts = await judge();
      for (const { what, named } of made) {
        for (const one of named) {
          for (const by of ['http', 'sql'] as const) {
            const label = `${seedLabel}: case ${index} ${made.map((edit) => edit.what).join(' AND ')}: ${what}, by ${by}`;
            expect(names(verdicts[by], one), `${label} ${JSON.stringify(verdicts[by])}`).toBe(true);
          }
        }
      }
      await putBack();
    }
    expect(await digestTables(server.pool, 'default')).toBe(whole);
    const { http, sql } = await judge();
    expect([http.ok, sql.ok]).toEqual([true, true]);
  }, 300_000);
});
