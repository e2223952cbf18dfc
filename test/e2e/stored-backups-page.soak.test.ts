import { copyFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openShell, readPage, type Shell } from '../contract/rules/page.ts';
import { type Program, startProgram, waitUntil, waitUntilReady } from '../setup/node/program.ts';
import { hasAge } from '../setup/object-store/age.ts';
import { isNoMarker } from '../setup/object-store/object-store.ts';
import { createEmptyDatabase, type TestDatabase } from '../setup/server/database.ts';

const LOOM_ADMIN_TOKEN = 'admin-token-of-the-backup-page';
const headers = { 'x-loom-admin-token': LOOM_ADMIN_TOKEN, 'content-type': 'application/json' };
const documents = { tea: { price: 3 }, 'ünïcode/name': [1, null], empty: {} };
const page = await readPage('stored-backups.md');

let folder: string;
const databases: TestDatabase[] = [];
const programs: Program[] = [];
const shells: Shell[] = [];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'loom-mnt-'));
});
afterAll(async () => {
  await Promise.all(programs.map((program) => program.stop()));
  await Promise.all(databases.map((database) => database.drop()));
  await Promise.all(shells.map((shell) => shell.close()));
  await rm(folder, { recursive: true, force: true });
});

/** Starts a node on an empty database, and a shell in an empty folder that knows its address and nothing else. */
async function openMachine(variables: Record<string, string>) {
  const database = await createEmptyDatabase();
  databases.push(database);
  const program = await startProgram({ env: { LOOM_PG_URL: database.url, LOOM_ADMIN_TOKEN, ...variables } });
  programs.push(program);
  await waitUntilReady(program.url);
  const shell = await openShell(
    { LOOM_ADMIN_TOKEN, LOOM_URL: program.url },
    { '/mnt/loom-backups': folder, 'http://127.0.0.1:8787': program.url },
  );
  shells.push(shell);
  await writeFile(join(shell.directory, 'token.header'), `x-loom-admin-token: ${LOOM_ADMIN_TOKEN}\n`, { mode: 0o600 });
  const ask = async (path: string) => JSON.parse(await (await fetch(`${program.url}${path}`, { headers })).text());
  return { program, shell, ask };
}

async function runSection(shell: Shell, section: string): Promise<string> {
  const steps = page.filter((step) => step.section === section);
  expect(steps.length, section).toBeGreaterThan(0);
  let printed = '';
  for (const step of steps) printed += await shell.run(step);
  return printed;
}

test('what the page says brings a lost database back from nothing but the store and the key', async () => {
  if (!hasAge) return;
  const keys = await openShell({}, {});
  shells.push(keys);
  const recipient = (await runSection(keys, 'Encryption and keys')).trim();
  expect(recipient).toMatch(/^age1/);

  const first = await openMachine({
    LOOM_BACKUP_STORE: `file://${folder}`,
    LOOM_BACKUP_SCHEDULE: '0 0 1 1 *',
    LOOM_BACKUP_RECIPIENTS: recipient,
  });
  const body = JSON.stringify(documents);
  expect((await fetch(`${first.program.url}/v1/state`, { method: 'PUT', headers, body })).ok).toBe(true);
  await waitUntil(
    () => first.ask('/v1/admin/backups/runs'),
    ({ runs }) => runs[0]?.outcome === 'proven',
  );
  const taken = await first.shell.run({ commands: 'node dist/main.js backup --now\nnode dist/main.js backups\n' });
  expect(taken).toMatch(/^outcome +proven, restored in /);
  const audit = await first.ask('/v1/audit');
  await first.program.stop();
  await databases[0]?.pool.query('drop schema public cascade');
  expect((await readdir(folder)).filter(isNoMarker).every((name) => name.includes('.json.gz.age'))).toBe(true);

  const second = await openMachine({});
  await copyFile(join(keys.directory, 'key.txt'), join(second.shell.directory, 'key.txt'));
  const printed = await runSection(second.shell, 'On a new server');
  expect(printed).toMatch(/^ok: state "default" at revision 1, /m);
  expect(printed).toContain('\nRestored.\n');
  expect(await second.ask('/v1/state')).toEqual(documents);
  expect((await second.ask('/v1/audit')).entries[0]).toEqual(audit.entries[0]);
  expect((await second.ask('/v1/audit/verify')).ok).toBe(true);
}, 180_000);

test('the requests and commands of the page work as written', async () => {
  const machine = await openMachine({ LOOM_BACKUP_STORE: `file://${folder}`, LOOM_BACKUP_SCHEDULE: '0 0 1 1 *' });
  await waitUntil(
    () => machine.ask('/v1/admin/backups/runs'),
    ({ runs }) => runs[0]?.outcome === 'proven',
  );
  const restored = await runSection(machine.shell, 'Restore from the store');
  expect(restored).toContain('\nRestored.\n');
  expect(restored).toContain('\nUndone.');
  const printed = await runSection(machine.shell, 'Routes');
  expect(printed).toContain('"outcome":"proven"');
  expect((await readdir(machine.shell.directory)).some((name) => name.endsWith('.json.gz'))).toBe(true);
}, 180_000);
