import { X509Certificate } from 'node:crypto';
import { hasControlCharacter } from './characters.ts';
import { parsePostgresUrl } from './postgres-url.ts';

// Each check returns undefined for a valid value, otherwise the fault as a predicate for the variable's name: "must …".
// A fault never repeats a part of the value, because it may be a secret in the wrong variable.

export function postgresUrlFault(text: string): string | undefined {
  const parsed = parsePostgresUrl(text);
  return 'fault' in parsed ? parsed.fault : undefined;
}

export function tokensFault(
  tokens: readonly string[],
  minCharacters: number,
  maxCharacters: number,
): string | undefined {
  if (tokens.length > 2) return 'must be one token, or two separated by a comma';
  if (tokens.some((token) => !isVisible(token) || !/^[\x21-\x7e]*$/.test(token)))
    return 'must have only printable ASCII characters, without spaces';
  if (tokens.some((token) => token.length < minCharacters))
    return `must have at least ${minCharacters} characters in each token`;
  if (tokens.some((token) => token.length > maxCharacters))
    return `must have at most ${maxCharacters} characters in each token, to fit into a header`;
  return undefined;
}

export function hostFault(host: string): string | undefined {
  return isVisible(host) && !/[/@?#]/.test(host) ? undefined : 'must be an address or host name to listen on';
}

/** Allows a path, for a node behind a proxy. Refuses user and password, because messages show the URL. */
export function nodeUrlFault(text: string): string | undefined {
  const fault = 'must have the form http://host:8787 or https://host, without user, password, query or fragment';
  if (!isVisible(text) || !URL.canParse(text)) return fault;
  const { protocol, username, password, search, hash } = new URL(text);
  const isPlain = [username, password, search, hash].every((part) => part === '');
  return isPlain && ['http:', 'https:'].includes(protocol) ? undefined : fault;
}

/** Checks that every PEM block is a certificate, so that LOOM reports a truncated file at start. */
export function certificatesFault(pem: string): string | undefined {
  const certificates = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  const begun = pem.split('-----BEGIN ').length - 1;
  const valid = certificates.length > 0 && certificates.length === begun && certificates.every(isCertificate);
  return valid ? undefined : 'must be certificates in PEM form, or the path of such a file';
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
