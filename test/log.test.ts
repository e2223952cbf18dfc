import { describe, expect, test } from 'vitest';
import { LoomError } from '../src/errors.ts';
import { limits } from '../src/limits.ts';
import { createLogger, withoutRedaction } from '../src/log.ts';
import { captureLog } from './setup/node/log.ts';

const SECRET = 'hunter2-hunter2-hunter2';

function lineOf(write: (log: ReturnType<typeof captureLog>['log']) => void, secrets: string[] = []) {
  const captured = captureLog(secrets);
  write(captured.log);
  expect(captured.lines).toHaveLength(1);
  return { text: captured.text(), line: JSON.parse(captured.text()) };
}

test('a line is one JSON object with time, level by name and message', () => {
  const { line } = lineOf((log) => log.warn({ attempts: 3 }, 'careful'));
  expect(line).toMatchObject({ level: 'warn', service: 'loom', attempts: 3, msg: 'careful' });
  expect(Date.parse(line.time)).not.toBeNaN();
  expect(line).not.toHaveProperty('hostname');
});

test('a line has no character that a terminal obeys or hides, and its values stay as they are', () => {
  const hostile = 'x\u001b[2J\u007f\u009b31m\u202e\u2066\u2028\u200b\u{e0041}\n';
  const { text, line } = lineOf((log) => log.warn({ name: hostile, err: new Error(hostile) }, hostile));
  expect(text.trimEnd()).toMatch(/^[\x20-\x7e]*$/);
  expect(line).toMatchObject({ name: hostile, err: { message: hostile }, msg: hostile });
});

test('a line below the level is not written', () => {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  const log = createLogger({ level: 'warn', stream });
  log.info('quiet');
  log.warn('loud');
  createLogger({ level: 'silent', stream }).fatal('nothing');
  expect(lines).toHaveLength(1);
});

test.each([
  'authorization',
  'Authorization',
  'proxy-authorization',
  'cookie',
  'set-cookie',
  'x-loom-admin-token',
  'password',
  'token',
  'tokens',
  'connectionString',
  'LOOM_PG_URL',
  'LOOM_ADMIN_TOKEN',
  'LOOM_CLIENT_TOKEN',
])('a member named %s is redacted, three levels deep', (name) => {
  for (const nested of [{ [name]: SECRET }, { a: { [name]: SECRET } }, { a: { b: { [name]: [SECRET] } } }]) {
    const { text } = lineOf((log) => log.info(nested, 'something'));
    expect(text).not.toContain('hunter2');
    expect(text).toContain('[redacted]');
  }
});

test('redaction does not change the logged object', () => {
  const headers = { authorization: SECRET };
  lineOf((log) => log.info({ headers }));
  expect(headers.authorization).toBe(SECRET);
});

describe('an error', () => {
  test('is logged with its type, message, code, stack and causes', () => {
    const cause = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED', syscall: 'connect' });
    const error = new LoomError('invalid_number', 'No.', { pointer: '/a', cause });
    expect(lineOf((log) => log.error({ err: error })).line.err).toMatchObject({
      type: 'LoomError',
      message: 'No.',
      code: 'invalid_number',
      place: { pointer: '/a' },
      stack: expect.stringContaining('log.test.ts'),
      cause: { code: 'ECONNREFUSED', syscall: 'connect' },
    });
  });

  test('is logged without members that may contain secrets, at any depth', () => {
    const inner = Object.assign(new Error('inner'), { client: { connectionParameters: { password: SECRET } } });
    const error = Object.assign(new Error('outer', { cause: inner }), {
      config: { url: SECRET },
      headers: { 'x-loom-admin-token': SECRET },
      parameters: [SECRET],
    });
    for (const record of [error, { err: error }, { error }, { err: new AggregateError([error], 'several') }]) {
      const { text } = lineOf((log) => log.error(record, 'failed'));
      expect(text).not.toContain('hunter2');
      expect(text).toContain('inner');
    }
  });

  test('is logged to a bounded depth when it is its own cause', () => {
    const error = new Error('round');
    error.cause = error;
    expect(lineOf((log) => log.error({ err: error })).text.length).toBeLessThan(50_000);
  });

  test('can be any thrown value', () => {
    for (const thrown of ['a string', 7, null, undefined, { token: SECRET }])
      expect(lineOf((log) => log.error({ err: thrown, there: true })).text).not.toContain('hunter2');
  });
});

