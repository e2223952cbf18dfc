import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, inject } from 'vitest';
import { runCommandLine } from '../../setup/node/program.ts';

/** Describes one `sh` block of a page, with its heading and the `text` block that shows its output. */
export interface PageStep {
  section: string;
  commands: string;
  /** Expected lines, in order. `…` matches any text. Other lines may come between them. */
  shown: string[];
}

/** Reads a page of `docs/` as the steps that a reader takes, in the order of the page. */
export async function readPage(name: string): Promise<PageStep[]> {
  const markdown = await readFile(new URL(`../../../docs/${name}`, import.meta.url), 'utf8');
  const steps: PageStep[] = [];
  for (const section of markdown.split(/^##+ /m)) {
    for (const [, language, text = ''] of section.matchAll(/^```(sh|text)\n([\s\S]*?)^```/gm)) {
      const last = steps.at(-1);
      if (language === 'sh') steps.push({ section: section.split('\n')[0] ?? '', commands: text, shown: [] });
      else if (last !== undefined) last.shown.push(...text.split('\n').filter((line) => line !== ''));
    }
  }
  return steps;
}

export interface Shell {
  directory: string;
  /**
   * Runs a block as a reader types it and returns what it prints. Variables that it sets are set in later blocks.
   * Throws when a command fails, when it writes to standard error, or when a line that the page shows is missing.
   */
  run(step: Pick<PageStep, 'commands'> & Partial<PageStep>): Promise<string>;
  close(): Promise<void>;
}

/**
 * Opens a shell in an empty folder. `replacements` maps texts of the page, such as the address of the node or a token,
 * to those of this run. The commands of the program use the build of this test run.
 */
export async function openShell(env: Record<string, string>, replacements: Record<string, string>): Promise<Shell> {
  const directory = await mkdtemp(join(tmpdir(), 'loom-page-'));
  // The database of `npm run dev` runs as another user, who must be able to enter this folder.
  await chmod(directory, 0o755);
  const variables = join(directory, '.variables');
  await writeFile(variables, '');
  const program = `node ${inject('programEntry')}`;
  const all = Object.entries({ 'npx loom': program, 'node dist/main.js': program, ...replacements });
  return {
    directory,
    run: async ({ section, commands, shown = [] }) => {
      const typed = all.reduce((text, [from, to]) => text.replaceAll(from, to), commands);
      const script = `source ${variables}\nset -aeo pipefail\n${typed}\nexport -p > ${variables}\n`;
      const { code, stdout, stderr } = await runCommandLine(script, { directory, env });
      expect({ code, stderr, commands }, section).toEqual({ code: 0, stderr: '', commands });
      if (shown.length > 0) expect(stdout, section).toMatch(new RegExp(shown.map(toPattern).join('[\\s\\S]*')));
      return stdout;
    },
    close: () => rm(directory, { recursive: true, force: true }),
  };
}

/** Returns the JSON objects that a block has printed, with or without line ends between them. */
export function jsonOf(printed: string): Record<string, unknown>[] {
  const lines = printed.replaceAll('}{', '}\n{').split('\n');
  return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
}

function toPattern(line: string): string {
  return line
    .split('…')
    .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
    .join('.*');
}
