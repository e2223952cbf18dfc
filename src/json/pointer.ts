/** Returns one step of a JSON pointer (RFC 6901 §3), with its slash. */
export function pointerToken(name: string): string {
  return `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;
}
