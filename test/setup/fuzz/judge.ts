import { errorCodes } from '../../../src/errors.ts';
import { assertDescribed } from '../node/described.ts';
import type { WireAnswer } from './wire.ts';

/** Codes of a healthy node that is asked for too much at a time. */
const allowedUnavailable = new Set(['node_busy', 'streams_busy', 'queue_full']);

const titles = new Map<string, string>(errorCodes().map(({ code, title }) => [code, title]));

/** Text of faults that a program shows by mistake: of JavaScript, of PostgreSQL, and of a missing value. */
const leaks = [
  /\bundefined\b|\[object |\bNaN\b/,
  /\b(?:Type|Range|Syntax|Reference|Zod|Assertion)Error\b|Cannot read|is not a function|FST_ERR/,
  /\.(?:ts|js):\d+|node_modules|\n/,
  /\b(?:relation|column|constraint|plpgsql|jsonb|syntax error|loom_[a-z]+\()\b/,
];

/** Names in an error come from the request. An error must stay small all the same. */
const maxDetailCharacters = 4_096;
const maxProblemCharacters = 16_384;

/** Throws unless the answer is one that a healthy node gives, and that docs/openapi.json describes for the target. */
export function judgeAnswer(
  { method, target }: { method: string; target: string },
  answer: WireAnswer,
  secrets: readonly string[],
): void {
  const { status, headers, text } = answer;
  if (status >= 500 && !isOverload(answer)) throw new Error(`status ${status}: ${text}`);
  if (isPlain(target)) assertDescribed({ method, url: target, status, headers, text });
  for (const secret of secrets) if (text.includes(secret)) throw new Error('the answer contains a token');
  if (status >= 400 && method !== 'HEAD') judgeProblem(status, text, headers['x-request-id']);
}

/** Throws unless the answer has the id of the request, if that has one that the node keeps. */
export function judgeRequestId(sent: readonly [name: string, value: string][], { status, headers }: WireAnswer): void {
  const ids = sent.filter(([name]) => name.toLowerCase() === 'x-request-id').map(([, value]) => value.trim());
  const [id = ''] = ids;
  // Node's parser refuses some requests before it knows their headers.
  const isRead = status !== 400 && status !== 431;
  if (ids.length === 1 && isRead && /^[!-~]{1,128}$/.test(id) && !/["\\]/.test(id) && headers['x-request-id'] !== id) {
    throw new Error(`the answer has the id ${headers['x-request-id']} instead of ${id}`);
  }
}

/** Throws unless the answer is well-formed, and a problem or a success. The request has no known route. */
export function judgeAnyAnswer(answer: WireAnswer, secrets: readonly string[]): void {
  if (answer.status >= 500 && !isOverload(answer)) throw new Error(`status ${answer.status}: ${answer.text}`);
  for (const secret of secrets) if (answer.text.includes(secret)) throw new Error('the answer contains a token');
  if (answer.status >= 400) judgeProblem(answer.status, answer.text, answer.headers['x-request-id']);
}

/** Returns whether the path stays as it is in a URL. The node resolves no `..`, and takes a backslash as it is. */
function isPlain(target: string): boolean {
  const path = target.replace(/^https?:\/\/[^/?#]*/i, '').replace(/[?#].*/s, '');
  return (
    !target.startsWith('//') && URL.canParse(target, 'http://node') && new URL(target, 'http://node').pathname === path
  );
}

function isOverload({ status, text }: WireAnswer): boolean {
  return status === 503 && text !== '' && allowedUnavailable.has(JSON.parse(text).code);
}

/** Throws unless the problem is in whole sentences of English, and shows nothing of the inside of the node. */
export function judgeProblem(status: number, text: string, requestId?: string): void {
  const problem: Record<string, unknown> = JSON.parse(text);
  const { code, title, detail } = problem;
  if (problem.status !== status) throw new Error(`the problem has another status: ${text}`);
  if (titles.get(String(code)) !== title) throw new Error(`the title is not that of the code: ${text}`);
  if (requestId !== undefined && problem.request_id !== requestId) throw new Error(`the request id differs: ${text}`);
  const sentence = String(detail);
  // A path at the end of a sentence has no full stop, so that it can be copied.
  if (!/^["\p{L}0-9].*(?:[.)]|: \/\S+)$/su.test(sentence)) throw new Error(`the detail is no sentence: ${text}`);
  if (text.length > maxProblemCharacters) throw new Error(`the problem has ${text.length} characters`);
  if (sentence.length > maxDetailCharacters) throw new Error(`the detail has ${sentence.length} characters`);
  // A document of any name can be quoted in it.
  const unquoted = sentence.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""');
  const leak = leaks.find((one) => one.test(unquoted));
  if (leak !== undefined) throw new Error(`the detail shows ${leak}: ${text}`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: finds them
  if (/[\u0000-\u001f\u007f-\u009f]/.test(sentence)) {
    throw new Error(`the detail has a control character: ${text}`);
  }
}
