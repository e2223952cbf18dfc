import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';
import { limits } from '../src/limits.ts';
import { createLogOutput, type LogOutput } from '../src/log-output.ts';

const cleanUps: (() => void)[] = [];

afterEach(() => {
  for (const cleanUp of cleanUps.splice(0).reverse()) cleanUp();
});

function createDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'loom-log-output-'));
  cleanUps.push(() => rmSync(directory, { recursive: true }));
  return directory;
}

function open(path: string, flags: number | string): number {
  const fd = openSync(path, flags);
  cleanUps.push(() => closeSync(fd));
  return fd;
}

function openPipe(): { readEnd: number; writeEnd: number } {
  const path = join(createDirectory(), 'pipe');
  execFileSync('mkfifo', [path]);
  const readEnd = open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return { readEnd, writeEnd: open(path, constants.O_WRONLY | constants.O_NONBLOCK) };
}

/** Reads once what is in the pipe, at most `bytes`. */
function readSome(fd: number, bytes: number): string {
  const chunk = Buffer.alloc(bytes);
  try {
    return chunk.toString('utf8', 0, readSync(fd, chunk));
  } catch {
    return '';
  }
}

function flush(output: LogOutput): Promise<void> {
  return new Promise((resolve) => output.flush(resolve));
}

test('lines arrive whole and in order, in a file and through a pipe whose reader is slow', async () => {
  const lines = Array.from({ length: 3_000 }, (_, index) => `${index} ${'é'.repeat(index % 200)}\n`);
  const path = join(createDirectory(), 'log');
  const toFile = createLogOutput({ fd: open(path, 'w') });
  for (const line of lines) toFile.write(line);
  await flush(toFile);
  expect(readFileSync(path, 'utf8')).toBe(lines.join(''));

  const { readEnd, writeEnd } = openPipe();
  const toPipe = createLogOutput({ fd: writeEnd });
  for (const line of lines) toPipe.write(line);
  const chunks: Buffer[] = [];
  const total = Buffer.byteLength(lines.join(''));
  for (let received = 0; received < total; ) {
    const chunk = Buffer.alloc(20_011);
    try {
      const bytes = readSync(readEnd, chunk);
      received += bytes;
      chunks.push(chunk.subarray(0, bytes));
    } catch {
      // The pipe is empty.
    }
    await sleep(1);
  }
  expect(Buffer.concat(chunks).toString('utf8')).toBe(lines.join(''));
  expect(toPipe.droppedLines()).toBe(0);
});

test('the lines of a short time share one write, and a flush does not wait for its end', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  cleanUps.push(() => vi.useRealTimers());
  const { readEnd, writeEnd } = openPipe();
  const output = createLogOutput({ fd: writeEnd });
  output.write('one\n');
  await new Promise(setImmediate);
  output.write('two\n');
  expect(readSome(readEnd, 100)).toBe('');
  vi.advanceTimersByTime(limits.logGatherMs);
  output.write('three\n');
  await flush(output);
  output.write('four\n');
  await flush(output);
  expect(readSome(readEnd, 100)).toBe('one\ntwo\nthree\nfour\n');
});

test('lines beyond the bound are dropped and counted, and reported once when there is room', async () => {
  const { readEnd, writeEnd } = openPipe();
  const reports: number[] = [];
  const output = createLogOutput({
    fd: writeEnd,
    maxBufferBytes: 200_000,
    onResume: (dropped) => {
      reports.push(dropped);
      output.write(`${dropped} dropped\n`);
    },
  });
  const line = `${'x'.repeat(999)}\n`;
  for (let index = 0; index < 1_000; index += 1) output.write(line);
  const dropped = output.droppedLines();
  expect(dropped).toBe(800);
  expect(reports).toEqual([]);
  let text = '';
  while (!text.includes(' dropped\n')) {
    text += readSome(readEnd, 65_536);
    await sleep(1);
  }
  expect(reports).toEqual([dropped]);
  expect(text).toBe(`${line.repeat(1_000 - dropped)}${dropped} dropped\n`);
});

test('a flush ends although nobody reads', async () => {
  const { writeEnd } = openPipe();
  const output = createLogOutput({ fd: writeEnd });
  for (let index = 0; index < 1_000; index += 1) output.write(`${'x'.repeat(999)}\n`);
  await flush(output);
  expect(output.droppedLines()).toBe(0);
});

test('a flush waits for every line, also for the one about dropped lines', async () => {
  const { readEnd, writeEnd } = openPipe();
  const output = createLogOutput({
    fd: writeEnd,
    maxBufferBytes: 200_000,
    onResume: (dropped) => output.write(`${dropped} dropped\n`),
  });
  // Longer than the buffer of a pipe: the line about dropped lines goes out with the rest, in the second write.
  const line = `${'x'.repeat(119_999)}\n`;
  output.write(line);
  output.write(line);
  let isDone = false;
  output.flush(() => {
    isDone = true;
  });
  let text = '';
  while (!isDone) {
    text += readSome(readEnd, 65_536);
    await sleep(1);
  }
  for (let more = readSome(readEnd, 65_536); more !== ''; more = readSome(readEnd, 65_536)) text += more;
  expect(text.length).toBe(line.length + '1 dropped\n'.length);
  expect(text.endsWith('x\n1 dropped\n')).toBe(true);
});
