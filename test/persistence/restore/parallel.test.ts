import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import type { CommitReceipt } from '../../../src/domain/commit.ts';
import { rebuildIndex } from '../../../src/persistence/audit/rebuild.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import type { ParsedBackup } from '../../setup/backup/chain.ts';
import { rounds } from '../../setup/depth.ts';
import { expectTrailMakesState } from '../../setup/node/fold.ts';
import { asAdmin, type BareServer, createBareServer, inject, json, testConfig } from '../../setup/node/http.ts';
import { openNodes, outcomeOf, type TestNodes, tally } from '../../setup/node/nodes.ts';
import { type TestStore, verify } from '../../setup/node/store.ts';

const NODES = 3;
let nodes: TestNodes;

beforeEach(async () => {
  nodes = await openNodes(NODES);
});
afterEach(() => nodes.close());

/** Makes two backups of the same history that share some document names but no document. */
async function makeBackups(): Promise<Record<'earlier' | 'later', { text: string; parsed: ParsedBackup }>> {
  const { node } = nodes;
  const put = (text: string, from: number) =>
    node.commit({
      action: 'state.put',
      changes: Array.from({ length: 200 }, (_, index) => ({
        op: 'put',
        name: `document-${from + index}`,
        json: JSON.stringify({ text, index }),
      })),
    });
  await put('first', 0);
  const earlier = await node.backup();
  await put('second', 50);
  const later = await node.backup();
  const both = (text: string) => ({ text, parsed: JSON.parse(text) as ParsedBackup });
  return { earlier: both(earlier), later: both(later) };
}

async function assertVerified(text: string): Promise<void> {
  async function* open() {
    yield Buffer.from(text);
  }
  await verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION });
}

interface Entry {
  seq: number;
  hash: string;
  event_id: string;
  action: string;
  changes: { op: string; name: string; value?: unknown }[];
  restore?: { previous_head: { seq: number; hash: string }; backup: { state_sha256: string } };
}

const entriesOf = (backup: ParsedBackup): Entry[] => backup.audit_entries as unknown as Entry[];

/**
 * Rebuilds the state from the trail: the documents of the backup that the last restore names, then the commits after
 * it. A torn state, half of one backup and half of another, would differ from it.
 */
function stateByTrail(entries: Entry[], known: ParsedBackup[]): Record<string, unknown> {
  const at = entries.findLastIndex((entry) => entry.restore !== undefined);
  const restored = entries[at]?.restore?.backup.state_sha256;
  const base = known.find((backup) => backup.manifest.state_sha256 === restored);
  if (base === undefined) throw new Error('the trail names no restore of a known backup');
  const state = new Map(Object.entries(base.state));
  for (const { changes } of entries.slice(at + 1)) {
    for (const { name, value } of changes) state.set(name, value);
  }
  return Object.fromEntries(state);
}

/** Begins a restore whose body stops after its first part until `finish` is called. */
async function beginRestore(node: TestStore, text: string): Promise<{ finish(): Promise<unknown> }> {
  const body = new PassThrough();
  const done = node.restoreBody(body);
  done.catch(() => undefined);
  body.write(`{"confirm":"restore","backup":${text.slice(0, 1_000)}`);
  await expect.poll(locksHeld, { interval: 10, timeout: 10_000 }).toBe(1);
  return {
    finish: () => {
      body.end(`${text.slice(1_000)}}`);
      return done;
    },
  };
}

async function locksHeld(): Promise<number> {
  const { rows } = await nodes.database.pool.query<{ held: number }>(
    `select count(*)::int as held from pg_locks
      where locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())`,
  );
  return rows[0]?.held ?? 0;
}

