import { createHash, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DocumentHistory, RecordedChange } from '../../src/domain/history.ts';
import { canonicalText } from '../../src/json/canonical.ts';
import { rounds, seededRandom } from '../setup/depth.ts';
import { asAdmin, createTestServer, mergePatch, type TestServer } from '../setup/node/http.ts';
import { mergePatch as applyMergePatch } from '../setup/values/merge-patch.ts';

let server: TestServer;
beforeAll(async () => {
  server = await createTestServer();
});
afterAll(() => server.close());

type Query = Record<string, string | number>;

const pathOf = (name: string): string => `/v1/documents/${encodeURIComponent(name)}`;
const withQuery = (path: string, query: Query): string =>
  `${path}?${Object.entries(query)
    .map(([key, value]) => `${key}=${encodeURIComponent(value)}`)
    .join('&')}`;

async function historyOf(name: string, query: Query = {}): Promise<DocumentHistory> {
  const answer = await server.request('GET', withQuery(`${pathOf(name)}/history`, query));
  expect(answer.status).toBe(200);
  return answer.json();
}

/** Reads the history of a document in pages. */
async function pagesOf(name: string, limit: number, query: Query = {}): Promise<RecordedChange[]> {
  const found: RecordedChange[] = [];
  for (let before: number | null = Number.MAX_SAFE_INTEGER; before !== null; ) {
    const page = await historyOf(name, { ...query, limit, before });
    expect(page.history.length).toBeLessThanOrEqual(limit);
    found.push(...page.history);
    before = page.next;
  }
  return found;
}

/** Reads the seqs of the entries of a document in pages, and compares them with the stream. */
async function auditOf(document: string, query: Query = {}): Promise<number[]> {
  const seqs: number[] = [];
  const side = query.order === 'desc' ? 'before' : 'after';
  for (let next: number | null = query.order === 'desc' ? 1_000_000 : 0; next !== null; ) {
    const page = (
      await server.request('GET', withQuery('/v1/audit', { limit: 7, document, ...query, [side]: next }))
    ).json();
    seqs.push(...page.entries.map(({ seq }: { seq: number }) => seq));
    next = page.next;
  }
  const headers = { accept: 'application/x-ndjson' };
  const stream = await server.request('GET', withQuery('/v1/audit', { document, ...query }), { headers });
  const streamed = stream.text.split('\n').filter((line) => line !== '');
  expect(streamed.map((line) => JSON.parse(line).seq)).toEqual(seqs);
  return seqs;
}

const sha256Of = (value: unknown): string => createHash('sha256').update(canonicalText(value)).digest('hex');