describe('the filter of finished lines', () => {
  test('replaces a known secret anywhere in the line, which stays JSON', () => {
    const secret = 'quote"and\\backslash-0123';
    const { line, text } = lineOf((log) => log.info({ note: `see ${secret}!` }, `the token is ${secret}`), [secret]);
    expect(line).toMatchObject({ note: 'see [redacted]!', msg: 'the token is [redacted]' });
    expect(text).not.toContain('backslash-0123');
  });

  test('replaces the user and password of an unknown connection URL', () => {
    const { line } = lineOf((log) => log.info('trying postgresql://loom:hunter2@db/loom and postgres://db/loom'));
    expect(line.msg).toBe('trying postgresql://[redacted]@db/loom and postgres://db/loom');
  });

  test('works for child loggers', () => {
    const { text } = lineOf((log) => log.child({ who: SECRET }).info({ password: SECRET }, SECRET), [SECRET]);
    expect(text).not.toContain('hunter2');
  });
});

test('the path of a request is cut off in the log beyond a length that no route needs', () => {
  const pathOf = (url: string): string => lineOf((log) => log.info({ req: { url } }, 'request')).line.req.path;
  const longest = `/v1/documents/${'%41'.repeat(limits.maxDocumentNameBytes)}`;
  expect(pathOf(`${longest}?a=b`)).toBe(longest);
  expect(pathOf(`/${'x'.repeat(16_000)}`)).toBe(`/${'x'.repeat(limits.maxLoggedPathCharacters - 1)}…`);
});

test('a request is logged by method, path, address and id, without query and headers', () => {
  const request = {
    id: 'req-1',
    method: 'GET',
    url: `/v1/state?token=${SECRET}`,
    ip: '10.0.0.9',
    headers: { authorization: SECRET },
  };
  const { line, text } = lineOf((log) => log.info({ req: request }));
  expect(line.req).toEqual({ id: 'req-1', method: 'GET', path: '/v1/state', remoteAddress: '10.0.0.9' });
  expect(text).not.toContain('hunter2');
});

describe('a log without redaction', () => {
  const request = {
    id: 'r1',
    method: 'GET',
    url: '/v1/documents/a?token=t',
    ip: '192.0.2.1',
    headers: { cookie: SECRET },
  };
  const harmless = { req: request, status: 200, durationMs: 1.5, actor: 'admin', code: undefined };

  test('writes a line of harmless members exactly as the log with redaction does', () => {
    const withTime = (text: string): string => text.replace(/"time":"[^"]+"/, '"time"');
    const usual = lineOf((log) => log.info(harmless, 'request answered'));
    const quick = lineOf((log) => withoutRedaction(log).info(harmless, 'request answered'));
    expect(withTime(quick.text)).toBe(withTime(usual.text));
    expect(quick.text).not.toContain('token');
  });

  test('still replaces known secrets, connection URLs and control characters, and reduces errors', () => {
    const hostile = {
      path: `/v1/${SECRET}`,
      url: 'postgres://loom:pass@db/loom',
      name: 'a\u009b31m',
      err: new LoomError('internal', 'x'),
    };
    const { text, line } = lineOf((log) => withoutRedaction(log).info(hostile, 'something'), [SECRET]);
    expect(text).not.toMatch(/hunter2|loom:pass/);
    expect(text.trimEnd()).toMatch(/^[\x20-\x7e]*$/);
    expect(line).toMatchObject({
      path: '/v1/[redacted]',
      name: hostile.name,
      err: { type: 'LoomError', code: 'internal' },
    });
  });

  test('leaves the redaction of the log and of its children as it is', () => {
    const { text } = lineOf((log) => {
      withoutRedaction(log);
      log.child({ password: SECRET }).info({ token: SECRET }, 'something');
    });
    expect(text).not.toContain('hunter2');
  });
});
