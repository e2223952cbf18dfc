/** What was measured in several rounds of one run. */
export interface Series {
  median: number;
  least: number;
  most: number;
}

export function seriesOf(values: number[]): Series {
  const sorted = values.toSorted((one, other) => one - other);
  return { median: quantile(sorted, 0.5), least: quantile(sorted, 0), most: quantile(sorted, 1) };
}

/** `values` must be sorted; NaN when there are none. */
export function quantile(values: number[], share: number): number {
  return values[Math.min(values.length - 1, Math.floor(values.length * share))] ?? Number.NaN;
}

/** Median, and in brackets the least and the most. */
export function showSeries({ median, least, most }: Series, digits: number): string {
  return `${median.toFixed(digits)} (${least.toFixed(digits)} to ${most.toFixed(digits)})`;
}

/** Columns as wide as their widest cell, the first one flush left. */
export function showTable(rows: string[][]): string {
  const columns = rows[0]?.map((_cell, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  const line = (row: string[]): string =>
    row.map((cell, column) => (column === 0 ? cell.padEnd : cell.padStart).call(cell, columns[column] ?? 0)).join('  ');
  return `${rows.map(line).join('\n')}\n`;
}

/** How long `work` takes, in seconds, and what it answers. */
export async function timed<T>(work: () => Promise<T>): Promise<{ seconds: number; answer: T }> {
  const start = performance.now();
  const answer = await work();
  return { seconds: (performance.now() - start) / 1000, answer };
}
