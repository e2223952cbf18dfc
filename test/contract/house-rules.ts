import { dirname, join } from 'node:path/posix';

/** A file of the project: its path from the root with `/`, and its text. */
export interface SourceFile {
  path: string;
  text: string;
}

/** Each rule answers what is wrong, one sentence a fault; nothing when all is well. */
export type FileRule = (file: SourceFile) => string[];

const rootEntries = ['src', 'test', 'migrations', 'docs', 'package.json', 'package-lock.json', 'tsconfig.json'];
const rootDocuments = ['README.md', 'Dockerfile'];
/** Made by the tools and the runbook, and ignored by git. */
const ignoredEntries = ['node_modules', 'dist', 'coverage', 'loom-backup.json', 'loom-restore.json'];

export function strangeRootEntries(names: string[]): string[] {
  const known = new Set([...rootEntries, ...rootDocuments, ...ignoredEntries]);
  return names.filter((name) => !name.startsWith('.') && !known.has(name));
}

/** Everything that a module imports or re-exports, as written, types included. */
export function importsOf(text: string): string[] {
  const statement = /^\s*(?:import|export)\s(?:[^'"`;]*?\sfrom\s*)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm;
  return [...text.matchAll(statement)].map((match) => match[1] ?? match[2] ?? '');
}

const isPure = (path: string): boolean => /^src\/(?:domain|json)\/|^src\/(?:errors|limits)\.ts$/.test(path);
const isSource = (path: string): boolean => path.startsWith('src/');

/** Design §10: who may import whom. */
export const importsPointOneWay: FileRule = ({ path, text }) => {
  if (!isSource(path)) return [];
  return importsOf(text).flatMap((imported) => {
    const target = imported.startsWith('.') ? join(dirname(path), imported) : imported;
    const faults: string[] = [];
    const refuse = (reason: string): number => faults.push(`${path} imports ${imported}: ${reason}`);
    const fromHttp = path.startsWith('src/http/');
    const fromPersistence = path.startsWith('src/persistence/');
    if (fromHttp && target.startsWith('src/persistence/')) refuse('http and persistence never meet');
    if (fromPersistence && target.startsWith('src/http/')) refuse('http and persistence never meet');
    if (/^pg(?:-|$)/.test(target) && !fromPersistence) refuse('SQL is spoken under persistence only');
    if (/^@?fastify/.test(target) && !fromHttp) refuse('fastify is known under http only');
    if (isPure(path) && !isPure(target) && !/^node:(?:crypto|buffer|stream|util)$/.test(target))
      refuse('this module is pure');
    if (target === 'src/main.ts' || target.startsWith('test/')) refuse('nothing depends on it');
    if (imported.startsWith('.') && !imported.endsWith('.ts')) refuse('relative imports end in .ts');
    return faults;
  });
};

/** Rules that a pattern can find. `where` tells the files that they hold for. */
const patterns: { where: (path: string) => boolean; pattern: RegExp; fault: string }[] = [
  {
    where: (path) => isSource(path) && path !== 'src/main.ts',
    pattern: /\bprocess\.env\b/,
    fault: 'reads the environment',
  },
  {
    where: (path) => isSource(path) && path !== 'src/main.ts',
    pattern: /\bprocess\.exit\b/,
    fault: 'ends the process',
  },
  {
    where: (path) => isSource(path) && path !== 'src/main.ts',
    pattern: /\bprocess\.on(?:ce)?\(/,
    fault: 'handles signals',
  },
  { where: isPure, pattern: /\bDate\.now\(|\bnew Date\(\)|\bperformance\.|\bprocess\./, fault: 'is not pure' },
  { where: (path) => !path.endsWith('.config.ts'), pattern: /^export default\b/m, fault: 'has a default export' },
  { where: () => true, pattern: /^export \*/m, fault: 'is a barrel' },
  // The linter knows the type from the word in a comment; it is told to refuse it, and nobody may talk it out of that.
  { where: () => true, pattern: /biome-ignore.*[E]xplicitAny/, fault: 'uses the type any' },
  {
    where: () => true,
    pattern: /\b(?:test|it|describe)\.(?:skip|only|todo|skipIf|runIf|fails)\b/,
    fault: 'skips or singles out tests',
  },
  { where: () => true, pattern: /\bTO[D]O\b|\bFIX[M]E\b/, fault: 'leaves something to do' },
];

export const patternsAreKept: FileRule = ({ path, text }) =>
  patterns.filter(({ where, pattern }) => where(path) && pattern.test(text)).map(({ fault }) => `${path} ${fault}`);

const maxLines = 350;

export const filesAreShort: FileRule = ({ path, text }) => {
  const lines = text.split('\n').length - 1;
  return lines > maxLines ? [`${path} has ${lines} lines, more than ${maxLines}`] : [];
};

/** A path of somebody's machine means nothing to the next reader. */
export const namesNoWorkplace: FileRule = ({ path, text }) => {
  const found = /(?<![\w.)\]}-])\/(?:work|farm)(?:\/|\b)/.exec(text);
  return found === null ? [] : [`${path} names a path of the machine that it was written on`];
};

/** Where packages are downloaded from is the business of the machine that installs them. */
export const namesNoRegistry: FileRule = ({ path, text }) =>
  /"resolved":\s*"http|^\s*registry\s*=/m.test(text) ? [`${path} names a package registry`] : [];

/** Relative links of a Markdown file, resolved from the root, without their fragments. */
export function linkedPaths({ path, text }: SourceFile): string[] {
  return [...text.matchAll(/\]\((?!\w+:|#|\/)([^)\s#]+)/g)].map((match) =>
    join(dirname(path), decodeURI(match[1] ?? '')),
  );
}

/** Answers each cycle of relative imports once, as a path through it. */
export function importCycles(files: SourceFile[]): string[] {
  const targets = new Map(
    files.map(({ path, text }) => [
      path,
      importsOf(text).flatMap((imported) => (imported.startsWith('.') ? [join(dirname(path), imported)] : [])),
    ]),
  );
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (path: string, trail: string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) cycles.push([...trail.slice(start), path].join(' → '));
    if (start >= 0 || done.has(path)) return;
    for (const target of targets.get(path) ?? []) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const { path } of files) visit(path, []);
  return cycles;
}
