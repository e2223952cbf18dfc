import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, inject, test } from 'vitest';
import { plainEnvironment } from '../../../src/dev/processes.ts';
import { createAnswerRecord } from '../../setup/answers/records.ts';
import { rounds } from '../../setup/depth.ts';
import { portOrAnother, waitUntil } from '../../setup/node/program.ts';
import { nodeUrl } from '../../setup/roles/node-url.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

const ADMIN_TOKEN = 'admin-token-of-the-log-test';
const asAdmin = { 'x-loom-admin-token': ADMIN_TOKEN, 'content-type': 'application/json' };

const cleanUps: (() => unknown)[] = [];
let database: TestDatabase | undefined;

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  await database?.drop();
  database = undefined;
});

interface QuietNode {
  url: string;
  child: ChildProcess;
  /** Sends SIGTERM, and resolves with the exit code and the milliseconds until the end. */
  stop(): Promise<{ code: number; ms: number }>;
}

/** Starts the program with this standard output, and resolves when it is ready. */
async function startWith(stdout: number | 'pipe', env: Record<string, string> = {}): Promise<QuietNode> {
  database = await createTestDatabase();
  const port = await portOrAnother(0);
  const variables = {
    LOOM_PG_URL: nodeUrl(database.url),
    LOOM_ADMIN_TOKEN: ADMIN_TOKEN,
    LOOM_PORT: String(port),
    ...env,
  };
  const record = createAnswerRecord();
  const recording = record === undefined ? [] : [record.option];
  const child = spawn(process.execPath, [...recording, inject('builtEntry'), 'serve'], {
    cwd: tmpdir(),
    env: { ...plainEnvironment, ...variables },
    stdio: ['ignore', stdout, 'ignore'],
  });
  cleanUps.push(() => child.kill('SIGKILL'));
  // `close` would wait for a pipe that nobody reads.
  const ended = once(child, 'exit');
  child.once('exit', () => record?.check());
  const url = `http://127.0.0.1:${port}`;
  await waitUntil(
    () =>
      fetch(`${url}/ready`).then(
        ({ status }) => status,
        () => 0,
      ),
    (status) => status === 200,
  );
  return {
    url,
    child,
    stop: async () => {
      const startedMs = performance.now();
      child.kill('SIGTERM');
      const [code] = await Promise.race([ended, sleep(20_000, [Number.NaN])]);
      return { code: code ?? -1, ms: performance.now() - startedMs };
    },
  };
}

/** The device of Linux on which every write fails because the disk is full. */
const fullDisks = ['/dev/full'].filter((path) => existsSync(path));

/** Creates a pipe that nobody reads and that has no room left. */
function openFullPipe(): { readEnd: number; writeEnd: number } {
  const directory = mkdtempSync(join(tmpdir(), 'loom-log-'));
  const path = join(directory, 'pipe');
  execFileSync('mkfifo', [path]);
  // The child process shares the flags of `writeEnd` and changes them. The test must not block, so it has its own ends.
  const readEnd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const filler = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  const writeEnd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  cleanUps.push(() => {
    for (const fd of [readEnd, filler, writeEnd]) closeSync(fd);
    rmSync(directory, { recursive: true });
  });
  try {
    for (;;) writeSync(filler, Buffer.alloc(4_096, 'x'));
  } catch {
    // The pipe is full.
  }
  return { readEnd, writeEnd };
}

/** Reads what is in a pipe now. */
function drain(fd: number): string {
  const chunk = Buffer.alloc(65_536);
  let text = '';
  try {
    for (;;) text += chunk.toString('utf8', 0, readSync(fd, chunk));
  } catch {
    return text;
  }
}

/** Makes the node write log lines of 15 KB each, more than its buffer holds. */
/** Exceeds `limits.maxLogBufferBytes` with lines of 2 KiB. */
const MANY_LINES = 2_500;
/** At quick depth, only the test of the kept lines fills the buffer. */
const LINES = rounds({ quick: 100, full: MANY_LINES });

