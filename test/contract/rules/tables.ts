/** Returns the cells of each row of a Markdown table, found by the heading of its first column. */
export function tableRows(text: string, heading: string): string[][] {
  const after = text
    .slice(text.indexOf(`| ${heading} |`))
    .split('\n')
    .slice(2);
  const rows = after.slice(
    0,
    after.findIndex((line) => !line.startsWith('|')),
  );
  return rows.map((row) =>
    row
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

/** Returns the code spans of a text, without their backticks. */
export const codesIn = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? '');
