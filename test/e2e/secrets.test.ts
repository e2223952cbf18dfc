import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Program, runProgramToEnd, startProgram, waitUntil, waitUntilReady } from '../setup/node/program.ts';
import { type PrivateServer, startPrivateServer } from '../setup/server/private-server.ts';

const secrets = {
  admin: 'admin-Secret/4f1c9e+77d0',
  adminNext: 'admin-Next-Secret-b0c2a5',
  client: 'client-Secret~91e4d3f8ab',
  metrics: 'metrics-Secret-5be1d20c47',
  wrong: 'wrong-Secret-c0ffee-1234',
  wrongPassword: 'pa55-Secret-deadbeef-99',
  short: 'shortSecret1',
};

let server: PrivateServer;
let program: Program;
let password: string;
/** Everything that LOOM writes in these tests: process output, headers and bodies of answers. */
const seen: { where: string; text: string }[] = [];

beforeAll(async () => {
  server = await startPrivateServer();
  password = new URL(server.url).password;
  program = await startProgram({
    env: {
      LOOM_PG_URL: server.url,
      LOOM_ADMIN_TOKEN: `${secrets.adminNext},${secrets.admin}`,
      LOOM_CLIENT_TOKEN: secrets.client,
      LOOM_METRICS_TOKEN: secrets.metrics,
      LOOM_LOG_LEVEL: 'trace',
    },
  });
  await waitUntilReady(program.url);
});

afterAll(async () => {
  await program?.stop();
  await server?.stop();
});

const routes: [method: string, path: string, body?: string][] = [
  ['GET', '/live'],
  ['GET', '/ready'],
  ['GET', '/metrics'],
  ['GET', '/v1/admin/status'],
  ['GET', '/v1/admin/persistence/schema'],
  ['GET', '/v1/admin/persistence/backup?include_audit=true'],
  ['POST', '/v1/admin/persistence/restore', '{"confirm":"restore"}'],
  ['POST', '/v1/admin/persistence/restore', '{"confirm":"restore","backup":{"state":{"a":'],
  ['GET', '/v1/audit/verify'],
  ['GET', '/v1/audit'],
  ['GET', '/v1/state'],
  ['HEAD', '/v1/state'],
  ['PUT', '/v1/state', '{"a":{"b":1}}'],
  ['PATCH', '/v1/state', '{"a":{"b":2}}'],
  ['PATCH', '/v1/state', '[]'],
  ['GET', '/v1/documents'],
  ['PUT', '/v1/documents/a', '{"b":3}'],
  ['PUT', '/v1/documents/a', '{"b":1e400}'],
  ['PUT', '/v1/documents/a', 'not JSON'],
  ['GET', '/v1/documents/a'],
  ['PATCH', '/v1/documents/a', '{"b":4}'],
  ['DELETE', '/v1/documents/a'],
  ['DELETE', '/v1/documents/%ff'],
  ['POST', '/v1/documents/a'],
  ['GET', '/nowhere'],
];

const presented: [who: string, headers: Record<string, string>][] = [
  ['nobody', {}],
  ['the admin', { 'x-loom-admin-token': secrets.admin }],
  ['the admin with the next token', { authorization: `Bearer ${secrets.adminNext}` }],
  ['a scraper', { authorization: `Bearer ${secrets.metrics}` }],
  ['a client', { authorization: `Bearer ${secrets.client}` }],
  ['a client in the header of the admin', { 'x-loom-admin-token': secrets.client }],
  ['a stranger', { 'x-loom-admin-token': secrets.wrong }],
  ['a stranger with two tokens', { 'x-loom-admin-token': secrets.wrong, authorization: `Bearer ${secrets.admin}` }],
  ['a stranger of another scheme', { authorization: `Basic ${secrets.wrong}` }],
  ['a stranger with a cookie', { cookie: `token=${secrets.wrong}` }],
];