async function writeLongLines(url: string, count: number): Promise<void> {
  // The log cuts longer paths.
  const path = `/${'x'.repeat(2_040)}`;
  for (let sent = 0; sent < count; sent += 50) {
    const answers = await Promise.all(Array.from({ length: 50 }, () => fetch(url + path)));
    await Promise.all(answers.map((answer) => answer.arrayBuffer()));
    for (const { status } of answers) expect(status).toBe(404);
  }
}

async function countDropped(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`, { headers: asAdmin })).text();
  return Number(/^loom_log_lines_dropped_total (\d+)$/m.exec(text)?.[1]);
}

async function expectService({ url }: QuietNode): Promise<void> {
  const put = { method: 'PUT', headers: asAdmin, body: '{"a":1}' };
  expect((await fetch(`${url}/v1/documents/a`, put)).status).toBeLessThan(300);
  expect((await fetch(`${url}/v1/state`, { headers: asAdmin })).status).toBe(200);
  expect((await fetch(`${url}/live`)).status).toBe(200);
}

/** Fills the log of a node, which then serves and ends in time. */
async function expectServiceAndStop(output: number | 'pipe'): Promise<void> {
  const node = await startWith(output, { LOOM_LOG_LEVEL: 'trace' });
  await writeLongLines(node.url, LINES);
  await expectService(node);
  if (LINES === MANY_LINES) expect(await countDropped(node.url)).toBeGreaterThan(0);
  const { code, ms } = await node.stop();
  expect(code).toBe(0);
  expect(ms).toBeLessThan(10_000);
}

describe('a node whose log cannot be written', () => {
  test.each(fullDisks)('serves and stops with a full disk (%s, where it exists)', async (path) => {
    const fd = openSync(path, 'w');
    cleanUps.push(() => closeSync(fd));
    await expectServiceAndStop(fd);
  });

  test.each([
    ['pipe', () => openFullPipe().writeEnd],
    ['socket', () => 'pipe' as const],
  ])('serves and stops while nobody reads its %s', async (_kind, open) => {
    await expectServiceAndStop(open());
  });

  test('serves and stops after the reader of its pipe has gone', async () => {
    const node = await startWith('pipe');
    node.child.stdout?.destroy();
    await writeLongLines(node.url, 20);
    await expectService(node);
    expect((await node.stop()).code).toBe(0);
  });

  test('writes the kept lines when the reader resumes, then says how many lines were dropped', async () => {
    const { readEnd, writeEnd } = openFullPipe();
    const node = await startWith(writeEnd);
    await writeLongLines(node.url, MANY_LINES);
    const dropped = await countDropped(node.url);
    expect(dropped).toBeGreaterThan(0);
    let text = '';
    await waitUntil(
      async () => {
        text += drain(readEnd);
        return text.includes('lines were dropped');
      },
      (seen) => seen,
    );
    const lines = text
      .slice(text.indexOf('{'))
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line));
    expect(lines.filter(({ msg }) => msg === 'listening')).toHaveLength(1);
    expect(lines.find(({ dropped: count }) => count !== undefined)).toMatchObject({
      level: 'error',
      dropped,
      msg: `${dropped} log lines were dropped: they could not be written in time`,
    });
    expect(lines.filter(({ status }) => status === 404)).toHaveLength(MANY_LINES - dropped);
    const stopped = node.stop();
    await waitUntil(
      async () => {
        text += drain(readEnd);
        return text.includes('"msg":"stopped"');
      },
      (seen) => seen,
    );
    expect((await stopped).code).toBe(0);
  });
});

test('an error at start reaches standard error although the log cannot be written', async () => {
  const child = spawn(process.execPath, [inject('builtEntry'), 'serve'], {
    cwd: tmpdir(),
    env: { ...plainEnvironment, LOOM_ADMIN_TOKEN: 'short' },
    stdio: ['ignore', openFullPipe().writeEnd, 'pipe'],
  });
  let text = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    text += chunk.toString('utf8');
  });
  const [code] = await once(child, 'close');
  expect({ code, text }).toMatchObject({ code: 78, text: expect.stringContaining('LOOM_ADMIN_TOKEN') });
});
