import { constants, gunzipSync } from 'node:zlib';
import { assertDescribed, assertPartDescribed } from '../node/described.ts';
import type { SentAnswer } from './recorder.ts';

/** Throws unless docs/openapi.json describes the answer, as far as it was sent. */
export function assertSent({ method, url, head, body, isWhole }: SentAnswer): void {
  const [statusLine = '', ...lines] = head.trimEnd().split('\r\n');
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
  );
  // Every node sends both headers. Other servers of the tests do not.
  if (headers['x-request-id'] === undefined || headers['cache-control'] !== 'no-store') return;
  const isGzip = headers['content-encoding'] === 'gzip' && body.length > 0;
  const plain = isGzip ? gunzipSync(body, { finishFlush: constants.Z_SYNC_FLUSH }) : body;
  const answer = { method, url, status: Number(statusLine.split(' ')[1]), headers, text: plain.toString('utf8') };
  if (isWhole) assertDescribed(answer);
  else assertPartDescribed(answer);
}