async function send(method: string, path: string, headers: Record<string, string>, body?: string): Promise<number> {
  const type = { 'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json' };
  const init = { method, headers: { ...type, ...headers }, ...(body === undefined ? {} : { body }) };
  const response = await fetch(`${program.url}${path}`, init);
  const head = [...response.headers].map(([name, value]) => `${name}: ${value}`).join('\n');
  seen.push({ where: `${method} ${path.split('?', 1)[0]}`, text: `${head}\n${await response.text()}` });
  return response.status;
}

/** Sends text that is not valid HTTP. */
function sendRaw(text: string): Promise<void> {
  return new Promise((resolve) => {
    const { hostname, port } = new URL(program.url);
    const socket = connect(Number(port), hostname, () => socket.end(text));
    socket.on('data', (data) => seen.push({ where: 'raw', text: data.toString('latin1') }));
    socket.on('error', () => undefined);
    socket.on('close', () => resolve());
  });
}

async function run(args: string[], env: Record<string, string>): Promise<{ code: number; output: string }> {
  const ended = await runProgramToEnd(args, { LOOM_LOG_LEVEL: 'trace', ...env });
  seen.push({ where: `loom ${args.join(' ')}`, text: ended.output });
  return ended;
}

describe('a full run with the log at trace', () => {
  test.each(presented)('every route, asked by %s', async (_who, headers) => {
    for (const [method, path, body] of routes) expect(await send(method, path, headers, body)).toBeLessThan(500);
  });

  test('tokens in query strings are refused', async () => {
    for (const path of ['/v1/state', '/v1/admin/status', '/live', '/nowhere']) {
      for (const query of [
        `token=${secrets.wrong}`,
        `access_token=${encodeURIComponent(secrets.admin)}`,
        `after=${encodeURIComponent(secrets.admin)}`,
        `${encodeURIComponent(secrets.client)}=1`,
      ])
        expect(await send('GET', `${path}?${query}`, { 'x-loom-admin-token': secrets.admin })).toBe(400);
    }
    await send('GET', `/v1/state?${secrets.wrong}=1&limit=${secrets.wrong}`, { 'x-loom-admin-token': secrets.admin });
  });

  test('a token in the wrong place is not repeated', async () => {
    const admin = { 'x-loom-admin-token': secrets.admin };
    await send('GET', '/v1/state', { ...admin, 'if-match': secrets.wrong });
    await send('PUT', '/v1/documents/a', { ...admin, 'idempotency-key': `${secrets.wrong} ${secrets.wrong}` }, '1');
    await send('PUT', '/v1/documents/a', { ...admin, 'content-type': secrets.wrong }, '1');
    await send('POST', '/v1/admin/persistence/restore', admin, `{"confirm":${JSON.stringify(secrets.wrong)}}`);
    await send('GET', `/v1/audit?order=${secrets.wrong}&action=${secrets.wrong}`, admin);
  });

  test('requests that are not valid HTTP reveal nothing', async () => {
    const token = `x-loom-admin-token: ${secrets.admin}\r\nauthorization: Bearer ${secrets.wrong}\r\n`;
    await sendRaw(`GET /v1/state HTTP/1.1\r\nhost: a\r\n${token}broken header line\r\n\r\n`);
    await sendRaw(`GET /v1/state?token=${secrets.wrong} HTTP/9.9\r\n${token}\r\n`);
    await sendRaw(
      `PUT /v1/documents/a HTTP/1.1\r\nhost: a\r\n${token}content-type: application/json\r\ncontent-length: 99\r\n\r\n{"a"`,
    );
    await sendRaw(`GET /${'x'.repeat(20_000)} HTTP/1.1\r\nhost: a\r\n${token}\r\n`);
  });

  test('a node that loses its database reveals nothing', async () => {
    await server.kill();
    await waitUntil(
      () => fetch(`${program.url}/ready`).then(({ status }) => status),
      (status) => status === 503,
    );
    for (const [method, path, body] of routes) {
      const status = await send(method, path, { 'x-loom-admin-token': secrets.admin }, body);
      expect(status).not.toBe(500);
    }
    await server.startAgain();
    await waitUntilReady(program.url);
    expect(await send('GET', '/metrics', { 'x-loom-admin-token': secrets.admin })).toBe(200);
  });
});

