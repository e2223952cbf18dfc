import { readFileSync } from 'node:fs';
import { parse } from 'dotenv';
import { describe, expect, test } from 'vitest';
import { configVariables, parseConfig } from '../../src/config/config.ts';

const example = readFileSync(new URL('../../.env.example', import.meta.url), 'utf8');
const page = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
const variables = configVariables();
const allNames = variables.flatMap(({ name, secret }) => (secret ? [name, `${name}_FILE`] : [name])).sort();

/** Lines of `.env.example`: `NAME=value` for required variables, `# NAME=value` for the others. */
const assignments = [...example.matchAll(/^(# ?)?(LOOM_[A-Z0-9_]+)=(.*)$/gm)].map(([, comment, name, value]) => ({
  commented: comment !== undefined,
  name: name ?? '',
  value: value ?? '',
}));

/** Rows of the page's tables: name, default, description. */
const rows = [...page.matchAll(/^\| `(LOOM_[A-Z0-9_]+)` \| (.*?) \| (.*) \|$/gm)].map(([, name, value, text]) => ({
  name: name ?? '',
  value: value ?? '',
  text: text ?? '',
}));

describe('.env.example', () => {
  test('lists every variable once, and no other', () => {
    expect(assignments.map(({ name }) => name).sort()).toEqual(allNames);
  });

  test('shows the default of each variable, and sets only required ones', () => {
    for (const { name, commented, value } of assignments) {
      const variable = variables.find((candidate) => candidate.name === name);
      expect([name, commented]).toEqual([name, variable?.required !== true]);
      if (variable?.default !== undefined) expect([name, value]).toEqual([name, variable.default]);
    }
  });

  test('describes each variable right above it, in the words of the schema', () => {
    const words = example.replace(/\n# (?!LOOM_[A-Z0-9_]+=)/g, ' ');
    for (const { name, description } of variables) {
      const at = words.search(new RegExp(`^(# )?${name}=`, 'm'));
      const above = words.slice(0, at).trimEnd();
      expect(above.endsWith(description) ? name : `${name}: ${above.slice(-description.length)}`).toBe(name);
    }
  });

  test('is not a valid configuration until its tokens are filled in', () => {
    const readFile = () => '';
    expect(() => parseConfig(parse(example), { readFile })).toThrow('LOOM_ADMIN_TOKEN');
    const filled = { ...parse(example), LOOM_ADMIN_TOKEN: 'a-token-that-was-made-up' };
    expect(parseConfig(filled, { readFile }).http.port).toBe(8787);
  });
});

describe('docs/configuration.md', () => {
  test('has every variable once, and no other', () => {
    expect(rows.map(({ name }) => name).sort()).toEqual(variables.map(({ name }) => name).sort());
  });

  test('gives each variable the default and the description of the schema', () => {
    for (const { name, default: value, required, description } of variables) {
      const shown = required ? '**required**' : value === undefined ? '' : `\`${value}\``;
      expect(rows.find((row) => row.name === name)).toEqual({ name, value: shown, text: description });
    }
  });

  test('mentions no variable that does not exist', () => {
    const mentioned = [...page.matchAll(/LOOM_[A-Z]+(?:_[A-Z0-9]+)*/g)].map(([name]) => name);
    const foreign = ['LOOM_TEST', 'LOOM_SERVICE_HOST'];
    expect(mentioned.filter((name) => !allNames.includes(name) && !foreign.includes(name))).toEqual([]);
  });
});
