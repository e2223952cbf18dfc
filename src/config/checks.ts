import { X509Certificate } from 'node:crypto';
import { isIPv4, isIPv6 } from 'node:net';
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
  const fault = 'must be an address or host name to listen on, such as 127.0.0.1, ::1 or localhost';
  if (!isVisible(host) || /[/@?#]/.test(host)) return fault;
  // Only IPv6 has brackets or more than one colon; a single colon would separate a port.
  return !/[:[\]]/.test(host) || isIPv6(withoutBrackets(host)) ? undefined : fault;
}

/** Returns an IPv6 address without the brackets that it has in URLs. */
export function withoutBrackets(host: string): string {
  return host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
}

/** Lists the names for networks that Express and Fastify use, too. */
const namedNetworks: Record<string, string[]> = {
  loopback: ['127.0.0.0/8', '::1/128'],
  linklocal: ['169.254.0.0/16', 'fe80::/10'],
  uniquelocal: ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'],
};

/** Returns the proxies to trust: a number of them, or their networks; undefined for an invalid value. */
export function parseTrustProxy(text: string): false | number | string[] | undefined {
  const value = text.trim().toLowerCase();
  if (value === 'false' || value === '0') return false;
  if (value === 'true') return 1;
  if (/^\d{1,2}$/.test(value)) return Number(value);
  const networks = value.split(',').map((one) => one.trim());
  return networks.every((one) => Object.hasOwn(namedNetworks, one) || isNetwork(one))
    ? networks.flatMap((one) => namedNetworks[one] ?? one)
    : undefined;
}

/** Refuses a prefix of 0: it would trust every client. */
function isNetwork(text: string): boolean {
  const [address = '', prefix, ...more] = text.split('/');
  const bits = isIPv4(address) ? 32 : isIPv6(address) && !address.includes('%') ? 128 : 0;
  if (bits === 0 || more.length > 0) return false;
  return prefix === undefined || (/^[1-9]\d{0,2}$/.test(prefix) && Number(prefix) <= bits);
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
