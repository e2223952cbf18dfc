// Room `deploy`: the files of docs/deploy, and the programs that read them.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = new URL('../../../docs/deploy/', import.meta.url);

/** Returns the path of a file of `docs/deploy`. */
export function deployPath(name: string): string {
  return fileURLToPath(new URL(name, folder));
}

/** Reads a file of `docs/deploy`. */
export function readDeployFile(name: string): string {
  return readFileSync(deployPath(name), 'utf8');
}

/** Returns the number in the only match of the pattern. A directive that occurs twice would hide one of its values. */
export function numberIn(text: string, pattern: RegExp): number {
  const found = [...text.matchAll(new RegExp(pattern, 'gm'))];
  if (found.length !== 1) throw new Error(`${pattern} matches ${found.length} times`);
  return Number(found[0]?.[1]);
}

/** Replaces each text, which must occur. So a test notices if a file no longer has the text that it replaces. */
export function replaceEach(text: string, replacements: Record<string, string>): string {
  return Object.entries(replacements).reduce((replaced, [from, to]) => {
    if (!replaced.includes(from)) throw new Error(`the text does not contain ${from}`);
    return replaced.replaceAll(from, to);
  }, text);
}

/** Returns the variables that the service of systemd sets, for the instance on this port. */
export function serviceEnvironment(port: number): Record<string, string> {
  const lines = [...readDeployFile('loom@.service').matchAll(/^Environment=(.*)$/gm)];
  const settings = lines.flatMap(([, line = '']) => line.split(' '));
  return Object.fromEntries(
    settings.map((setting) => {
      const [, name = '', value = ''] = /^(\w+)=(.*)$/.exec(setting) ?? [];
      return [name, value.replace('%i', String(port)).replace('%d', '/run/credentials')];
    }),
  );
}
