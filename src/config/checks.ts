import { X509Certificate } from 'node:crypto';

/**
 * Each check answers what is wrong with a value as the end of a sentence that begins with the variable's name, or
 * undefined. No check repeats any part of the value: it may be a secret, also where none belongs.
 */

const URL_FORM =
  'must have the form postgres://user:password@host:5432/database, with special characters of user and password percent-encoded';

/** Parameters that pg would take from the URL over LOOM_PG_SSL, silently, and with meanings of its own. */
const tlsParameters = ['ssl', 'sslmode', 'sslcert', 'sslkey', 'sslrootcert', 'sslnegotiation', 'uselibpqcompat'];
const urlParameters = ['application_name', 'host', 'options'];

export function postgresUrlFault(text: string): string | undefined {
  const url = parsePostgresUrl(text);
  if (url === undefined || !['postgres:', 'postgresql:'].includes(url.protocol)) return URL_FORM;
  // An unescaped `#`, `/` or `?` in the password lets the URL end early: what follows it still holds the real `@`.
  if (url.hash !== '' || url.pathname.includes('@')) return URL_FORM;
  if (![url.username, url.password, url.hostname, url.pathname].every(isPercentEncoded)) return URL_FORM;
  for (const name of url.searchParams.keys()) {
    if (tlsParameters.includes(name))
      return `must not have the parameter ${name}: set LOOM_PG_SSL, LOOM_PG_SSL_CA and LOOM_PG_SSL_REJECT_UNAUTHORIZED instead`;
    if (!urlParameters.includes(name))
      return `has a query parameter that LOOM does not take (it takes ${urlParameters.join(', ')})`;
  }
  return undefined;
}

function parsePostgresUrl(text: string): URL | undefined {
  // The URL parser drops white space and control characters, also in the middle.
  if (!isVisible(text)) return undefined;
  // `user@/database?host=/socket/directory` is usual for PostgreSQL, but has an empty host, which URL refuses.
  const complete = text.replace('@/', '@localhost/');
  return URL.canParse(complete) ? new URL(complete) : undefined;
}

function isPercentEncoded(part: string): boolean {
  try {
    decodeURIComponent(part);
    return true;
  } catch {
    return false;
  }
}

export function tokensFault(
  tokens: readonly string[],
  charactersLeast: number,
  maxCharacters: number,
): string | undefined {
  if (tokens.length > 2) return 'must be one token, or two separated by a comma';
  if (tokens.some((token) => !isVisible(token) || !/^[\x21-\x7e]*$/.test(token)))
    return 'must have printable ASCII characters only, without spaces';
  if (tokens.some((token) => token.length < charactersLeast))
    return `must have at least ${charactersLeast} characters in each token`;
  if (tokens.some((token) => token.length > maxCharacters))
    return `must have at most ${maxCharacters} characters in each token, to fit into a header`;
  return undefined;
}

export function hostFault(host: string): string | undefined {
  return isVisible(host) && !/[/@?#]/.test(host) ? undefined : 'must be an address or host name to listen on';
}

/** A path is fine, for a node behind a proxy; a user or password is not: it would be shown. */
export function nodeUrlFault(text: string): string | undefined {
  const fault = 'must have the form http://host:8787 or https://host, without user, password, query or fragment';
  if (!isVisible(text) || !URL.canParse(text)) return fault;
  const { protocol, username, password, search, hash } = new URL(text);
  const isPlain = [username, password, search, hash].every((part) => part === '');
  return isPlain && ['http:', 'https:'].includes(protocol) ? undefined : fault;
}

/** Checks that the text is one PEM certificate or several: a file cut in half would refuse every server only later. */
export function certificatesFault(pem: string): string | undefined {
  const certificates = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  const begun = pem.split('-----BEGIN ').length - 1;
  const valid = certificates.length > 0 && certificates.length === begun && certificates.every(isCertificate);
  return valid ? undefined : 'must be certificates in PEM form, or the path of a file that holds them';
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).subject !== undefined;
  } catch {
    return false;
  }
}

function isVisible(text: string): boolean {
  return !/\s/.test(text) && !hasControlCharacter(text);
}

function hasControlCharacter(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
  return /[\u0000-\u001f\u007f-\u009f]/.test(text);
}
