import { text } from 'node:stream/consumers';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { rounds } from '../../setup/depth.ts';
import { openNodes, outcomeOf, type TestNodes } from '../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';

const context = () => ({ requestId: 'test', signal: new AbortController().signal });

let nodes: TestNodes;
let node: TestStore;
beforeEach(async () => {
  nodes = await openNodes(2);
  node = nodes.node;
});
afterEach(() => nodes.close());

interface Readers {
  /** Whether a reader has just disconnected, so that its connection may still be closing. */
  haveLeft?: boolean;
}

/** Expects every connection of the pool to answer at the same time without waiting. */
async function expectPoolServes(of: TestStore, { haveLeft = false }: Readers = {}): Promise<void> {
  const max = of.store.observe().pool.max;
  await Promise.all(Array.from({ length: max }, () => of.database.execute('select pg_sleep(0.01)')));
  expect(of.store.observe().pool.total).toBeLessThanOrEqual(max);
  const lent = () => {
    const { total, idle, waiting } = of.store.observe().pool;
    return { lent: total - idle, waiting };
  };
  if (haveLeft) await expect.poll(lent).toEqual({ lent: 0, waiting: 0 });
  expect(lent()).toEqual({ lent: 0, waiting: 0 });
}

/** Puts documents that are larger than all buffers between PostgreSQL and the reader. */
async function fillWithLargeDocuments(): Promise<void> {
  await nodes.database.pool.query(
    `insert into loom_document (state_key, name, value, revision)
     select 'default', 'large-' || i, to_jsonb(repeat(md5(i::text), 32 * 1024)), 1 from generate_series(1, 24) i`,
  );
  await nodes.database.pool.query(
    `update loom_state set revision = 1, documents = 24,
            bytes = (select sum(bytes) from loom_document where state_key = 'default') where state_key = 'default'`,
  );
}

const BACKUPS = rounds({ quick: 5, full: 200 });
/** A multiple of ten: two ways to disconnect at each of five moments. */
const READERS = rounds({ quick: 5, full: 50 });

