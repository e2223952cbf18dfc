/** The median and the range of several rounds in one run. */
export interface Series {
  median: number;
  min: number;
  max: number;
}

export function seriesOf(values: number[]): Series {
  const sorted = values.toSorted((one, other) => one - other);
  return { median: quantile(sorted, 0.5), min: quantile(sorted, 0), max: quantile(sorted, 1) };
}

/** Returns the percentile of sorted values, or NaN if there are none. */
export function quantile(values: number[], share: number): number {
  return values[Math.min(values.length - 1, Math.floor(values.length * share))] ?? Number.NaN;
}

/** Formats the median, followed by minimum and maximum in brackets. */
export function showSeries({ median, min, max }: Series, digits: number): string {
  return `${median.toFixed(digits)} (${min.toFixed(digits)} to ${max.toFixed(digits)})`;
}

/** Aligns columns: the first one to the left, others to the right. */
export function showTable(rows: string[][]): string {
  const columns = rows[0]?.map((_cell, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  const line = (row: string[]): string =>
    row.map((cell, column) => (column === 0 ? cell.padEnd : cell.padStart).call(cell, columns[column] ?? 0)).join('  ');
  return `${rows.map(line).join('\n')}\n`;
}

/** Returns the duration of `work` in seconds and its result. */
export async function timed<T>(work: () => Promise<T>): Promise<{ seconds: number; answer: T }> {
  const start = performance.now();
  const answer = await work();
  return { seconds: (performance.now() - start) / 1000, answer };
}
