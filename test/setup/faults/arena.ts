// Room `faults`: faults that must not harm LOOM. `arena.ts` kills nodes and server processes; `tamper.ts` edits rows.

import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { createLogger } from '../../../src/log.ts';
import { startNode } from '../../../src/node.ts';
import type { ParsedBackup } from '../backup/chain.ts';
import { rounds } from '../depth.ts';
import { ADMIN_TOKEN, asAdmin, testConfig } from '../node/http.ts';
import { startProgram } from '../node/program.ts';
import { openTestStore, type TestStore } from '../node/store.ts';
import { openTolerantPool } from '../server/database.ts';
import { digestTables } from '../server/digest.ts';
import { applyMigrations } from '../server/migrations.ts';
import { startPrivateServer } from '../server/private-server.ts';

interface Counts {
  documents: number;
  bytes: number;
  head: Sight['head'];
}

/** The content of a database, read without a node. */
export interface Sight {
  /** Covers every row of every table. */
  digest: string;
  stateSha256: string;
  revision: number;
  epoch: string;
  head: { seq: number; hash: string };
  /** Counts and head in the state row (`recorded`) and in the other tables (`stored`). */
  recorded: Counts;
  stored: Counts;
  /** The last entry that is not one of the changes of a restore or undo, and the number of those after it. */
  lastEntry: {
    action: string;
    restore?: { previous_head: unknown; previous_revision: number; backup: { state_sha256: string } };
  };
  changesEntries: number;
}

/** A node on the arena's database. `name` is its `application_name` in PostgreSQL. */
export interface ArenaNode {
  name: string;
  url: string;
  /** Sends SIGKILL to a node in a process of its own; closes any other node gracefully. May be called twice. */
  end(): Promise<void>;
}

export interface Arena {
  /** Two backups of the same history. `later` has one more entry than `earlier`, and nearly all documents differ. */
  earlier: ParsedBackup;
  later: ParsedBackup;
  /** `process` starts the real program, which can be killed. `here` uses this process and takes a tenth of the time. */
  startNode(where: 'process' | 'here'): Promise<ArenaNode>;
  look(): Promise<Sight>;
  /** Returns the ids of the server processes that serve this node. One in a transaction comes first. */
  backendsOf(node: ArenaNode): Promise<number[]>;
  /** Resolves when no server process works for this node. Each of its transactions has committed or rolled back. */
  backendsGone(node: ArenaNode): Promise<void>;
  /** Watches for a crash of the server. `over` resolves when the server has restarted all its processes. */
  watchCrash(): Promise<{ over(): Promise<void> }>;
  close(): Promise<void>;
}

/** At full depth, an operation takes long enough for kills at many moments. A quick run kills before and after it. */
const DOCUMENTS = rounds({ quick: 150, full: 600 });
const ENTRIES = rounds({ quick: 30, full: 120 });

/** Starts a private server with a history, on which a test can kill nodes and server processes. */
export async function openArena(): Promise<Arena> {
  const server = await startPrivateServer();
  const observer = openTolerantPool({ connectionString: server.url, max: 3 });
  await applyMigrations(server.url);
  const { earlier, later } = await makeHistory(server.url);
  const begun: Promise<ArenaNode>[] = [];
  const start = async (where: 'process' | 'here'): Promise<ArenaNode> => {
    const name = `loom-${begun.length + 1}`;
    const url = `${server.url}?application_name=${name}`;
    const opened = where === 'process' ? await startProcess(url) : await startHere(url);
    return { name, ...opened };
  };
  const sessionsOf = async ({ name }: ArenaNode): Promise<{ pid: number; state: string | null }[]> => {
    const { rows } = await observer.query<{ pid: number; state: string | null }>(
      `select pid, state from pg_stat_activity where application_name = $1 and backend_type = 'client backend'
        order by xact_start nulls last, backend_start`,
      [name],
    );
    return rows;
  };
  return {
    earlier,
    later,
    startNode: (where) => {
      const node = start(where);
      begun.push(node);
      return node;
    },
    look: () => look(observer),
    backendsOf: async (node) => (await sessionsOf(node)).map(({ pid }) => pid),
    backendsGone: async (node) => {
      // A pooler keeps idle sessions of a node that is gone.
      await waitFor(async () => (await sessionsOf(node)).every(({ state }) => state === 'idle'));
    },
    watchCrash: async () => {
      const witness = new pg.Client({ connectionString: server.url });
      witness.on('error', () => undefined);
      await witness.connect();
      // After a crash, PostgreSQL ends all its processes before it starts new ones.
      const ended = new Promise((resolve) => witness.once('end', resolve));
      return { over: () => ended.then(() => waitFor(() => answers(server.url))) };
    },
    close: async () => {
      const nodes = await Promise.allSettled(begun);
      await Promise.all(nodes.map((node) => (node.status === 'fulfilled' ? node.value.end() : undefined)));
      await observer.end();
      await server.stop();
    },
  };
}

