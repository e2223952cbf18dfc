/**
 * Returns SQL that renders a timestamptz column as RFC 3339 text in UTC with microseconds; a JavaScript `Date` would
 * lose them. Never pass input as `column`: it becomes SQL.
 */
export function rfc3339(column: string): string {
  return `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
}
