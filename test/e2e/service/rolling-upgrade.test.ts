import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { migrate } from '../../../src/persistence/schema/migrate.ts';
import { loadMigrations } from '../../../src/persistence/schema/migrations.ts';
import { depth, rounds, sampleByKind, seededRandom } from '../../setup/depth.ts';
import type { BuiltProgram } from '../../setup/node/built.ts';
import { expectTrailMakesState } from '../../setup/node/fold.ts';
import { type Program, runProgramToEnd, startProgram, waitUntil, waitUntilReady } from '../../setup/node/program.ts';
import { createTestRoles, type TestRoles } from '../../setup/roles/roles.ts';
import { installEarlierProgram, PREVIOUS_RELEASE } from '../../setup/rolling/earlier-program.ts';
import { startTraffic, type Traffic } from '../../setup/rolling/traffic.ts';
import { expectEachOnce } from '../../setup/rolling/trail.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { openDoor } from '../../setup/server/door.ts';
import { verifyBySql } from '../../setup/server/verify-sql.ts';

const ADMIN_TOKEN = 'admin-token-of-the-upgrade-test';
const headers = { 'x-loom-admin-token': ADMIN_TOKEN, 'content-type': 'application/json' };

let earlier: BuiltProgram;
let directory: string;
beforeAll(async () => {
  earlier = await installEarlierProgram();
  directory = await mkdtemp(join(tmpdir(), 'loom-upgrade-'));
});
afterAll(async () => {
  await earlier.remove();
  await rm(directory, { recursive: true, force: true });
});

/** A database of the previous release, and the URLs of its roles. */
interface Site {
  database: TestDatabase;
  roles: TestRoles;
  /** The role that owns the tables, and the one of the nodes. */
  owner: string;
  server: string;
  urlOf(role: string): string;
}

const PASSWORD = 'secret';

async function openSite(
  rightsOf: (database: TestDatabase, suffix: string) => Promise<[string, string]>,
): Promise<Site> {
  const database = await createEmptyDatabase();
  const roles = createTestRoles(database.pool);
  const [owner, server] = await rightsOf(database, randomBytes(4).toString('hex'));
  onTestFinished(async () => {
    for (const role of new Set([owner, server, roles.owner, roles.serve, roles.read])) {
      const { rowCount } = await database.pool.query('select from pg_roles where rolname = $1', [role]);
      if (rowCount === 1)
        await database.pool.query(
          `reassign owned by ${role} to current_user; drop owned by ${role}; drop role ${role}`,
        );
    }
    await database.drop();
  });
  return { database, roles, owner, server, urlOf: (role) => urlWith(database, role) };
}

function urlWith({ url }: TestDatabase, role: string): string {
  return Object.assign(new URL(url), { username: role, password: PASSWORD }).href;
}

/** One role owns the database and serves, as the page "Operations" of both releases begins. */
async function useOneRole({ name, pool }: TestDatabase, suffix: string): Promise<[string, string]> {
  const role = `loom_all_${suffix}`;
  await pool.query(`create role ${role} login password '${PASSWORD}'; alter database ${name} owner to ${role}`);
  return [role, role];
}

/** The rights of a serving role, as the previous release asks for them. */
const RIGHTS = `
  grant select, insert, update, delete on loom_meta, loom_state, loom_document, loom_audit, loom_scratch, loom_lineage,
    loom_change, loom_snapshot, loom_snapshot_document, loom_snapshot_audit to `;

/** One role owns the database and migrates, and another serves. */
async function useTwoRoles(database: TestDatabase, suffix: string): Promise<[string, string]> {
  const [owner] = await useOneRole(database, suffix);
  const role = `loom_app_${suffix}`;
  const door = openDoor(urlWith(database, owner), 1);
  await migrate(door, (await loadMigrations()).slice(0, PREVIOUS_RELEASE));
  await door.close({ deadlineMs: 5_000 });
  await database.pool.query(`create role ${role} login password '${PASSWORD}'; ${RIGHTS} ${role}`);
  return [owner, role];
}

async function start(url: string, more: { entry?: string; env?: Record<string, string> } = {}): Promise<Program> {
  const { entry, env = {} } = more;
  const program = await startProgram({
    env: { LOOM_PG_URL: url, LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_SHUTDOWN_DELAY_MS: '200', ...env },
    ...(entry === undefined ? {} : { entry }),
  });
  onTestFinished(() => program.kill());
  return program;
}

