import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { runProgramToEnd } from '../setup/node/program.ts';
import { codesIn, tableRows } from './rules/tables.ts';

const page = (name: string): Promise<string> => readFile(new URL(`../../docs/${name}`, import.meta.url), 'utf8');

test('docs/operations.md lists every command of the program, and no other', async () => {
  const { output } = await runProgramToEnd(['help'], {});
  const commands = [...output.matchAll(/^ {2}([a-z]+) +\S/gm)].map(([, name = '']) => name);
  const documented = tableRows(await page('operations.md'), 'command').flatMap(([cell = '']) =>
    codesIn(cell).map((code) => code.split(' ')[0] ?? ''),
  );
  const withoutAliases = (names: string[]): string[] =>
    names.filter((name) => !['help', '--version'].includes(name)).sort();
  expect(withoutAliases(documented)).toEqual(withoutAliases(commands));
});

test.each(['backup', 'backups', 'restore', 'undo', 'status', 'drill'])(
  'docs/client-commands.md names every option of %s',
  async (command) => {
    const { output } = await runProgramToEnd([command, '--help'], {});
    const options = [...output.matchAll(/--[a-z]+(?:-[a-z]+)*/g)].map(([option]) => option);
    expect(options.length).toBeGreaterThan(1);
    const text = await page('client-commands.md');
    expect(options.filter((option) => !text.includes(option))).toEqual([]);
  },
);