describe('a backup', () => {
  it(`is never torn: ${BACKUPS} of them under commits of two documents at once by two nodes`, async () => {
    let stop = false;
    let commits = 0;
    const writers = nodes.nodes.map(async (writer) => {
      while (!stop) {
        commits += 1;
        const json = JSON.stringify({ commits, padding: 'x'.repeat(commits % 500) });
        await writer.commit({
          action: 'state.patch',
          changes: [
            { op: 'put', name: 'left', json },
            { op: 'put', name: 'right', json },
          ],
        });
        // Keep the trail short enough for the test.
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    });
    const revisions = new Set<number>();
    try {
      // A fast machine takes several backups of one revision, which show nothing.
      for (let taken = 0; taken < BACKUPS || revisions.size < 5; taken += 1) {
        const from = nodes.at(taken);
        const backup = JSON.parse(await from.backup(taken % 10 === 0 ? {} : { auditLimit: 2 }));
        expect(backup.state.left).toEqual(backup.state.right);
        expect(backup.revision).toBe(backup.manifest.audit_head.seq);
        expect(backup.manifest).toMatchObject({ audit_verified: true });
        expect(backup.audit_entries.at(-1)?.seq ?? 0).toBe(backup.revision);
        expect(backup.audit_entries.at(-1)?.changes[0].value).toEqual(backup.state.left);
        revisions.add(backup.revision);
      }
    } finally {
      stop = true;
      await Promise.all(writers);
    }
    expect(await verify(node)).toMatchObject({ ok: true, entries: commits });
  });

  it(`whose reader disconnects, ${READERS} times, leaves the pool complete`, async () => {
    await fillWithLargeDocuments();
    for (let round = 0; round < READERS; round += 1) {
      const abort = new AbortController();
      const { body } = await node.store.openBackup({ includeAudit: true }, { requestId: 'test', signal: abort.signal });
      body.on('error', () => undefined);
      const closed = new Promise((resolve) => body.once('close', resolve));
      if (round % 5 > 0) await new Promise((resolve) => body.once('data', resolve));
      if (round % 2 === 0) body.destroy();
      else abort.abort();
      await closed;
      if (round % 10 === 9) await expectPoolServes(node, { haveLeft: true });
    }
    await expect.poll(() => node.store.observe().operations).toEqual([]);
    await expectPoolServes(node, { haveLeft: true });
    // No server process still writes to a disconnected reader.
    await expect
      .poll(
        async () => {
          const { rows } = await nodes.database.pool.query(
            `select count(*)::int as busy from pg_stat_activity
              where datname = current_database() and state <> 'idle' and pid <> pg_backend_pid()`,
          );
          return rows[0].busy;
        },
        { timeout: 10_000 },
      )
      .toBe(0);
    expect(JSON.parse(await node.backup()).manifest.documents).toBe(24);
  });

  it('tells its header at once, and its manifest when it has ended', async () => {
    await node.put('a', 1);
    const { header, body, manifest } = await node.store.openBackup({ includeAudit: true }, context());
    expect(manifest()).toBeUndefined();
    const { manifest: written, ...members } = JSON.parse(await text(body));
    expect(manifest()).toEqual(written);
    expect(members).toMatchObject(header);
    expect(header.revision).toBe(1);
  });

  it('delays no commit, however slowly it is read', async () => {
    await fillWithLargeDocuments();
    const { body } = await node.store.openBackup({ includeAudit: false }, context());
    for (let index = 0; index < 20; index += 1) await nodes.at(1).put(`meanwhile-${index}`, index);
    expect(node.store.observe().operations).toMatchObject([{ kind: 'backup', request_id: 'test' }]);
    const chunks: Buffer[] = [];
    for await (const chunk of body) chunks.push(chunk);
    const backup = JSON.parse(Buffer.concat(chunks).toString());
    expect(Object.keys(backup.state).filter((name) => name.startsWith('meanwhile'))).toEqual([]);
    await nextTurn();
    expect(node.store.observe().operations).toEqual([]);
  });

  it('that cannot begin is refused, and does not affect later ones', async () => {
    const away = await openTestStore(nodes.database.url, { poolMax: 1 });
    await away.database.close({ deadlineMs: 1_000 });
    expect(await outcomeOf(away.store.openBackup({ includeAudit: true }, context()))).toBe('database_unavailable');
    expect(await outcomeOf(away.store.openState())).toBe('database_unavailable');
    const signal = AbortSignal.abort();
    expect(await outcomeOf(node.store.openBackup({ includeAudit: true }, { requestId: 'test', signal }))).not.toBe(
      'made',
    );
    await nextTurn();
    await expectPoolServes(node);
  });

  it('whose connection breaks midway fails, and does not look complete', async () => {
    await fillWithLargeDocuments();
    const { body } = await node.store.openBackup({ includeAudit: true }, context());
    const terminate = () =>
      nodes.database.pool.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and query like 'copy %' and pid <> pg_backend_pid()`,
      );
    await expect.poll(async () => (await terminate()).rowCount, { timeout: 10_000 }).toBe(1);
    const chunks: Buffer[] = [];
    const read = (async () => {
      for await (const chunk of body) chunks.push(chunk);
    })();
    expect(await outcomeOf(read)).toBe('database_unavailable');
    expect(Buffer.concat(chunks).toString()).not.toContain('"manifest"');
    await expectPoolServes(node);
  });
});

describe('a chain that is broken', () => {
  const spoil = (statement: string) =>
    nodes.database.pool.query(`begin; alter table loom_audit disable trigger user; ${statement};
      alter table loom_audit enable trigger user; commit`);

  it.each([
    ['edited', `update loom_audit set entry = entry || '{"actor":"x"}' where seq = 3`, {}, 6],
    ['without an entry', 'delete from loom_audit where seq = 3', {}, 5],
    ['cut off', 'delete from loom_audit where seq = 6', {}, 5],
    ['without the entry before the first', 'delete from loom_audit where seq = 3', { auditLimit: 3 }, 3],
  ])('is still exported, marked as broken: %s', async (_what, statement, options, entries) => {
    for (let index = 0; index < 6; index += 1) await node.put('a', index);
    await spoil(statement);
    const text = await node.backup(options);
    const backup = JSON.parse(text);
    expect(backup.state).toEqual({ a: 5 });
    expect(backup.audit_entries).toHaveLength(entries);
    expect(backup.manifest).toMatchObject({ audit_verified: false, audit_entries: entries, audit_head: { seq: 6 } });
    expect(await outcomeOf(node.restore(text))).toMatch(/^(?:backup_chain_broken|audit_diverged)$/);
  });
});

describe('the text of a backup', () => {
  const reformats: [string, (value: unknown) => string][] = [
    ['through JSON.parse and JSON.stringify', (value) => JSON.stringify(value)],
    ['indented, as jq . does', (value) => `${JSON.stringify(value, null, 2)}\n`],
    ['indented by tabs', (value) => JSON.stringify(value, null, '\t')],
    [
      'with sorted members, as jq -S does',
      (value) =>
        JSON.stringify(
          ordered(value, (names) => names.sort()),
          null,
          2,
        ),
    ],
    ['with reversed members', (value) => JSON.stringify(ordered(value, (names) => names.reverse()))],
    ['in ASCII', (value) => JSON.stringify(value).replaceAll(/[\u007f-\uffff]/g, escapeUnit)],
  ];

  it.each(reformats)('restores as verified when it was rewritten %s', async (_how, reformat) => {
    await node.put('a', { é: '🧵', nested: { b: [1, 2.5, 1e21, null], a: '\u007f' } });
    await node.commit({ changes: [{ op: 'put', name: '__proto__', json: '{"__proto__":{"x":1},"b":[],"a":{}}' }] });
    await node.put('10', 1);
    const before = await node.state();
    const text = reformat(JSON.parse(await node.backup()));
    await node.put('later', 1);
    const report = await node.restoreBody(`{"backup":${text},"confirm":"restore"}`);
    expect(report).toMatchObject({ verified: true, documents: { removed: 1, changed: 0, added: 0, unchanged: 3 } });
    expect(await node.state()).toEqual(before);
    expect(await verify(node)).toMatchObject({ ok: true });
  });

  function escapeUnit(unit: string): string {
    return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
  }

  function ordered(value: unknown, order: (names: string[]) => string[]): unknown {
    if (Array.isArray(value)) return value.map((element) => ordered(element, order));
    if (typeof value !== 'object' || value === null) return value;
    const result = {};
    for (const name of order(Object.keys(value))) {
      const member = ordered(Reflect.get(value, name), order);
      Object.defineProperty(result, name, { value: member, enumerable: true });
    }
    return result;
  }
});