describe('the history of a document', () => {
  test('has who changed it, when, by which event, and with which result, newest first', async () => {
    const body = '{"a":1}';
    const put = (await server.request('PUT', pathOf('prices'), { body })).json();
    await server.request('PUT', pathOf('other'), { body });
    await server.request('PATCH', '/v1/state', { headers: { ...asAdmin, ...mergePatch }, body: '{"prices":{"b":2}}' });
    await server.request('DELETE', pathOf('prices'));
    const { name, history, next } = await historyOf('prices');
    expect({ name, next }).toEqual({ name: 'prices', next: null });
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    const common = { event_id: expect.stringMatching(/^[0-9a-f-]{36}$/), recorded_at: time };
    expect(history).toEqual([
      { ...common, seq: 4, revision: 4, action: 'document.delete', actor: 'client', op: 'delete', sha256: null },
      {
        ...common,
        seq: 3,
        revision: 3,
        action: 'state.patch',
        actor: 'admin',
        op: 'merge',
        sha256: sha256Of({ a: 1, b: 2 }),
      },
      {
        ...common,
        ...{ seq: 1, revision: 1, action: 'document.put', actor: 'client', op: 'put', sha256: sha256Of({ a: 1 }) },
        event_id: put.event_id,
      },
    ]);
    const entries = (await server.request('GET', '/v1/audit?document=prices&order=desc')).json().entries;
    for (const [index, entry] of entries.entries())
      expect(entry).toMatchObject({ recorded_at: history[index]?.recorded_at });
  });

  test('equals a model over random commits, in pages of every size, and so does the trail by document', async () => {
    const random = seededRandom('history');
    const names = ['m/1', 'm 2', 'm/history', 'ü🧵'];
    const values = new Map<string, unknown>();
    const model = new Map<string, { seq: number; op: string; sha256: string | null }[]>(
      names.map((name) => [name, []]),
    );
    const expected = (name: string) => model.get(name) ?? [];
    const { head } = (await server.request('GET', '/v1/audit?limit=1')).json();
    for (let index = 1; index <= rounds({ quick: 15, full: 400 }); index += 1) {
      const patch: Record<string, unknown> = {};
      for (const name of names) {
        if (random.fraction() < 0.5) continue;
        const value = random.pick([
          null,
          { [`k${random.integer(0, 2)}`]: random.integer(0, 9) },
          random.integer(0, 99),
        ]);
        patch[name] = value;
        const isObject = typeof value === 'object' && value !== null;
        if (value === null && !values.delete(name)) continue;
        if (value !== null) values.set(name, isObject ? applyMergePatch(values.get(name), value) : value);
        const sha256 = value === null ? null : sha256Of(values.get(name));
        const op = value === null ? 'delete' : isObject ? 'merge' : 'put';
        expected(name).unshift({ seq: head.seq + index, op, sha256 });
      }
      await server.request('PATCH', '/v1/state', { headers: mergePatch, body: JSON.stringify(patch) });
    }
    for (const name of names) {
      const pages = await pagesOf(name, random.integer(1, 7));
      expect(pages.map(({ seq, op, sha256 }) => ({ seq, op, sha256 }))).toEqual(expected(name));
      expect((await historyOf(name, { limit: 1_000 })).history).toEqual(pages);
      const seqs = expected(name).map(({ seq }) => seq);
      expect(await auditOf(name, { order: 'desc' })).toEqual(seqs);
      expect(await auditOf(name)).toEqual(seqs.toReversed());
      // With fewer than two changes, there is nothing within.
      const { recorded_at: since = '0001-01-01T00:00:00Z' } = pages.at(-2) ?? {};
      const { recorded_at: until = since } = pages[1] ?? {};
      const within = pages.slice(2, -1);
      expect(await pagesOf(name, 3, { since, until })).toEqual(within);
      expect(await auditOf(name, { order: 'desc', since, until })).toEqual(within.map(({ seq }) => seq));
    }
  });

  test('is found for every name, and takes no name from a document', async () => {
    for (const name of ['a', 'a/history', 'history', 'history/history', '%2Fhistory', '.history', '...']) {
      const put = await server.request('PUT', pathOf(name), { body: JSON.stringify(name) });
      expect(put.status).toBe(201);
      expect((await server.request('GET', pathOf(name))).json()).toBe(name);
      expect(await historyOf(name)).toMatchObject({ name, history: [{ event_id: put.json().event_id, op: 'put' }] });
    }
    const unencoded = await server.request('PUT', '/v1/documents/a/history', { body: '1' });
    expect(unencoded.status).toBe(405);
    expect(unencoded.headers.allow).toBe('GET, HEAD');
    expect(unencoded.json().detail).toContain('/v1/documents/a%2Fhistory');
  });

  test('of a document that the trail never knew, or of an invalid name, is refused', async () => {
    const unknown = await server.request('GET', '/v1/documents/never/history');
    expect(unknown.status).toBe(404);
    expect(unknown.json()).toMatchObject({ code: 'document_not_found', document: 'never' });
    const invalid = await server.request('GET', '/v1/documents//history');
    expect([invalid.status, invalid.json().code]).toEqual([422, 'invalid_document_name']);
    // Of a known document, a selection may be empty.
    await server.request('PUT', pathOf('known'), { body: '1' });
    expect(await historyOf('known', { until: '2001-01-01T00:00:00Z' })).toEqual({
      name: 'known',
      history: [],
      next: null,
    });
    expect(await historyOf('known', { before: 0 })).toEqual({ name: 'known', history: [], next: null });
  });

  test('needs a token, and answers HEAD', async () => {
    const inject = (headers: Record<string, string>) =>
      server.app.inject({ url: '/v1/documents/prices/history', headers });
    expect((await inject({})).statusCode).toBe(401);
    expect((await inject({ authorization: 'Bearer wrong-token-of-the-tests' })).statusCode).toBe(403);
    const head = await server.request('HEAD', '/v1/documents/prices/history');
    expect([head.status, head.text]).toEqual([200, '']);
  });

  test('has a restore by a node of an earlier version, which may have changed it', async () => {
    await server.request('PUT', pathOf('listed'), { body: '1' });
    const { entries } = (await server.request('GET', '/v1/audit?limit=1&order=desc')).json();
    const eventId = randomUUID();
    const restored = (names: string[], changed: number) => ({
      documents: { added: 0, changed, removed: 0 },
      document_names: { added: [], changed: names, removed: [] },
      replaced_state: true,
    });
    const append = (id: string, restore: object) =>
      server.pool.query(
        `with head as (select audit_seq, audit_hash, clock_timestamp() as now from loom_state where state_key = 'default'), entry as (
           select audit_seq + 1 as seq, audit_hash, now, jsonb_build_object('seq', audit_seq + 1, 'event_id', $1::text,
                    'recorded_at', to_char(now at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'action', 'restore',
                    'actor', 'admin', 'revision', 1000 + audit_seq, 'changes', '[]'::jsonb, 'restore', $2::jsonb) as entry
             from head)
         insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
         select 'default', seq, $1::uuid, now, 'restore', entry, loom_chain_hash(audit_hash, entry) from entry`,
        [id, JSON.stringify(restore)],
      );
    await append(eventId, restored(['listed'], 1));
    const seq = entries[0].seq + 1;
    const [change] = (await historyOf('listed', { limit: 1 })).history;
    expect(change).toMatchObject({
      seq,
      revision: 999 + seq,
      event_id: eventId,
      action: 'restore',
      op: 'unknown',
      sha256: null,
    });
    expect((await historyOf('listed', { before: seq })).history).toMatchObject([{ op: 'put' }]);
    expect((await historyOf('known')).history.map(({ op }) => op)).toEqual(['put']);
    expect(await auditOf('listed')).toEqual([seq - 1, seq]);
    expect(await auditOf('listed', { action: 'restore' })).toEqual([seq]);
    expect((await server.request('GET', '/v1/documents/never/history')).status).toBe(404);
    await server.pool.query(`update loom_state s set audit_seq = a.seq, audit_hash = a.hash from loom_audit a
      where s.state_key = 'default' and a.state_key = s.state_key and a.seq = ${seq}`);
    // It lists fewer names than it changed documents, and its undo record is gone.
    await append(randomUUID(), restored(['x'], 2));
    expect((await historyOf('known')).history.map(({ op }) => op)).toEqual(['unknown', 'put']);
    expect((await auditOf('known')).at(-1)).toBe(seq + 1);
  });
});

