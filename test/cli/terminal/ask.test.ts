import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { createAsk } from '../../../src/cli/terminal/ask.ts';
import { createProgress } from '../../../src/cli/terminal/progress.ts';
import { jsonLine, placeText, quoted, shellQuoted, sizeText } from '../../../src/cli/terminal/text.ts';
import { printable } from '../../../src/json/printable.ts';

function terminal(isTTY = true) {
  const controller = new AbortController();
  const [input, output] = [new PassThrough(), new PassThrough()].map((stream) => Object.assign(stream, { isTTY }));
  if (input === undefined || output === undefined) throw new Error('two streams were made');
  const streams = { input: input as unknown as NodeJS.ReadStream, output: output as unknown as NodeJS.WriteStream };
  const ask = createAsk({ ...streams, stop: controller.signal, interrupt: () => controller.abort() });
  return { ask, input, output, controller };
}

it('ask shows the question and returns the typed line', async () => {
  const { ask, input, output } = terminal();
  const answer = ask?.('Go on? ');
  input.write('restore\n');
  expect(await answer).toBe('restore');
  expect(output.read()?.toString()).toContain('Go on? ');
});

it('Ctrl-D counts as an empty answer, and the next output begins on a new line', async () => {
  const { ask, input, output } = terminal();
  const answer = ask?.('Go on? ');
  input.write('\u0004');
  expect(await answer).toBe('');
  expect(output.read()?.toString().endsWith('\n')).toBe(true);
});

it('the end of the input or a stop counts as an empty answer', async () => {
  const ended = terminal();
  const first = ended.ask?.('? ');
  ended.input.end();
  expect(await first).toBe('');
  const stopped = terminal();
  const second = stopped.ask?.('? ');
  stopped.controller.abort();
  expect(await second).toBe('');
  expect(await stopped.ask?.('? ')).toBe('');
});

it('Ctrl-C at a question stops the command', async () => {
  const { ask, input, controller } = terminal();
  const answer = ask?.('? ');
  input.write('\u0003');
  expect(await answer).toBe('');
  expect(controller.signal.aborted).toBe(true);
});

it('ask is undefined without a terminal', () => {
  expect(terminal(false).ask).toBeUndefined();
});

it('progress shows bytes, share and speed five times a second, and only on a terminal', () => {
  let now = 0;
  const lines: string[] = [];
  const writeError = (text: string): void => void lines.push(text.replace('\r\u001b[2K', ''));
  const progress = createProgress({ isWatched: true, writeError }, () => now);
  progress.begin('restore', 4_000_000);
  for (let step = 0; step < 10; step += 1) {
    now += 100;
    progress.count(100_000);
  }
  progress.end();
  expect(lines[0]).toBe('restore …');
  expect(lines).toContain('restore: 1.00 MB of 4.00 MB (25 %), 1.00 MB/s');
  expect(lines).toHaveLength(1 + 5 + 1);
  expect(lines.at(-1)).toBe('');

  lines.length = 0;
  const quiet = createProgress({ isWatched: false, writeError }, () => now);
  quiet.begin('restore');
  quiet.count(1);
  quiet.end();
  expect(lines).toEqual([]);
});

it('control characters in untrusted text are escaped', () => {
  expect(quoted('a"\u001b[2J\u202e\u009b')).toBe('"a\\"\\u001b[2J\\u202e\\u009b"');
  expect(printable('one\ntwo\r\u001b')).toBe('one\ntwo\\u000d\\u001b');
  expect(placeText({ document: 'a\u0007', pointer: '', offset: 3 }, ['more'])).toBe(
    ' (document "a\\u0007", byte 3, at the root, more)',
  );
  expect(placeText({})).toBe('');
  const json = jsonLine({ name: '\u001b\u009b\u202e\n' });
  expect(json).toBe('{"name":"\\u001b\\u009b\\u202e\\n"}\n');
  expect(JSON.parse(json)).toEqual({ name: '\u001b\u009b\u202e\n' });
});

it('a quoted word of a command line stays one word', () => {
  expect(shellQuoted("it's $HOME")).toBe(String.raw`'it'\''s $HOME'`);
});

it.each([
  [0, '0 bytes'],
  [999, '999 bytes'],
  [1_000, '1.00 kB'],
  [12_345, '12.3 kB'],
  [999_600, '1.00 MB'],
  [5_000_000_000, '5.00 GB'],
])('%i bytes are %s', (bytes, text) => {
  expect(sizeText(bytes)).toBe(text);
});
