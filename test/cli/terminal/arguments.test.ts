import { expect, test } from 'vitest';
import { flag, parseArguments, UsageError, valued } from '../../../src/cli/terminal/arguments.ts';

const options = {
  actor: valued('NAME', 'a name'),
  against: { ...valued('FILE', 'files'), multiple: true },
  yes: flag('a flag'),
};

test('an option that takes one value is refused twice, instead of ignoring one value', () => {
  const parse = (...args: string[]) => parseArguments(args, options, 0);
  expect(() => parse('--actor', 'a', '--actor=b')).toThrow(new UsageError('--actor is given twice. Give it once.'));
  expect(parse('--actor', 'a', '--yes', '--yes', '--against', 'x', '--against', 'y')).toMatchObject({
    values: { actor: 'a', yes: true, against: ['x', 'y'] },
  });
});
