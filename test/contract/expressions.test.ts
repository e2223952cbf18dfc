import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

// Everyone may send LOOM a header, a query or a body. So no regular expression may take more than linear time. This
// test finds every one in `src/` and attacks it with repetitions of its own characters.

const src = fileURLToPath(new URL('../../src', import.meta.url));

/** Lists quadratic expressions whose input is an argument or a variable of the operator, never of a client. */
const ownInput = ['cli/restore.ts /\\/+$/', 'http/client/transport.ts /\\/+$/'];

const sources = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts') && !path.startsWith('dev/'))
  .map((path) => ({ path, code: withoutComments(readFileSync(join(src, path), 'utf8')) }));

function withoutComments(text: string): string {
  return text
    .split('\n')
    .filter((line) => !/^\s*(?:\/\/|\/?\*)/.test(line))
    .join('\n');
}

/** Finds the literals behind an opening bracket, operator or comma. */
function literalsOf(code: string): RegExp[] {
  const literal =
    /(?<=[(=,:!&|?[]\s*|\s)\/(?![/*\s])((?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+)\/([dgimsuvy]*)(?=[\s.,;)\]])/g;
  return [...code.matchAll(literal)].map(([, source = '', flags = '']) => new RegExp(source, flags));
}

const LENGTH = 10_000;
/** Is far above the ratio of a linear expression (about 10), and far below that of a quadratic one (about 5,000). */
const MAX_RATIO = 300;

/** Returns the processor time of an attempt in microseconds: the least of three, because a process has other work. */
function timeOf(expression: RegExp, text: string): number {
  let least = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < 3; attempt += 1) {
    expression.lastIndex = 0;
    const before = process.hrtime.bigint();
    expression.exec(text);
    least = Math.min(least, Number(process.hrtime.bigint() - before) / 1_000);
    if (least < LINEAR_US * MAX_RATIO) break;
  }
  return least;
}

const linear = /^[^!]*$/;
const LINEAR_US = Math.max(...[1, 2, 3].map(() => measure(() => linear.test(`${'a'.repeat(LENGTH)}!`))), 5);

function measure(act: () => unknown): number {
  const before = process.hrtime.bigint();
  act();
  return Number(process.hrtime.bigint() - before) / 1_000;
}

/** Returns inputs that make a backtracking expression try every way to split a repetition. */
function attacksOn({ source }: RegExp): string[] {
  const letters = [...new Set([...source.replace(/\\./g, ''), ...' \t,;="-_.0aA/%:\ud800\u0001é'])];
  const words = source.match(/[a-zA-Z-]{2,}/g) ?? [];
  const units = [...letters, ...words, ' ,', 'a.', 'a,', '0.', 'a=', ';a', '"a",'];
  const prefixes = ['', ...words.map((word) => `${word} `), '"', '/', 'http://', 'postgres://'];
  return units.flatMap((unit) =>
    prefixes.flatMap((prefix) => ['', '!', '\n'].map((end) => prefix + unit.repeat(LENGTH / unit.length) + end)),
  );
}

/** Returns the beginning of an input that takes too long; undefined for a linear expression. */
function slowInput(expression: RegExp): string | undefined {
  const slow = attacksOn(expression).find((text) => timeOf(expression, text) > LINEAR_US * MAX_RATIO);
  return slow?.slice(0, 20);
}

describe('no regular expression takes more than linear time', () => {
  const found = sources
    .flatMap(({ path, code }) => literalsOf(code).map((expression) => ({ path, expression })))
    .filter(({ path, expression }) => !ownInput.includes(`${path} ${expression}`));

  test('the search finds those that it should', () => {
    expect(found.length).toBeGreaterThan(30);
    for (const path of ['http/request/tokens.ts', 'http/request/query.ts', 'domain/document.ts', 'log.ts'])
      expect(found.map((one) => one.path)).toContain(path);
  });

  test.each([/[ \t,]+$/, /(?:postgres:\/\/)?[^@]*@/])('the attacks find that %s backtracks', (expression) => {
    // A busy machine can make the linear expressions look slow, and this one not slower.
    expect(slowInput(expression) ?? slowInput(expression) ?? slowInput(expression)).toBeDefined();
  });

  test.each(found)('$path: $expression', ({ expression }) => {
    // A repeated group that can match in several ways takes exponential time, which no measurement survives.
    expect(expression.source).not.toMatch(/\((?:[^()]|\\.)*[+*](?:[^()]|\\.)*\)[+*{]/);
    expect(slowInput(expression)).toBeUndefined();
  });

  test('an expression that is built from limits has no unbounded repetition', () => {
    // The commands build one for their own help texts.
    for (const { path, code } of sources.filter((source) => !source.path.startsWith('cli/'))) {
      for (const [built] of code.matchAll(/new RegExp\(`[^`]*`/g)) {
        expect([path, built.replace(/\[[^\]]*\]/g, '')]).toEqual([path, expect.not.stringMatching(/[*+]/)]);
      }
    }
  });
});
