import { expect, test } from 'vitest';
import { LazyLog } from '../../../src/http/lazy-log.ts';
import { captureLog } from '../../setup/node/log.ts';

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;

test('a lazy log writes what the child would write, at each level', () => {
  const lines = levels.map((level) => {
    const eager = captureLog();
    eager.log.child({ requestId: 'r1' })[level]({ err: new Error('x'), token: 'hunter2' }, 'failed %s', 'here');
    const lazy = captureLog();
    new LazyLog(lazy.log, { requestId: 'r1' })[level]({ err: new Error('x'), token: 'hunter2' }, 'failed %s', 'here');
    const comparable = (text: string) => text.replace(/"time":"[^"]+"|"stack":"[^"]+"/g, '');
    expect(comparable(lazy.text())).toBe(comparable(eager.text()));
    return JSON.parse(lazy.text());
  });
  expect(lines.map(({ level }) => level)).toEqual(levels);
  expect(lines[0]).toMatchObject({ requestId: 'r1', token: '[redacted]', msg: 'failed here' });
});

test('a lazy log creates its child once, at the first line', () => {
  const { log, lines } = captureLog();
  let children = 0;
  const parent = Object.assign(Object.create(log), {
    child: (bindings: Record<string, unknown>) => {
      children += 1;
      return log.child(bindings);
    },
  });
  const lazy = new LazyLog(parent, { requestId: 'r1' });
  expect([lazy.level, children]).toEqual(['trace', 0]);
  lazy.silent();
  lazy.info('one');
  lazy.child({ more: 1 }).info('two');
  expect(children).toBe(1);
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ msg: 'one' }, { requestId: 'r1', more: 1 }]);
});