describe('while a restore is in flight', () => {
  let servers: BareServer[];
  beforeEach(() => {
    servers = nodes.nodes.map((node) => createBareServer(node.store, testConfig(nodes.database.url)));
  });
  afterEach(() => Promise.all(servers.map((server) => server.close({ timeoutMs: 1_000 }))));

  const post = (index: number, path: string, body: string) => {
    const server = servers[index % servers.length];
    if (server === undefined) throw new Error('there is no server');
    const url = `/v1/admin/persistence/${path}`;
    return inject(server, { method: 'POST', url, headers: { ...asAdmin, ...json }, body });
  };

  it('each node refuses every other restore, dry run and undo of the state, and reports when the restore began', async () => {
    const { earlier, later } = await makeBackups();
    const beganMs = Date.now();
    const { finish } = await beginRestore(nodes.node, earlier.text);
    const heldMs = Date.now();
    const restore = `{"confirm":"restore","backup":${later.text}}`;
    const requests = [
      ['restore', restore],
      ['restore', restore.replace('{', '{"dry_run":true,')],
      ['undo', '{"confirm":"undo"}'],
    ] as const;
    for (let index = 0; index < NODES; index += 1) {
      for (const [path, body] of requests) {
        const answer = await post(index, path, body);
        expect({ status: answer.status, ...answer.json() }).toMatchObject({ status: 409, code: 'restore_in_progress' });
        const { since, detail } = answer.json();
        expect(detail).toContain(since);
        // Both use the same clock, but PostgreSQL's has a finer resolution.
        expect(Date.parse(since)).toBeGreaterThanOrEqual(beganMs - 1);
        expect(Date.parse(since)).toBeLessThanOrEqual(heldMs + 1);
      }
    }
    // Neither reads nor commits wait for a body to arrive.
    await nodes.at(1).put('meanwhile', 1);
    expect((await nodes.at(2).state()).meanwhile).toBe(1);
    expect(await finish()).toMatchObject({ dry_run: false, documents: { removed: 51 } });
    expect(await nodes.node.state()).toEqual(earlier.parsed.state);
    // The refused requests have left no lock behind.
    expect((await post(1, 'restore', restore)).status).toBe(200);
    expect((await post(2, 'undo', '{"confirm":"undo"}')).status).toBe(200);
    expect(await verify(nodes.node)).toMatchObject({ ok: true, entries: 3 + 3 + 3 });
  });

  it('the index of changes is not rebuilt, and no restore begins while it is rebuilt', async () => {
    const { earlier, later } = await makeBackups();
    const rebuild = () => rebuildIndex(nodes.at(1).database, 'default');
    const { finish } = await beginRestore(nodes.node, earlier.text);
    expect(await outcomeOf(rebuild())).toBe('restore_in_progress');
    await finish();
    const holder = await nodes.database.pool.connect();
    await holder.query(`begin; select from loom_state where state_key = 'default' for no key update`);
    const rebuilding = rebuild();
    rebuilding.catch(() => undefined);
    await expect.poll(locksHeld, { interval: 10, timeout: 10_000 }).toBe(1);
    const refused = await post(2, 'restore', `{"confirm":"restore","backup":${later.text}}`);
    expect(refused.json()).toMatchObject({ code: 'restore_in_progress', detail: expect.stringContaining('reindex') });
    await holder.query('rollback');
    holder.release();
    expect(await rebuilding).toEqual([{ kind: 'state', name: 'default', changes: expect.any(Number) }]);
    await expectTrailMakesState(nodes.node);
  });

  it('a scratch state can be restored, but the same one only once at a time', async () => {
    const { earlier, later } = await makeBackups();
    const { finish } = await beginRestore(nodes.node, earlier.text);
    const scratch = `{"confirm":"restore","into_scratch":"beside","backup":${later.text}}`;
    const statuses = await Promise.all([1, 2].map(async (index) => (await post(index, 'restore', scratch)).status));
    expect(statuses.sort()).toEqual([200, 409]);
    expect(await finish()).toMatchObject({ dry_run: false });
    expect(await nodes.node.state()).toEqual(earlier.parsed.state);
  });
});

describe('restores in a race over three nodes', () => {
  const ROUNDS = rounds({ quick: 2, full: 8 });
  /** A quick run checks fewer backups, of a shorter trail, at as many moments of the restores. */
  const PAUSE_MS = rounds({ quick: 10, full: 0 });

  it('run one at a time, and commits and backups see the state before or after each', async () => {
    const { earlier, later } = await makeBackups();
    await nodes.node.restore(later.text);
    const known = [earlier.parsed, later.parsed];
    let racing = true;
    const whileRacing = async (act: (turn: number) => Promise<void>): Promise<void> => {
      for (let turn = 0; racing; turn += 1) {
        await act(turn);
        await sleep(PAUSE_MS);
      }
    };

    const outcomes: string[] = [];
    /** Returns whether there were successful restores and refused ones, which takes longer on a slow machine. */
    const hasRaced = (): boolean => {
      const { 'restore made': made = 0, 'restore restore_in_progress': refused = 0 } = tally(outcomes);
      return made > 1 && refused > 0;
    };
    const restorers = Array.from({ length: 6 }, async (_, index) => {
      for (let round = 0; round < ROUNDS || !hasRaced(); round += 1) {
        const { text } = (index + round) % 2 === 0 ? earlier : later;
        const dryRun = (index + round) % 5 === 0;
        const outcome = await outcomeOf(nodes.at(index).restore(text, { dry_run: dryRun }));
        outcomes.push(`${dryRun ? 'plan' : 'restore'} ${outcome}`);
        // Let another restore acquire the lock.
        await sleep(index * 3);
      }
    });
    const receipts: CommitReceipt[] = [];
    const writers = nodes.nodes.map((node, index) =>
      whileRacing(async (turn) => void receipts.push(await node.put(`written-${index}-${turn}`, turn))),
    );
    const backups: string[] = [];
    const readers = nodes.nodes.map((node) => whileRacing(async () => void backups.push(await node.backup())));
    await Promise.all(restorers).finally(() => {
      racing = false;
    });
    await Promise.all([...writers, ...readers]);
    backups.push(await nodes.node.backup());

    const counts = tally(outcomes);
    expect(Object.keys(counts).filter((outcome) => !/ (made|restore_in_progress)$/.test(outcome))).toEqual([]);

    for (const text of backups) {
      await assertVerified(text);
      const backup = JSON.parse(text) as ParsedBackup;
      expect(backup.state).toEqual(stateByTrail(entriesOf(backup), known));
    }
    const trail = entriesOf(JSON.parse(backups.at(-1) ?? '') as ParsedBackup);
    const restores = trail.filter((entry) => entry.restore !== undefined);
    // One restore came before the race.
    expect(restores).toHaveLength(1 + (counts['restore made'] ?? 0));
    for (const { seq, restore } of restores) {
      // No commit came between a restore's plan and its entry.
      expect(restore?.previous_head).toEqual({ seq: seq - 1, hash: trail[seq - 2]?.hash });
    }
    const committed = new Set(trail.map((entry) => entry.event_id));
    expect(receipts.length).toBeGreaterThan(10);
    expect(receipts.filter(({ eventId }) => !committed.has(eventId))).toEqual([]);
    expect(trail.filter(({ action }) => action === 'document.put')).toHaveLength(receipts.length);
    for (const node of nodes.nodes) expect(await verify(node)).toMatchObject({ ok: true, entries: trail.length });
    await expectTrailMakesState(nodes.node);
  }, 60_000);
});