describe('a failed start reveals nothing', () => {
  const tokens = { LOOM_ADMIN_TOKEN: secrets.admin };

  test.each([
    ['a malformed URL', { ...tokens, LOOM_PG_URL: `postgres://loom:${secrets.wrongPassword}#@db/loom` }],
    ['a value that is not a URL', { ...tokens, LOOM_PG_URL: secrets.wrongPassword }],
    [
      'a URL with an extra parameter',
      { ...tokens, LOOM_PG_URL: `postgres://l:${secrets.wrongPassword}@db/l?password=${secrets.wrongPassword}` },
    ],
    ['a token that is too short', { LOOM_ADMIN_TOKEN: secrets.short, LOOM_PG_URL: 'postgres://l@db/l' }],
    ['a token in place of its file', { LOOM_ADMIN_TOKEN_FILE: secrets.wrong, LOOM_PG_URL: 'postgres://l@db/l' }],
    [
      'a token in a variable for another setting',
      { ...tokens, LOOM_PORT: secrets.wrong, LOOM_LOG_LEVEL: secrets.wrong },
    ],
  ])('%s: exit code 78', async (_title, env) => {
    expect(await run(['serve'], env)).toMatchObject({ code: 78, output: expect.stringContaining('LOOM_') });
  });

  test('a wrong password: the node waits, and reports the fault without the password', async () => {
    const url = new URL(server.url);
    url.password = secrets.wrongPassword;
    const node = await startProgram({ env: { ...tokens, LOOM_PG_URL: url.href, LOOM_LOG_LEVEL: 'trace' } });
    await waitUntil(
      () => fetch(`${node.url}/ready`).then((answer) => answer.text()),
      (text) => text.includes('db_unreachable'),
    );
    seen.push({ where: 'ready', text: await (await fetch(`${node.url}/ready`)).text() });
    expect(await node.stop()).toBe(0);
    expect(node.output()).toContain('28P01');
    seen.push({ where: 'a node with a wrong password', text: node.output() });
    expect(await run(['migrate'], { ...tokens, LOOM_PG_URL: url.href })).toMatchObject({ code: 1 });
  });

  test('a port that is in use: exit code 1', async () => {
    const { port } = new URL(program.url);
    expect(await run(['serve'], { ...tokens, LOOM_PG_URL: server.url, LOOM_PORT: port })).toMatchObject({ code: 1 });
  });
});

test('nothing that LOOM has written contains a token or a password', async () => {
  expect(await program.stop()).toBe(0);
  seen.push({ where: 'the log', text: program.output() });
  expect(program.output().split('\n').length).toBeGreaterThan(200);
  expect(seen.length).toBeGreaterThan(routes.length * presented.length);
  expect(password.length).toBeGreaterThan(8);
  expect(
    leaksIn([{ where: 'a sample', text: `"Basic ${Buffer.from(secrets.admin).toString('base64')}"` }]),
  ).toHaveLength(1);
  expect(leaksIn(seen)).toEqual([]);
});

function leaksIn(texts: typeof seen): string[] {
  return Object.entries({ ...secrets, password }).flatMap(([name, secret]) =>
    texts
      .filter(({ text }) => spellings(secret).some((spelling) => text.includes(spelling)))
      .map(({ where, text }) => `${name} in ${where}: ${text.slice(0, 300)}`),
  );
}

/** Returns the secret as it is, URL-encoded, and in Base64 as in a Basic credential. */
function spellings(secret: string): string[] {
  return [
    secret,
    encodeURIComponent(secret),
    Buffer.from(secret)
      .toString('base64')
      .replace(/.{2}=*$/, ''),
  ];
}
