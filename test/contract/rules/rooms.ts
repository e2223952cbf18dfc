import { basename, dirname, join } from 'node:path/posix';
import { type FileRule, importsOf, type SourceFile } from './house-rules.ts';

/**
 * Measures the rooms of `src/` and the imports between them. `tidy.test.ts` compares these arrows with the diagram of
 * allowed imports in `docs/architecture.md`.
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

/**
 * Reads the diagram: every line of a page's `text` blocks that has the form `room → room, room`. A room may have
 * several.
 */
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

/**
 * Finds folders of `src/` that do not have exactly one main file. The main file has a header: a separate comment before
 * or after the imports. It says what the folder imports or must not know.
 */
export function foldersWithoutHeader(files: SourceFile[]): string[] {
  const folders = [...new Set(files.map(({ path }) => dirname(path)))].filter((folder) => folder !== 'src').sort();
  return folders.flatMap((folder) => {
    const headed = files.filter(
      ({ path, text }) => dirname(path) === folder && /\b(?:imports?|knows?)\b/.test(headerOf(text)),
    );
    return headed.length === 1
      ? []
      : [`${folder} has ${headed.length} files with a header: ${headed.map(({ path }) => path)}`];
  });
}

/** Returns the comment at the start of a file, or after its imports, that does not belong to a declaration. */
function headerOf(text: string): string {
  const comment = /^((?:\/\/.*\n)+|\/\*\*[\s\S]*?\*\/\n)(?=\n|import\b)/;
  const imports = /^(?:#!.*\n)?(?:import\s[^;]*;\n)*\s*/;
  return comment.exec(text)?.[1] ?? comment.exec(text.replace(imports, ''))?.[1] ?? '';
}

const maxFilesInFolder = 15;

/** Finds folders of `src/` and `test/setup/` that hold too many files. */
export function crowdedFolders(files: SourceFile[]): string[] {
  const counts = new Map<string, number>();
  for (const { path } of files.filter(({ path }) => /^(?:src|test\/(?:setup|e2e|contract))\//.test(path)))
    counts.set(dirname(path), (counts.get(dirname(path)) ?? 0) + 1);
  return [...counts]
    .filter(([, count]) => count > maxFilesInFolder)
    .map(([folder, count]) => `${folder} has ${count} files, more than ${maxFilesInFolder}`);
}

/** Words to avoid, each with what to write instead. */
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

const maxSentenceWords = 25;

/** Pages in which every sentence outside tables and code blocks is short. */
const plainPages = [
  'README',
  'docs/tutorial',
  'docs/recipes',
  'docs/operations',
  'docs/deploy',
  'docs/faults',
  'docs/restore',
  'docs/architecture',
  'docs/contributing',
];

/** Finds long sentences in the pages. A code span counts as one word, and a link as its text. */
export const sentencesAreShort: FileRule = ({ path, text }) => {
  if (!plainPages.includes(path.replace(/\.md$/, ''))) return [];
  const prose = text
    .replace(/^```[\s\S]*?^```$/gm, '\n')
    .replace(/^\|.*$/gm, '\n')
    .replace(/^#.*$/gm, '\n');
  const paragraphs = prose.split(/\n\s*\n|\n(?=\s*(?:-|\d+\.)\s)/).map((one) =>
    one
      .replace(/`[^`]*`/g, 'X')
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .replace(/\*\*|\s+/g, ' '),
  );
  return paragraphs
    .flatMap((paragraph) => paragraph.split(/(?<=[.:;?!]) +(?=[A-Z0-9"…])/))
    .filter((sentence) => (sentence.match(/[\w’'-]+/g) ?? []).length > maxSentenceWords)
    .map((sentence) => `${path}: more than ${maxSentenceWords} words: ${sentence.trim()}`);
};

/** Finds words in code and docs that the project does not use. The runbook is a contract and keeps its own words. */
export const wordsArePlain: FileRule = ({ path, text }) => {
  if (!/^src\/|^docs\/.*\.md$|^docs\/deploy\/|^README\.md$/.test(path) || path === 'docs/runbook.md') return [];
  return text
    .split('\n')
    .flatMap((line, index) =>
      words
        .filter(({ pattern }) => pattern.test(line))
        .map(({ pattern, instead }) => `${path}:${index + 1}: "${pattern.exec(line)?.[0]}": write ${instead}`),
    );
};
