import { existsSync } from 'node:fs';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startOfProcess } from '../../../src/dev/processes.ts';
import { type PrivateServer, startPrivateServer } from './private-server.ts';

let server: PrivateServer;
beforeAll(async () => {
  server = await startPrivateServer({ settings: { work_mem: '5MB' } });
});
afterAll(() => server.stop());

test('a private server has the requested settings', async () => {
  expect(await ask(server.url, `select current_setting('work_mem') as answer`)).toBe('5MB');
});

test('a frozen server does not answer, and after a thaw it answers the pending query', async () => {
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  await server.freeze();
  let answered = false;
  const question = client.query('select 1').then(() => {
    answered = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(answered).toBe(false);
  await server.thaw();
  await question;
  await client.end();
});

test('after a kill and after a shutdown, a server starts again with its data on the same port', async () => {
  await ask(server.url, 'create table kept (id int)');
  const { pid } = server;
  await server.kill();
  expect(await startOfProcess(pid)).toBeUndefined();
  await expect(ask(server.url, 'select 1')).rejects.toThrow('ECONNREFUSED');
  await server.startAgain();
  expect(await ask(server.url, `select to_regclass('kept')::text as answer`)).toBe('kept');
  await server.shutDown();
  await server.startAgain();
  expect(await ask(server.url, `select to_regclass('kept')::text as answer`)).toBe('kept');
});

test('stopping a frozen server ends it', async () => {
  const other = await startPrivateServer();
  await other.freeze();
  await other.stop();
  await other.stop();
  expect(await startOfProcess(other.pid)).toBeUndefined();
  expect(existsSync(`/proc/${other.pid}`)).toBe(false);
});

async function ask(url: string, text: string): Promise<unknown> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows[0]?.answer;
  } finally {
    await client.end();
  }
}
