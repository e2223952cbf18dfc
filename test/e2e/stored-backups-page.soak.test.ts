import { spawnSync } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parse as parseDotenv } from 'dotenv';
import { afterAll, expect, test } from 'vitest';
import { openShell, readPage, type Shell } from '../contract/rules/page.ts';
import { type Program, startProgram, waitUntil, waitUntilReady } from '../setup/node/program.ts';
import { hasAge } from '../setup/object-store/age.ts';
import { createTestStore, type StoreKind, type TestStore } from '../setup/object-store/object-store.ts';
import { createEmptyDatabase, type TestDatabase } from '../setup/server/database.ts';

const LOOM_ADMIN_TOKEN = 'admin-token-of-the-backup-page';
const headers = { 'x-loom-admin-token': LOOM_ADMIN_TOKEN, 'content-type': 'application/json' };
const documents = { tea: { price: 3 }, 'ünïcode/name': [1, null], empty: {} };
/** Once a year, so that only the first backup and those that the page takes are taken. */
const LOOM_BACKUP_SCHEDULE = '0 0 1 1 *';
const page = await readPage('stored-backups.md');

const cleanups: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  for (const clean of cleanups.reverse()) await clean();
});

/** A store, and the texts of the page that stand for its address and secrets. */
async function openStore(kind: StoreKind): Promise<{ store: TestStore; texts: Record<string, string> }> {
  const store = await createTestStore(kind);
  cleanups.push(() => store.remove());
  if (kind === 'file')
    return { store, texts: { '/mnt/loom-backups': store.url.replace('file://', ''), ' -o loom': '' } };
  const secrets = await mkdtemp(join(tmpdir(), 'loom-secrets-'));
  cleanups.push(() => rm(secrets, { recursive: true }));
  const { LOOM_BACKUP_S3_ENDPOINT: endpoint = '', LOOM_BACKUP_S3_ACCESS_KEY_ID: id = '', ...others } = store.variables;
  await writeFile(join(secrets, 's3'), `${others.LOOM_BACKUP_S3_SECRET_ACCESS_KEY}\n`);
  return {
    store,
    texts: {
      's3://loom-backups/prod': store.url,
      'https://minio.example:9000': endpoint,
      'ACCESS_KEY_ID=loom': `ACCESS_KEY_ID=${id}`,
      '/run/secrets/loom_s3_secret': join(secrets, 's3'),
    },
  };
}

async function openPageShell(env: Record<string, string>, texts: Record<string, string>): Promise<Shell> {
  const shell = await openShell(env, texts);
  cleanups.push(() => shell.close());
  return shell;
}

interface Machine {
  database: TestDatabase;
  program: Program;
  shell: Shell;
  ask(path: string): Promise<ReturnType<typeof JSON.parse>>;
}

/** Starts a node on an empty database, and a shell in an empty folder that knows its address and nothing else. */
async function openMachine(
  variables: Record<string, string>,
  { texts = {}, database }: { texts?: Record<string, string>; database?: TestDatabase } = {},
): Promise<Machine> {
  const own = database ?? (await createEmptyDatabase());
  if (database === undefined) cleanups.push(() => own.drop());
  const program = await startProgram({ env: { LOOM_PG_URL: own.url, LOOM_ADMIN_TOKEN, ...variables } });
  cleanups.push(() => program.stop());
  await waitUntilReady(program.url);
  // The program `aws` may be in a folder that only the path of this process has.
  const path = `${dirname(process.execPath)}:${process.env.PATH}`;
  const env = { LOOM_ADMIN_TOKEN, LOOM_URL: program.url, PATH: path };
  const shell = await openPageShell(env, { ...texts, 'http://127.0.0.1:8787': program.url });
  await writeFile(join(shell.directory, 'token.header'), `x-loom-admin-token: ${LOOM_ADMIN_TOKEN}\n`, { mode: 0o600 });
  const ask = async (path: string) => JSON.parse(await (await fetch(`${program.url}${path}`, { headers })).text());
  return { database: own, program, shell, ask };
}

/** Runs the blocks of a section, without those that contain `except`, which are for another kind of store. */
async function runSection(shell: Shell, section: string, except?: string): Promise<string> {
  const steps = page.filter((step) => step.section === section);
  expect(steps.length, section).toBeGreaterThan(0);
  let printed = '';
  for (const step of steps)
    if (except === undefined || !step.commands.includes(except)) printed += await shell.run(step);
  return printed;
}

function setupBlock(text: string): string {
  return page.find((step) => step.section === 'Shortest setup' && step.commands.includes(text))?.commands ?? '';
}