/** Sends a request, and returns its answer. It must succeed, or have the code of this problem. */
async function ask(url: string, path: string, body?: string, code?: string): Promise<string> {
  const init = body === undefined ? { headers } : { method: 'POST', headers, body };
  const answer = await fetch(`${url}${path}`, init);
  // Not `text`, which holds the answer to the description of this version.
  const text = Buffer.from(await answer.arrayBuffer()).toString('utf8');
  expect([path, answer.ok ? undefined : JSON.parse(text).code]).toEqual([path, code]);
  return text;
}

const operations = '/v1/admin/persistence';
const takeBackup = (url: string): Promise<string> => ask(url, `${operations}/backup`);
const undo = (url: string): Promise<string> => ask(url, `${operations}/undo`, '{"confirm":"undo"}');

function restore(url: string, backup: string, { truncate = false, code }: { truncate?: boolean; code?: string } = {}) {
  const members = `"confirm":"restore","replace_state":true,"truncate_audit":${truncate},"backup":${backup}`;
  return ask(url, `${operations}/restore`, `{${members}}`, code);
}

async function reasonOf(url: string): Promise<string | undefined> {
  return ((await (await fetch(`${url}/ready`)).json()) as { reason?: string }).reason;
}

async function untilReason({ url }: Program, reason: string): Promise<void> {
  await waitUntil(
    () => reasonOf(url),
    (found) => found === reason,
  );
}

async function expectSound(nodes: string[], { pool }: TestDatabase): Promise<void> {
  for (const node of nodes) expect(JSON.parse(await ask(node, '/v1/audit/verify'))).toMatchObject({ ok: true });
  expect(await verifyBySql(pool)).toMatchObject({ ok: true });
}

/** Each restores a backup that it accepts, and each undoes that: by this node or the one of the previous release. */
const turns = [true, false].flatMap((truncate) =>
  (['old-old', 'old-new', 'new-new'] as const).flatMap((way) =>
    (['old', 'new'] as const).map((undoer) => ({ truncate, way, undoer })),
  ),
);

interface Pair {
  old: Program;
  fresh: Program;
  traffic: Traffic;
  database: TestDatabase;
}

/** Lets the nodes take turns in backups, restores and undos, with changes in between. */
async function takeTurns(pair: Pair, count: number): Promise<void> {
  const { traffic, database } = pair;
  const [old, fresh] = [pair.old.url, pair.fresh.url];
  const first = random.integer(0, turns.length - 1);
  for (const { truncate, way, undoer } of [...turns, ...turns].slice(first, first + count)) {
    const [taker, restorer] = way.split('-').map((which) => (which === 'old' ? old : fresh));
    const backup = await takeBackup(taker ?? '');
    const file = join(directory, 'backup.json');
    await writeFile(file, backup);
    expect((await runProgramToEnd(['verify', file], {})).output).toMatch(/^ok/);
    await restore(restorer ?? '', backup, { truncate });
    await traffic.untilEachAcknowledges(3);
    await undo(undoer === 'old' ? old : fresh);
    await traffic.untilEachAcknowledges(3);
    await expectSound([old, fresh], database);
  }
  await restore(old, await takeBackup(fresh), { code: 'backup_schema_newer' });
}

const random = seededRandom('an upgrade');
const many = rounds({ quick: 5, full: 100 });

