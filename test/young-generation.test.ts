import { expect, test } from 'vitest';
import { countStreamedBytes } from '../src/young-generation.ts';

const MiB = 2 ** 20;
const CHUNK_BYTES = 64 * 1024;

test('the buffers of a long stream do not wait for a collection', () => {
  const before = process.memoryUsage().arrayBuffers;
  let peak = 0;
  for (let sent = 0; sent < 512 * MiB; sent += CHUNK_BYTES) {
    Buffer.allocUnsafeSlow(CHUNK_BYTES);
    countStreamedBytes(CHUNK_BYTES);
    peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
  }
  // Without a collection, V8 lets about 64 MiB come together.
  expect(peak).toBeLessThan(16 * MiB);
});