describe('the times of a selection', () => {
  test('select the entries from since up to but excluding until, also where the clock was set back', async () => {
    const trail = async (query: Query): Promise<number[]> => {
      const read = async (order: 'asc' | 'desc') =>
        (await server.request('GET', withQuery('/v1/audit', { limit: 1_000, order, ...query }))).json().entries;
      const seqs = (await read('asc')).map(({ seq }: { seq: number }) => seq);
      expect((await read('desc')).map(({ seq }: { seq: number }) => seq).reverse()).toEqual(seqs);
      return seqs;
    };
    const { entries } = (await server.request('GET', '/v1/audit?limit=1000')).json() as { entries: RecordedChange[] };
    const at = (index: number): string => entries[index]?.recorded_at ?? '';
    const seqsOf = (list: RecordedChange[]): number[] => list.map(({ seq }) => seq);
    const middle = Math.floor(entries.length / 2);
    expect(await trail({ since: at(middle) })).toEqual(seqsOf(entries.slice(middle)));
    expect(await trail({ until: at(middle) })).toEqual(seqsOf(entries.slice(0, middle)));
    expect(await trail({ since: at(2), until: at(6), action: 'document.put' })).toEqual(
      seqsOf(entries.slice(2, 6).filter(({ action }) => action === 'document.put')),
    );
    expect(await trail({ since: at(3), until: at(8), after: 5, before: 8 })).toEqual([6, 7]);
    expect(await trail({ since: at(6), until: at(2) })).toEqual([]);
    expect(await trail({ since: '9999-12-31T23:59:59.999999Z' })).toEqual([]);
    expect(await trail({ until: '0001-01-01T00:00:00Z' })).toEqual([]);
    const shifted = new Date(Date.parse(`${at(4).slice(0, 19)}Z`) + 3_600_000).toISOString().slice(0, 19);
    expect(await trail({ since: `${shifted}${at(4).slice(19, -1)}+01:00` })).toEqual(seqsOf(entries.slice(4)));

    // The clock was five minutes ahead for one entry, and the entries after it have earlier times.
    await server.pool.query(`begin; set local session_replication_role = replica;
      update loom_audit set recorded_at = recorded_at + interval '5 minutes' where seq = 5; commit`);
    expect(await trail({ since: at(middle) })).toEqual([5, ...seqsOf(entries.slice(middle))]);
    expect(await trail({ until: at(middle) })).toEqual(seqsOf(entries.slice(0, middle)).filter((seq) => seq !== 5));
  });

  test.each([
    'yesterday',
    '',
    '2026-02-30T00:00:00Z',
    '2026-11-25',
    '2026-11-25T10:00:00',
    '2026-11-25T10:00:00 01:00',
    '1764000000',
    '10000-01-01T00:00:00Z',
    '2026-11-25T25:00:00Z',
    "2026-11-25T10:00:00Z'",
    '0000-01-01T00:00:00Z',
    '0001-01-01T00:00:00+00:01',
    '9999-12-31T23:59:59-01:00',
  ])('are refused in another form, or outside of the years 0001 to 9999: %j', async (time) => {
    for (const url of ['/v1/audit', '/v1/documents/prices/history']) {
      for (const name of ['since', 'until']) {
        const refused = await server.request('GET', withQuery(url, { [name]: time }));
        expect([refused.status, refused.json().code]).toEqual([400, 'invalid_parameter']);
        expect(refused.json().detail).toContain(name);
        expect(refused.json().detail).toMatch(/RFC 3339 .* years 0001 to 9999/);
      }
    }
  });
});