/** Starts a node of the previous release, clients, and beside it a node of this one, with the migration in between. */
async function upgrade({ database, owner, server, urlOf }: Site) {
  const old = await start(urlOf(server), { entry: earlier.entry });
  await waitUntilReady(old.url);
  const traffic = await startTraffic({
    nodes: [old.url],
    headers,
    clients: rounds({ quick: 2, full: 4 }),
    retryCodes: ['draining'],
  });
  await traffic.untilEachAcknowledges(many);

  const fresh = await start(urlOf(server), { env: { LOOM_MIGRATE: 'manual' } });
  await untilReason(fresh, 'schema_behind');
  expect(await runProgramToEnd(['migrate'], { LOOM_PG_URL: urlOf(owner) })).toMatchObject({ code: 0 });
  await waitUntilReady(fresh.url);
  traffic.sendTo([old.url, fresh.url]);
  await traffic.untilEachAcknowledges(many);
  expect(await reasonOf(old.url)).toBe(undefined);
  const finish = async (last: Program): Promise<void> => {
    await traffic.untilEachAcknowledges(many);
    await traffic.stop();
    expect(traffic.faults()).toEqual([]);
    await expectEachOnce(database.pool, traffic.acknowledged);
    await expectTrailMakesState({ pool: database.pool, stateKey: 'default' });
    await expectSound([last.url], database);
    console.info(JSON.stringify({ ...traffic.outcomes(), again: traffic.retried() }));
  };
  return { old, fresh, traffic, finish };
}

/** Stops a node while clients still send to it, and then leads them to the others. */
async function leave(node: Program, others: Program[], traffic: Traffic): Promise<void> {
  expect(await node.stop()).toBe(0);
  traffic.sendTo(others.map(({ url }) => url));
}

/** Runs docs/roles.sql while nodes of both releases serve, and lets a node of its serving role take over. */
async function adoptRoles(site: Site): Promise<void> {
  const { database, roles, server } = site;
  const { old, fresh, traffic, finish } = await upgrade(site);
  // A member of the owner keeps all rights that it had as the owner.
  await database.pool.query(`create role ${roles.owner} login; grant ${roles.owner} to ${server}`);
  await roles.apply();
  await traffic.untilEachAcknowledges(many);
  for (const node of [old, fresh]) expect(await reasonOf(node.url)).toBe(undefined);
  const least = await start(roles.as('serve', database.url), { env: { LOOM_MIGRATE: 'manual' } });
  await waitUntilReady(least.url);
  traffic.sendTo([old, fresh, least].map(({ url }) => url));
  await takeTurns({ old, fresh: least, traffic, database }, rounds({ quick: 1, full: 3 }));
  expect(traffic.retried()).toEqual({});
  traffic.sendTo([least.url]);
  for (const node of [old, fresh]) expect(await node.stop()).toBe(0);
  await database.pool.query(`revoke ${roles.owner} from ${server}`);

  if (depth === 'full') await goBack(least, traffic, site);
  await finish(least);
}

/** Starts a node of the previous release again, as the serving role, with the one right more that it needs. */
async function goBack(least: Program, traffic: Traffic, { database, roles }: Site): Promise<void> {
  const back = await start(roles.as('serve', database.url), { entry: earlier.entry, env: { LOOM_MIGRATE: 'manual' } });
  await untilReason(back, 'db_forbidden');
  const grant = await waitUntil(
    async () => /Run as the owner: (GRANT DELETE ON table loom_audit TO [^"]+)"/.exec(back.output())?.[1],
    (statement) => statement !== undefined,
  );
  await database.pool.query(grant ?? '');
  await waitUntilReady(back.url);
  traffic.sendTo([back.url, least.url]);
  const before = { ...traffic.retried() };
  await takeTurns({ old: back, fresh: least, traffic, database }, turns.length / 4);
  expect(traffic.retried()).toEqual(before);
  await leave(back, [least], traffic);
}

/** Upgrades without a change of roles. */
async function keepRoles(site: Site): Promise<void> {
  const { old, fresh, traffic, finish } = await upgrade(site);
  await takeTurns({ old, fresh, traffic, database: site.database }, rounds({ quick: 1, full: turns.length / 2 }));
  expect(traffic.retried()).toEqual({});
  await leave(old, [fresh], traffic);
  await finish(fresh);
}

const sites = { 'one role that owns the tables': useOneRole, 'a serving role of their own': useTwoRoles };
const ways = Object.entries(sites).flatMap(([role, make]): [string, () => Promise<void>][] => [
  [`as ${role}`, async () => keepRoles(await openSite(make))],
  [`as ${role}, and then as loom_serve of docs/roles.sql`, async () => adoptRoles(await openSite(make))],
]);

test.each(sampleByKind(ways, () => 'way', { purpose: 'roles of an upgrade' }))(
  'a node of the previous release and one of this serve together through a migration under load: %s',
  { timeout: 600_000 },
  async (_name, run) => run(),
);
