import { basename, dirname, join } from 'node:path/posix';
import { type FileRule, importsOf, type SourceFile } from './house-rules.ts';

/**
 * The rooms of `src/` and the imports between them. The table of allowed directions is the diagram in
 * `docs/architecture.md`: `tidy.test.ts` compares it with the arrows that this module measures in the code.
 */

/** Folders whose subfolders are rooms of their own. Any other folder directly under `src/` is one room. */
const foldersOfRooms = ['persistence'];

/** Subfolders that are rooms of their own although their neighbours are not. */
const separateRooms = ['http/client'];

/** Names the room of a file: `src/persistence/read/state.ts` is in `persistence/read`, `src/log.ts` in `log`. */
export function roomOf(path: string): string {
  const [first = '', second, third] = path.replace(/^src\//, '').split('/');
  if (second === undefined) return basename(first, '.ts');
  const isSeparate =
    third !== undefined && (foldersOfRooms.includes(first) || separateRooms.includes(`${first}/${second}`));
  return isSeparate ? `${first}/${second}` : first;
}

/** Measures which rooms each room imports. Rooms that import no other room have an empty list. */
export function measureArrows(files: SourceFile[]): Map<string, string[]> {
  const arrows = new Map<string, Set<string>>();
  for (const { path, text } of files) {
    const room = roomOf(path);
    const targets = arrows.get(room) ?? new Set();
    arrows.set(room, targets);
    for (const imported of importsOf(text)) {
      if (!imported.startsWith('.')) continue;
      const target = roomOf(join(dirname(path), imported));
      if (target !== room) targets.add(target);
    }
  }
  return new Map([...arrows].map(([room, targets]) => [room, [...targets].sort()]));
}

/** Writes arrows as the lines of the diagram, sorted, such as `json → errors, limits`. */
export function arrowLines(arrows: Map<string, string[]>): string[] {
  return [...arrows]
    .filter(([, targets]) => targets.length > 0)
    .map(([room, targets]) => `${room} → ${targets.toSorted().join(', ')}`)
    .sort();
}

/** Reads the diagram: every line of a page's `text` blocks that has the form `room → room, room`. A room may have several. */
export function readDiagram(markdown: string): string[] {
  const arrows = new Map<string, string[]>();
  for (const [, block = ''] of markdown.matchAll(/^```text\n([\s\S]*?)^```/gm)) {
    for (const [, room = '', targets = ''] of block.matchAll(/^(\S+) +→ +(\S+(?:, \S+)*)$/gm))
      arrows.set(room, [...(arrows.get(room) ?? []), ...targets.split(', ')]);
  }
  return arrowLines(arrows);
}

/** Reads the names of the rooms in the table of `docs/architecture.md`, sorted. */
export function readRoomTable(markdown: string): string[] {
  const rows = /^\| room \|[\s\S]*?\n\n/m.exec(markdown)?.[0] ?? '';
  const cells = [...rows.matchAll(/^\| ([^|]+) \|/gm)].map(([, cell = '']) => cell);
  return cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, room = '']) => room)).sort();
}

/** The main file of each folder that has no file of its own name. */
const mainFiles: Record<string, string> = {
  'src/backup/check': 'frame.ts',
  'src/backup/format': 'decoder.ts',
  'src/backup/offline': 'verifier.ts',
  'src/cli': 'command.ts',
  'src/cli/client': 'client-command.ts',
  'src/cli/drill': 'run.ts',
  'src/cli/file': 'file-command.ts',
  'src/cli/terminal': 'text.ts',
  'src/dev': 'postgres.ts',
  'src/domain': 'store.ts',
  'src/http': 'server.ts',
  'src/http/plugins': 'gate.ts',
  'src/http/reply': 'problem.ts',
  'src/http/request': 'body.ts',
  'src/http/routes': 'documents.ts',
  'src/json': 'scanner.ts',
  'src/persistence': 'store.ts',
  'src/persistence/backup': 'export.ts',
  'src/persistence/commit': 'group-commit.ts',
  'src/persistence/connection': 'pool.ts',
  'src/persistence/read': 'state.ts',
  'src/persistence/state': 'live.ts',
};

/** Finds folders of `src/` whose main file does not begin with a comment that explains the folder. */
export function foldersWithoutHeader(files: SourceFile[]): string[] {
  const texts = new Map(files.map(({ path, text }) => [path, text]));
  const folders = [...new Set(files.map(({ path }) => dirname(path)))].filter((folder) => folder !== 'src');
  return folders.sort().flatMap((folder) => {
    const own = `${folder}/${basename(folder)}.ts`;
    const main = texts.has(own) ? own : `${folder}/${mainFiles[folder] ?? '(no entry in mainFiles)'}`;
    const text = texts.get(main);
    if (text === undefined) return [`${folder}: the main file ${main} does not exist`];
    return /^(?:#!.*\n)?\s*(?:\/\*\*|\/\/)/.test(text) ? [] : [`${main} does not begin with a header comment`];
  });
}

const maxFilesInFolder = 15;

/** Finds folders of `src/` and `test/setup/` that hold too many files. */
export function crowdedFolders(files: SourceFile[]): string[] {
  const counts = new Map<string, number>();
  for (const { path } of files.filter(({ path }) => /^(?:src|test\/setup)\//.test(path)))
    counts.set(dirname(path), (counts.get(dirname(path)) ?? 0) + 1);
  return [...counts]
    .filter(([, count]) => count > maxFilesInFolder)
    .map(([folder, count]) => `${folder} has ${count} files, more than ${maxFilesInFolder}`);
}

/** Words that english.md replaces, each with what to write instead. */
const words: { pattern: RegExp; instead: string }[] = [
  { pattern: /\bliving\b/i, instead: 'live' },
  { pattern: /\bwork(?:s|ed)? off\b/i, instead: 'process, run' },
  { pattern: /\b(?:give|gives|given|gave|giving) up\b/i, instead: 'abort, time out' },
  { pattern: /\bhears\b/i, instead: 'receives, notices' },
  { pattern: /\bgives? way\b/i, instead: 'yields, aborts' },
  { pattern: /\bstands? in for\b/i, instead: 'replaces' },
  { pattern: /\bcomes? through\b/i, instead: 'arrives, survives' },
  { pattern: /\bdeed\b|Deed\b/, instead: 'restore, undo, operation' },
  { pattern: /[a-z]Most\b|\b[a-z]+Turns\b/, instead: 'a name that begins with max' },
  { pattern: /\bthe business of\b/i, instead: 'name the actor' },
  { pattern: /\bwho (?:asks|wants|waits|follows)\b/i, instead: 'name the actor' },
  { pattern: /\b(?:digest|chain)s? (?:holds?|do(?:es)? not hold)\b/i, instead: 'matches, is valid, is broken' },
];

/** Finds words in code and docs that the project does not use. The runbook is a contract and keeps its own words. */
export const wordsArePlain: FileRule = ({ path, text }) => {
  if (!/^src\/|^docs\/.*\.md$|^README\.md$/.test(path) || path === 'docs/runbook.md') return [];
  return text
    .split('\n')
    .flatMap((line, index) =>
      words
        .filter(({ pattern }) => pattern.test(line))
        .map(({ pattern, instead }) => `${path}:${index + 1}: "${pattern.exec(line)?.[0]}": write ${instead}`),
    );
};