/** Returns the variables that the shortest setup of the page sets. Runs its commands for a folder. */
async function readSettings(kind: StoreKind, texts: Record<string, string>): Promise<Record<string, string>> {
  if (kind === 'file') await (await openPageShell({}, texts)).run({ commands: setupBlock('install -d') });
  const markdown = await readFile(new URL('../../docs/stored-backups.md', import.meta.url), 'utf8');
  const files = [...markdown.matchAll(/^```ini\n([\s\S]*?)^```/gm)].map(([, text = '']) => text);
  const found = files.find((text) => text.includes(`\nLOOM_BACKUP_STORE=${kind}:`)) ?? '';
  return parseDotenv(Object.entries(texts).reduce((text, [from, to]) => text.replaceAll(from, to), found));
}

function firstProof(machine: Machine) {
  return waitUntil(
    () => machine.ask('/v1/admin/backups/runs'),
    ({ runs }) => runs.at(-1)?.outcome === 'proven',
  );
}

test.each([
  ['file', '"aws s3 '],
  ['s3', '/mnt/loom-backups'],
] as const)(
  'what the page says of %s brings a lost database back from nothing but the store and the key',
  async (kind, ofOtherKind) => {
    const missing = [...(hasAge ? [] : ['age']), ...(kind === 's3' && !hasAws() ? ['aws'] : [])];
    if (missing.length > 0) return console.warn(`The page is not run with ${kind}: ${missing} is not installed.`);
    const keys = await openPageShell({}, {});
    const recipient = (await runSection(keys, 'Encryption and keys')).trim();
    expect(recipient).toMatch(/^age1/);
    const { store, texts } = await openStore(kind);
    const read = await readSettings(kind, texts);
    const settings: Record<string, string> = { ...read, LOOM_BACKUP_SCHEDULE, LOOM_BACKUP_RECIPIENTS: recipient };
    expect(settings).toMatchObject({ LOOM_BACKUP_STORE: store.url });

    const first = await openMachine(settings);
    const body = JSON.stringify(documents);
    expect((await fetch(`${first.program.url}/v1/state`, { method: 'PUT', headers, body })).ok).toBe(true);
    const taken = await first.shell.run({ commands: setupBlock('backup --now') });
    expect(taken).toMatch(/^outcome +proven, restored in /);
    const audit = await first.ask('/v1/audit');
    await first.program.stop();
    await first.database.pool.query('drop schema public cascade');
    expect((await store.names()).every((name) => name.includes('.json.gz.age'))).toBe(true);

    const second = await openMachine({}, { texts });
    await copyFile(join(keys.directory, 'key.txt'), join(second.shell.directory, 'key.txt'));
    const printed = await runSection(second.shell, 'On a new server', ofOtherKind);
    expect(printed).toMatch(/^ok: state "default" at revision 1, /m);
    expect(printed).toContain('\nRestored.\n');
    expect(await second.ask('/v1/state')).toEqual(documents);
    expect((await second.ask('/v1/audit')).entries[0]).toEqual(audit.entries[0]);
    expect((await second.ask('/v1/audit/verify')).ok).toBe(true);
    await second.program.stop();

    // The last step: the node takes backups again. Like R2, without a region.
    const { LOOM_BACKUP_S3_REGION: _, ...again } = settings;
    const old = await store.names();
    await firstProof(await openMachine(again, { database: second.database }));
    expect(await store.names()).toEqual(expect.arrayContaining(old));
    expect(await store.names()).toHaveLength(old.length + 2);
  },
  600_000,
);

function hasAws(): boolean {
  return spawnSync('aws', ['--version'], { stdio: 'ignore' }).status === 0;
}

test('the requests and commands of the page work as written, also for a state key with a hyphen', async () => {
  const { store } = await openStore('file');
  const machine = await openMachine({
    LOOM_BACKUP_STORE: store.url,
    LOOM_BACKUP_SCHEDULE,
    LOOM_PG_STATE_KEY: 'shop-eu',
  });
  await firstProof(machine);
  const restored = await runSection(machine.shell, 'Restore from the store');
  expect(restored).toContain('\nRestored.\n');
  expect(restored).toContain('\nUndone.');
  const printed = await runSection(machine.shell, 'Routes');
  expect(printed).toContain('"outcome":"proven"');
  const verified = await machine.shell.run({ commands: 'node dist/main.js verify "$NAME"\n' });
  expect(verified).toMatch(/^ok: state "shop-eu" /m);
}, 600_000);
