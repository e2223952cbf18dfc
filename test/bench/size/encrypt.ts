import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { createEphemeralKey, encryptStream } from '../../../src/backup/stored/encryption.ts';
import { createRandom } from '../../setup/values/random.ts';
import type { BenchOptions, Figure } from '../results.ts';

const MiB = 2 ** 20;

/** Compares the processor time of encrypting a stored backup with that of compressing it. */
export async function benchmarkEncrypt({ full }: BenchOptions): Promise<Figure[]> {
  const piece = Buffer.from(makeText(4 * MiB));
  const pieces = full ? 75 : 16;
  const bytes = pieces * piece.length;
  const packed: Buffer[] = [];
  const gzip = await measure(() =>
    pipeline(
      repeat(piece, pieces),
      createGzip(),
      new Writable({
        write: (chunk, _encoding, done) => {
          packed.push(chunk);
          done();
        },
      }),
    ),
  );
  const packedBytes = packed.reduce((sum, chunk) => sum + chunk.length, 0);
  const { recipient } = await createEphemeralKey();
  const age = await measure(async () => {
    const encrypted = await encryptStream(Readable.from(packed, { objectMode: false }), [recipient]);
    await pipeline(encrypted, new Writable({ write: (_chunk, _encoding, done) => done() }));
  });
  return [
    { name: 'gzip, of the text', value: bytes / MiB / gzip, unit: 'MiB/s' },
    { name: 'size after gzip', value: packedBytes / bytes, unit: '×', comparedWith: 'the text' },
    { name: 'age, of the compressed text', value: packedBytes / MiB / age, unit: 'MiB/s' },
    { name: 'age', value: age / gzip, unit: '×', comparedWith: 'processor time of gzip', goal: { atMost: 0.5 } },
  ];
}

/** Returns text like that of a backup: names repeat, values and hashes differ. */
function makeText(bytes: number): string {
  const random = createRandom(1);
  const lines: string[] = [];
  for (let length = 0; length < bytes; length += lines.at(-1)?.length ?? 0) {
    const value = { id: random.integer(0, 2 ** 31), state: 'active', amount: random.integer(0, 9_999) };
    const hash = Array.from({ length: 8 }, () => random.integer(0, 2 ** 31).toString(16)).join('');
    lines.push(`${JSON.stringify({ seq: lines.length, hash, actor: 'client', changes: [{ value }] })},\n`);
  }
  return lines.join('');
}

function repeat(piece: Buffer, times: number): Readable {
  return Readable.from(
    (function* () {
      for (let turn = 0; turn < times; turn += 1) yield piece;
    })(),
    { objectMode: false },
  );
}

/** Returns the processor time in seconds. */
async function measure(work: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}
