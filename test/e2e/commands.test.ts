import { createServer } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { sampleByKind } from '../setup/depth.ts';
import { runProgramToEnd, startProgram, waitUntilReady } from '../setup/node/program.ts';
import { openTestStore } from '../setup/node/store.ts';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../setup/server/database.ts';

const TOKEN = 'admin-token-of-the-commands';
let database: TestDatabase;

beforeAll(async () => {
  database = await createEmptyDatabase();
});
afterAll(() => database.drop());

it('migrate needs only the URL of the database, and healthcheck only the address of the node', async () => {
  const migrated = await runProgramToEnd(['migrate'], { LOOM_PG_URL: database.url });
  expect(migrated).toMatchObject({ code: 0, output: expect.stringContaining('applied 0001_first_schema.sql') });
  expect(migrated.output).toMatch(/^The schema is at version \d+\.$/m);
  const again = await runProgramToEnd(['migrate'], { LOOM_PG_URL: database.url });
  expect(again).toMatchObject({ code: 0, output: expect.stringContaining('nothing to migrate') });
  const away = await runProgramToEnd(['migrate'], { LOOM_PG_URL: 'postgres://u:a-password@127.0.0.1:1/x' });
  expect(away).toMatchObject({ code: 1, output: expect.stringContaining('ECONNREFUSED') });
  expect(away.output).not.toContain('a-password');
  const dead = await runProgramToEnd(['healthcheck'], { LOOM_PORT: '1' });
  expect(dead).toMatchObject({ code: 1, output: expect.stringContaining('not live: ') });
});

it('reindex rebuilds the index of changes from the audit trail, for one state', async () => {
  const indexed = await createTestDatabase();
  try {
    const store = await openTestStore(indexed.url);
    await store.put('a', 1);
    await store.put('b', 2);
    const read = () => store.pool.query('select * from loom_change order by state_key, name').then(({ rows }) => rows);
    const before = await read();
    await store.pool.query(`insert into loom_change values ('default', 'c', 9, 9, 'delete', null), ('other', 'c', 9, 9, 'put', '');
      delete from loom_change where name = 'a';
      insert into loom_state (state_key, epoch) values (E'\\x1ftrial', 'trial');
      insert into loom_scratch (state_key, owner) values (E'\\x1ftrial', 'default')`);
    // A scratch state that is dropped after it was listed has no row any more.
    await store.pool.query(`insert into loom_scratch (state_key, owner) values (E'\\x1fdropped', 'default')`);
    const rebuilt = await runProgramToEnd(['reindex'], { LOOM_PG_URL: indexed.url });
    const output =
      'Rebuilt the index of the state "default": 2 changes.\nRebuilt the index of the scratch state "trial": 0 changes.\n';
    expect(rebuilt).toEqual({ code: 0, output });
    expect((await read()).filter(({ state_key }) => state_key === 'default')).toEqual(before);
    expect(await read()).toHaveLength(3);
    const missing = await runProgramToEnd(['reindex'], { LOOM_PG_URL: indexed.url, LOOM_PG_STATE_KEY: 'none' });
    expect(missing).toMatchObject({ code: 1, output: expect.stringContaining('does not exist') });
    await store.close();
  } finally {
    await indexed.drop();
  }
});

it('arguments of a command without options are refused, and --version prints the version', async () => {
  const refused = await runProgramToEnd(['serve', '--port', '9999'], {});
  expect(refused).toMatchObject({ code: 64, output: expect.stringContaining('serve takes no arguments') });
  expect(await runProgramToEnd(['nonsense'], {})).toMatchObject({ code: 64 });
  expect(await runProgramToEnd(['--version'], {})).toMatchObject({
    code: 0,
    output: expect.stringMatching(/^\d+\.\d+/),
  });
});

/** A build does not have the command `dev`, only its help. */
const kindOfCommand = (name: string): string => (name === 'dev' ? 'missing' : 'built');

it('help COMMAND prints the same as COMMAND --help, and an unknown command is refused', async () => {
  for (const name of sampleByKind(['serve', 'backup', 'version', 'dev'], kindOfCommand, { purpose: 'help' })) {
    const asked = await runProgramToEnd(['help', name], {});
    expect(asked).toMatchObject({ code: 0, output: expect.stringMatching(/^Usage: /) });
    expect(await runProgramToEnd([name, '--help'], {})).toEqual(asked);
  }
  const list = await runProgramToEnd([], {});
  expect(list).toMatchObject({ code: 0, output: expect.stringContaining('\n  serve        run a node') });
  for (const args of [['help'], ['--help'], ['-h']]) expect(await runProgramToEnd(args, {})).toEqual(list);
  const output = `Unknown command: nonsense\n\n${list.output}`;
  expect(await runProgramToEnd(['help', 'nonsense'], {})).toEqual({ code: 64, output });
});

it('dev says that it needs a checkout', async () => {
  const output = 'The dev command is not part of a build: run "npm run dev" from a checkout.\n';
  expect(await runProgramToEnd(['dev'], {})).toEqual({ code: 64, output });
});

it('the error for a port in use names the port and the variable to set', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => taken.once('listening', resolve));
  const address = taken.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const env = { LOOM_PG_URL: database.url, LOOM_ADMIN_TOKEN: TOKEN, LOOM_PORT: String(port) };
  const refused = await runProgramToEnd(['serve'], env);
  taken.close();
  expect(refused).toMatchObject({
    code: 1,
    output: expect.stringContaining(`Port ${port} of 127.0.0.1 is already in use`),
  });
  expect(refused.output).toContain('LOOM_PORT');
});

it.each(['203.0.113.7', 'no-such-host.invalid'])(
  'the error for a host that is not this machine names LOOM_HOST: %s',
  async (host) => {
    const env = { LOOM_PG_URL: database.url, LOOM_ADMIN_TOKEN: TOKEN, LOOM_PORT: '0', LOOM_HOST: host };
    const output = expect.stringContaining(`LOOM_HOST "${host}" is not an address of this machine`);
    expect(await runProgramToEnd(['serve'], env)).toMatchObject({ code: 1, output });
  },
);

it('metrics and log distinguish a refused restore, a plan and a restore, and the log shows paths', async () => {
  const program = await startProgram({ env: { LOOM_PG_URL: database.url, LOOM_ADMIN_TOKEN: TOKEN } });
  try {
    await waitUntilReady(program.url);
    const headers = { 'x-loom-admin-token': TOKEN, 'content-type': 'application/json' };
    const persistence = `${program.url}/v1/admin/persistence`;
    const backup = await (await fetch(`${persistence}/backup`, { headers })).text();
    const restore = async (members: string) =>
      (await fetch(`${persistence}/restore`, { method: 'POST', headers, body: `{${members}"backup":${backup}}` }))
        .status;
    expect(await restore('')).toBe(400);
    expect(await restore('"confirm":"restore","dry_run":true,')).toBe(200);
    expect(await restore('"confirm":"restore",')).toBe(200);
    const metrics = await (await fetch(`${program.url}/metrics`, { headers })).text();
    expect(metrics).toContain('loom_operations_total{kind="restore",outcome="refused"} 1');
    expect(metrics).toContain('loom_operations_total{kind="plan",outcome="ok"} 1');
    expect(metrics).toContain('loom_operations_total{kind="restore",outcome="ok"} 1');
    expect(metrics).toContain('loom_operations_total{kind="restore",outcome="failed"} 0');
    expect(program.output()).toContain('restore refused: The body has no');
    expect(program.output()).toContain('"path":"/v1/admin/persistence/restore"');
  } finally {
    await program.stop();
  }
});
