import { readFile, writeFile } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import { quantile, showTable } from './figures.ts';

export interface BenchOptions {
  /** Use the sizes of the goals, which take minutes, instead of sizes for trying a change. */
  full: boolean;
  /** Replaces the number of entries of the large state. */
  entries: number | undefined;
}

/** Returns the numbers of entries at which the project promises bounds on memory and latency. */
export function entryCounts({ full, entries }: BenchOptions): number[] {
  if (entries !== undefined) return [entries];
  return full ? [200_000, 3_000_000] : [20_000];
}

/** One measurement of a run. Only a ratio of one run, or a promised bound, can have a goal. */
export interface Figure {
  /** What was measured, such as `commits, 32 clients`. A name occurs once in a run. */
  name: string;
  value: number;
  /** `×` for a ratio, otherwise `ms`, `MiB`, `/s` and the like. */
  unit: string;
  /** What a ratio is compared with. */
  comparedWith?: string;
  goal?: Goal;
}

export type Goal = { atLeast: number } | { atMost: number };

/** The figures of one name over all runs. */
export interface FigureSeries extends Omit<Figure, 'value'> {
  values: number[];
}

export interface BenchResults {
  at: string;
  environment: Record<string, string>;
  benchmarks: Record<string, FigureSeries[]>;
}

/** Facts about this process's runs. The server and the load generator add theirs. */
export const environment: Record<string, string> = {
  processors: `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}`,
  memory: `${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
  node: process.version,
};

/** Combines the figures of several runs by their names, in the order of the first run that has them. */
export function combineRuns(runs: Figure[][]): FigureSeries[] {
  const series = new Map<string, FigureSeries>();
  for (const { value, ...figure } of runs.flat()) {
    const known = series.get(figure.name);
    if (known === undefined) series.set(figure.name, { ...figure, values: [value] });
    else known.values.push(value);
  }
  return [...series.values()];
}

/** Formats series as an aligned table. */
export function showResults(series: FigureSeries[]): string {
  return showTable([header, ...series.map(cellsOf)]);
}

/** Holds the tables of benchmarks by name, and the lines that say when and where they were measured. */
interface Tables {
  facts: Set<string>;
  sections: Map<string, string>;
}

/** Formats the results of JSON files for docs/performance.md. A later file replaces benchmarks of earlier ones. */
export async function showMarkdown(paths: string[]): Promise<string> {
  return showTables(await readTables(paths));
}

async function readTables(paths: string[]): Promise<Tables> {
  const files = await Promise.all(paths.map(async (path) => JSON.parse(await readFile(path, 'utf8')) as BenchResults));
  const facts = files.map(({ at, environment: where }) => {
    const members = Object.entries(where).map(([key, value]) => `${key} ${value}`);
    return `- ${at.slice(0, 10)}: ${members.join(', ')}`;
  });
  const sections = new Map<string, string>();
  for (const { benchmarks } of files) {
    for (const [name, series] of Object.entries(benchmarks)) sections.set(name, showSection(name, series));
  }
  return { facts: new Set(facts), sections };
}

function showSection(name: string, series: FigureSeries[]): string {
  const line = (cells: string[]): string => `| ${cells.join(' | ')} |`;
  const rule = `|---|${'--:|'.repeat(header.length - 2)}---|`;
  return `### ${name}\n\n${[line(header), rule, ...series.map((one) => line(cellsOf(one)))].join('\n')}\n`;
}

function showTables({ facts, sections }: Tables): string {
  return `${[...facts].join('\n')}\n\n${[...sections.values()].join('\n')}`;
}

const BEGIN = '<!-- The rest is written by npm run bench -- --markdown. -->\n';

/** Replaces the tables of a page, after the mark, by those of JSON files. Tables of other benchmarks stay. */
export async function updatePage(page: string, paths: string[]): Promise<void> {
  const text = await readFile(page, 'utf8');
  const end = text.indexOf(BEGIN);
  if (end < 0) throw new Error(`${page} has no line "${BEGIN.trim()}"`);
  const tables = parseTables(text.slice(end + BEGIN.length));
  const newer = await readTables(paths);
  for (const fact of newer.facts) tables.facts.add(fact);
  for (const [name, section] of newer.sections) tables.sections.set(name, section);
  await writeFile(page, `${text.slice(0, end + BEGIN.length)}\n${showTables(tables)}`);
}

function parseTables(text: string): Tables {
  const [facts = '', ...sections] = text.split(/^(?=### )/m);
  return {
    facts: new Set(facts.split('\n').filter((line) => line !== '')),
    sections: new Map(sections.map((section) => [/^### (.*)/.exec(section)?.[1] ?? '', `${section.trimEnd()}\n`])),
  };
}

export async function writeResults(path: string, benchmarks: BenchResults['benchmarks']): Promise<void> {
  const results: BenchResults = { at: new Date().toISOString(), environment, benchmarks };
  await writeFile(path, `${JSON.stringify(results, undefined, 2)}\n`);
}

const header = ['measured', 'min', 'median', 'max', 'unit', 'runs', 'goal', 'met', 'compared with'];

function cellsOf({ name, values, unit, goal, comparedWith }: FigureSeries): string[] {
  const sorted = values.toSorted((one, other) => one - other);
  const spread = [0, 0.5, 1].map((share) => showNumber(quantile(sorted, share)));
  return [name, ...spread, unit, String(values.length), showGoal(goal), judge(sorted, goal), comparedWith ?? ''];
}

function showGoal(goal: Goal | undefined): string {
  if (goal === undefined) return '';
  return 'atLeast' in goal ? `≥ ${goal.atLeast}` : `≤ ${goal.atMost}`;
}

/** Judges the median: one run may meet a busy machine. */
function judge(sorted: number[], goal: Goal | undefined): string {
  if (goal === undefined) return '';
  const median = quantile(sorted, 0.5);
  return ('atLeast' in goal ? median >= goal.atLeast : median <= goal.atMost) ? 'yes' : 'no';
}

function showNumber(value: number): string {
  if (Number.isInteger(value)) return String(value);
  return value.toFixed(Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0);
}