async function startProcess(databaseUrl: string): Promise<Omit<ArenaNode, 'name'>> {
  const program = await startProgram({ env: { LOOM_PG_URL: databaseUrl, LOOM_ADMIN_TOKEN: ADMIN_TOKEN } });
  return { url: program.url, end: program.kill };
}

async function startHere(databaseUrl: string): Promise<Omit<ArenaNode, 'name'>> {
  const node = await startNode(testConfig(databaseUrl), { log: createLogger({ level: 'silent' }) });
  return { url: node.url, end: node.close };
}

/** A full run polls often, because it waits hundreds of times. A quick run polls less often to use less CPU time. */
const POLL_MS = rounds({ quick: 25, full: 5 });

async function waitFor(isDone: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await isDone())) {
    if (Date.now() > deadline) throw new Error('The condition did not become true within 60 s.');
    await sleep(POLL_MS);
  }
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('select 1');
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Waits until the node is ready, as it must be after any crash, and returns its verdict on the chain. */
export async function readyAndVerified(node: ArenaNode): Promise<{ ok: boolean; head: Sight['head'] }> {
  await waitFor(async () => (await fetch(`${node.url}/ready`)).status === 200);
  const answer = await fetch(`${node.url}/v1/audit/verify`, { headers: asAdmin });
  return (await answer.json()) as { ok: boolean; head: Sight['head'] };
}

async function makeHistory(url: string): Promise<{ earlier: ParsedBackup; later: ParsedBackup }> {
  const node = await openTestStore(url);
  try {
    const many = DOCUMENTS / ENTRIES;
    await Promise.all(
      Array.from({ length: ENTRIES }, (_, entry) => put(node, 'state.patch', 'first', entry * many, many)),
    );
    const earlier = JSON.parse(await node.backup()) as ParsedBackup;
    await put(node, 'state.put', 'second', 20, DOCUMENTS);
    return { earlier, later: JSON.parse(await node.backup()) as ParsedBackup };
  } finally {
    await node.close();
  }
}

function put(node: TestStore, action: 'state.patch' | 'state.put', text: string, from: number, count: number) {
  const changes = Array.from({ length: count }, (_, index) => {
    const json = JSON.stringify({ n: from + index, text: `${text} `.repeat(20) });
    return { op: action === 'state.put' ? 'put' : 'merge', name: `document-${from + index}`, json } as const;
  });
  return node.commit({ action, changes });
}

async function look(pool: pg.Pool): Promise<Sight> {
  const [digest, { rows }] = await Promise.all([
    digestTables(pool),
    pool.query<Omit<Sight, 'digest'>>(
      `select s.revision::int, s.epoch, d."stateSha256", l.entry as "lastEntry",
              (a.seq - l.seq)::int as "changesEntries",
              h.recorded as head,
              jsonb_build_object('documents', s.documents, 'bytes', s.bytes, 'head', h.recorded) as recorded,
              jsonb_build_object('documents', d.count, 'bytes', d.bytes, 'head', h.stored) as stored
         from loom_state s,
              (select count(*), sum(bytes) as bytes,
                      encode(sha256(string_agg(sha256(convert_to(name, 'UTF8')) || sha256, ''::bytea order by name)), 'hex') as "stateSha256"
                 from loom_document where state_key = 'default') d,
              (select * from loom_audit where state_key = 'default' order by seq desc limit 1) a,
              (select * from loom_audit where state_key = 'default' and action not like '%.changes' order by seq desc limit 1) l,
              lateral (select jsonb_build_object('seq', s.audit_seq, 'hash', encode(s.audit_hash, 'hex')) as recorded,
                              jsonb_build_object('seq', a.seq, 'hash', encode(a.hash, 'hex')) as stored) h
        where s.state_key = 'default'`,
    ),
  ]);
  const row = rows[0];
  if (row === undefined) throw new Error('the state row is missing');
  return { digest, ...row };
}
