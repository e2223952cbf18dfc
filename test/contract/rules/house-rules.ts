import { dirname, join } from 'node:path/posix';

/** Describes a file of the project: its path from the root with `/`, and its text. */
export interface SourceFile {
  path: string;
  text: string;
}

/** Checks one file. Returns one sentence for each fault. */
export type FileRule = (file: SourceFile) => string[];

const rootEntries = ['src', 'test', 'migrations', 'docs', 'package.json', 'package-lock.json', 'tsconfig.json'];
const rootDocuments = ['README.md', 'Dockerfile'];
/** Lists entries that the tools and the runbook create and Git ignores. */
const ignoredEntries = ['node_modules', 'dist', 'coverage', 'loom-backup.json', 'loom-restore.json'];

export function strangeRootEntries(names: string[]): string[] {
  const known = new Set([...rootEntries, ...rootDocuments, ...ignoredEntries]);
  return names.filter((name) => !name.startsWith('.') && !known.has(name));
}

/** Returns everything that a module imports or re-exports, as written, types included. */
export function importsOf(text: string): string[] {
  const statement = /^\s*(?:import|export)\s(?:[^'"`;]*?\sfrom\s*)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm;
  return [...text.matchAll(statement)].map((match) => match[1] ?? match[2] ?? '');
}

const isPure = (path: string): boolean => /^src\/(?:domain|json|limits)\/|^src\/(?:errors|limits)\.ts$/.test(path);
const isSource = (path: string): boolean => path.startsWith('src/');

/**
 * Checks the rules that the diagram in `docs/architecture.md` cannot relax. They cover the technologies of each room,
 * the purity of the vocabulary, and the rooms that no other room may import. `rooms.ts` checks the directions between
 * rooms.
 */
export const importsPointOneWay: FileRule = ({ path, text }) => {
  if (!isSource(path)) return [];
  return importsOf(text).flatMap((imported) => {
    const target = imported.startsWith('.') ? join(dirname(path), imported) : imported;
    const faults: string[] = [];
    const refuse = (reason: string): number => faults.push(`${path} imports ${imported}: ${reason}`);
    const fromHttp = path.startsWith('src/http/');
    const fromPersistence = path.startsWith('src/persistence/');
    if (fromHttp && target.startsWith('src/persistence/')) refuse('http and persistence never import each other');
    if (fromPersistence && target.startsWith('src/http/')) refuse('http and persistence never import each other');
    if (/^pg(?:-|$)/.test(target) && !path.startsWith('src/persistence/connection/'))
      refuse('only persistence/connection imports pg');
    if (/^@?fastify/.test(target) && !fromHttp) refuse('only http imports fastify');
    if (/^@aws-sdk/.test(target) && !path.startsWith('src/object-store/s3/'))
      refuse('only object-store/s3 imports the S3 client');
    const isSchema = path.startsWith('src/domain/') && target === 'zod';
    if (isPure(path) && !isPure(target) && !isSchema && !/^node:(?:crypto|buffer|stream|util)$/.test(target))
      refuse('this module is pure');
    if (mainFiles.includes(target) || target.startsWith('test/')) refuse('no module may depend on it');
    if (target.startsWith('src/dev/') && !path.startsWith('src/dev/')) refuse('dev is not in the production build');
    if (imported.startsWith('.') && !imported.endsWith('.ts')) refuse('relative imports end in .ts');
    return faults;
  });
};

/** Matches a use of a table that contains the rows of many states. */
const tableOfStates =
  /\b(?:from|join|update|using|into)\s+loom_(?:state|document|audit|change|scratch|snapshot\w*|backup_\w+)\b/g;

/**
 * Checks that no statement mixes states: it names the state key, or the owner, at least once for each table of states.
 */
export const statesStayApart: FileRule = ({ path, text }) => {
  if (!path.startsWith('src/persistence/')) return [];
  return [...text.matchAll(/`[^`]*`|'[^'\n]*'/g)].flatMap(([sql]) => {
    const tables = sql.match(tableOfStates) ?? [];
    const keys = sql.match(/\b(?:state_key|owner)\b/g) ?? [];
    return keys.length < tables.length ? [`${path} uses ${tables.join(', ')} with too few state keys`] : [];
  });
};

/** Lists the files that need the time of day: ids with a time in them, the age of a file, and the age of a backup. */
const wallClocks = ['src/persistence/state/identifiers.ts', 'src/cli/file/part-file.ts', 'src/cli/terminal/text.ts'];

/** Only a main file uses the process. */
const mainFiles = ['src/main.ts', 'src/healthcheck.ts'];

/** Rules that a pattern can check. `where` selects the files. */
const patterns: { where: (path: string) => boolean; pattern: RegExp; fault: string }[] = [
  {
    where: (path) => isSource(path) && !mainFiles.includes(path),
    pattern: /\bprocess\.env\b|from 'node:process'/,
    fault: 'reads the environment',
  },
  {
    where: (path) => isSource(path) && !mainFiles.includes(path),
    pattern: /\bprocess\.exit\b/,
    fault: 'ends the process',
  },
  {
    where: (path) => isSource(path) && !mainFiles.includes(path),
    pattern: /\bprocess\.on(?:ce)?\(/,
    fault: 'handles signals',
  },
  {
    where: (path) => isSource(path) && path !== 'src/cli/program.ts',
    pattern: /\bNodeJS\.Process\b/,
    fault: 'takes the process as a value',
  },
  { where: isPure, pattern: /\bDate\.now\(|\bnew Date\(\)|\bperformance\.|\bprocess\./, fault: 'is not pure' },
  {
    where: (path) => isSource(path) && !isPure(path) && !wallClocks.includes(path),
    pattern: /\bDate\.now\b|\bnew Date\(\)\.getTime\b|\+new Date\b/,
    fault: 'reads the wall clock, which may jump: count waits with performance.now()',
  },
  { where: () => true, pattern: /^(?=.{121})\s*(?:\/\*\*|\*|\/\/)/m, fault: 'has a comment past 120 characters' },
  { where: (path) => !path.endsWith('.config.ts'), pattern: /^export default\b/m, fault: 'has a default export' },
  { where: () => true, pattern: /^export \*/m, fault: 'is a barrel' },
  // The linter refuses the type itself. This rule refuses the comment that would switch the linter off.
  { where: () => true, pattern: /biome-ignore.*[E]xplicitAny/, fault: 'uses the type any' },
  {
    where: () => true,
    pattern: /\b(?:test|it|describe)\.(?:skip|only|todo|skipIf|runIf|fails)\b/,
    fault: 'skips tests or runs only some',
  },
  { where: () => true, pattern: /\bTO[D]O\b|\bFIX[M]E\b/, fault: 'has a note about unfinished work' },
];

export const patternsAreKept: FileRule = ({ path, text }) =>
  patterns.filter(({ where, pattern }) => where(path) && pattern.test(text)).map(({ fault }) => `${path} ${fault}`);

const maxLines = 350;

export const filesAreShort: FileRule = ({ path, text }) => {
  const lines = text.split('\n').length - 1;
  return lines > maxLines ? [`${path} has ${lines} lines, more than ${maxLines}`] : [];
};

/** Refuses paths of the machine on which the text was written: they mean nothing to a reader. */
export const namesNoWorkplace: FileRule = ({ path, text }) => {
  const found = /(?<![\w.)\]}-])\/(?:work|farm)(?:\/|\b)/.exec(text);
  return found === null ? [] : [`${path} names a path of the machine that it was written on`];
};

/** Refuses the addresses of package registries: the machine that installs packages chooses its registry. */
export const namesNoRegistry: FileRule = ({ path, text }) =>
  /"resolved":\s*"http|^\s*registry\s*=/m.test(text) ? [`${path} names a package registry`] : [];

/** Returns the relative links of a Markdown file, resolved from the root, without their fragments. */
export function linkedPaths({ path, text }: SourceFile): string[] {
  return [...text.matchAll(/\]\((?!\w+:|#|\/)([^)\s#]+)/g)].map((match) =>
    join(dirname(path), decodeURI(match[1] ?? '')),
  );
}

/** Returns each cycle of relative imports once, as a path through it. */
export function importCycles(files: SourceFile[]): string[] {
  const targets = files.map(({ path, text }): [string, string[]] => [
    path,
    importsOf(text).flatMap((imported) => (imported.startsWith('.') ? [join(dirname(path), imported)] : [])),
  ]);
  return findCycles(new Map(targets));
}

/** Returns each cycle of a graph once, as a path through it. */
export function findCycles(graph: Map<string, string[]>): string[] {
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (node: string, trail: string[]): void => {
    const start = trail.indexOf(node);
    if (start >= 0) cycles.push([...trail.slice(start), node].join(' → '));
    if (start >= 0 || done.has(node)) return;
    for (const target of graph.get(node) ?? []) visit(target, [...trail, node]);
    done.add(node);
  };
  for (const node of graph.keys()) visit(node, []);
  return cycles;
}
