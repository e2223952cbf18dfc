import { limits } from '../limits.ts';
import { hasControlCharacter } from './characters.ts';

/** Holds the parts of `LOOM_PG_URL`. Undefined parts take the defaults of `pg`. */
export interface PostgresTarget {
  /** Lists the servers in the order in which the node tries them: at least one. */
  hosts: PostgresHost[];
  user: string | undefined;
  password: string | undefined;
  database: string | undefined;
  applicationName: string | undefined;
  /** Settings for the server, as in PostgreSQL's command line. */
  options: string | undefined;
  /** What a server must accept. `read-write` is the default for several hosts, and `any` for one. */
  accepts: TargetSession;
}

export interface PostgresHost {
  /** A name, an address or the directory of a Unix socket. */
  host: string | undefined;
  port: number | undefined;
}

/** `primary`: no standby. `read-write`: no standby, and `default_transaction_read_only` is off. */
export type TargetSession = (typeof targetSessions)[number];

const targetSessions = ['any', 'read-write', 'primary'] as const;

const URL_FORM =
  'must have the form postgres://user:password@host:5432/database, or with several hosts postgres://user:password@host1:5432,host2:5432/database; percent-encode special characters in user and password';

/** Lists the parameters that would make pg silently override LOOM_PG_SSL. */
const tlsParameters = ['ssl', 'sslmode', 'sslcert', 'sslkey', 'sslrootcert', 'sslnegotiation', 'uselibpqcompat'];
const urlParameters = ['application_name', 'host', 'options', 'port', 'target_session_attrs'];

/**
 * Describes a fault as a predicate for the variable's name. It never repeats a part of the URL, which has a password.
 */
interface Fault {
  fault: string;
}

/**
 * Parses a connection URI as libpq does (PostgreSQL's manual, "Connection URIs"), but refuses unencoded special
 * characters in user and password, which cut the URI at another place than its author meant.
 */
export function parsePostgresUrl(text: string): PostgresTarget | Fault {
  const match = /^postgres(?:ql)?:\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/i.exec(text);
  if (match === null || /\s/.test(text) || hasControlCharacter(text)) return { fault: URL_FORM };
  const [, authority = '', database = '', query = ''] = match;
  // An unescaped `#`, `/` or `?` in the password ends the authority early, and the real `@` ends up in a later part.
  if (database.includes('@')) return { fault: URL_FORM };
  const parameters = new URLSearchParams(query);
  const unknown = parameterFault(parameters);
  if (unknown !== undefined) return { fault: unknown };
  const at = authority.lastIndexOf('@');
  const [user, password] = splitOnce(authority.slice(0, Math.max(at, 0)), ':').map(decode);
  const name = decode(database);
  const hosts = hostsOf(authority.slice(at + 1), parameters);
  if (user === undefined || password === undefined || name === undefined) return { fault: URL_FORM };
  if ('fault' in hosts) return hosts;
  const accepts = acceptsOf(parameters, hosts.list.length);
  if (accepts === undefined) {
    return {
      fault: `has a target_session_attrs that LOOM cannot use: set it to ${targetSessions.join(', ')}, because a node writes`,
    };
  }
  return {
    hosts: hosts.list,
    user: orUndefined(user),
    password: orUndefined(password),
    database: orUndefined(name),
    applicationName: last(parameters, 'application_name'),
    options: last(parameters, 'options'),
    accepts,
  };
}

function parameterFault(parameters: URLSearchParams): string | undefined {
  for (const name of parameters.keys()) {
    if (tlsParameters.includes(name))
      return `has the parameter ${name}: remove it and set LOOM_PG_SSL, LOOM_PG_SSL_CA and LOOM_PG_SSL_REJECT_UNAUTHORIZED instead`;
    if (!urlParameters.includes(name))
      return `has an unknown query parameter; LOOM accepts only ${urlParameters.join(', ')}`;
  }
  return undefined;
}

/** Reads the hosts of the authority, or of the parameters `host` and `port`, which take precedence. */
function hostsOf(authority: string, parameters: URLSearchParams): { list: PostgresHost[] } | Fault {
  const givenHosts = last(parameters, 'host')?.split(',');
  const list = givenHosts?.map(parseHost) ?? authority.split(',').map(parseHostAndPort);
  if (list.length > limits.maxDatabaseHosts)
    return { fault: `has more than ${limits.maxDatabaseHosts} hosts: remove some` };
  const ports = last(parameters, 'port')?.split(',').map(parsePort) ?? [];
  if (ports.length > 1 && ports.length !== list.length)
    return {
      fault: `has ${list.length} hosts but ${ports.length} ports: give one port for all hosts, or one for each`,
    };
  if (list.includes(undefined) || ports.includes('invalid')) return { fault: URL_FORM };
  // In `user@/database`, the host is the default. In a list, an empty host is a mistake.
  const isComplete = list.length === 1 || list.every((one) => one?.host !== undefined);
  if (!isComplete) return { fault: 'has an empty host in its list of hosts: name each host' };
  const withPorts = list.map((one, index): PostgresHost => {
    const port = ports[index] ?? ports[0] ?? one?.port;
    return { host: one?.host, port: port === 'invalid' ? undefined : port };
  });
  return { list: withPorts };
}

function parseHostAndPort(text: string): PostgresHost | undefined {
  const match = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/.exec(text);
  const port = parsePort(match?.[2] ?? '');
  const host = parseHost(match?.[1] ?? ':');
  return host === undefined || port === 'invalid' ? undefined : { ...host, port };
}

/** Returns undefined for a host that is not valid. */
function parseHost(text: string): PostgresHost | undefined {
  const inner = /^\[([0-9a-f:.]+(?:%25[\w.-]+)?)\]$/i.exec(text)?.[1];
  const host = decode(inner ?? text);
  if (host === undefined || (inner !== undefined && !inner.includes(':'))) return undefined;
  const isPlain = host.startsWith('/') || inner !== undefined || !/[\s/?#@[\]<>^|\\%:]/.test(host);
  // A parameter `host` may be an IPv6 address without brackets.
  const isAddress = /^[0-9a-f]*:[0-9a-f:.]+$/i.test(host);
  return isPlain || isAddress ? { host: orUndefined(host), port: undefined } : undefined;
}

function parsePort(text: string): number | undefined | 'invalid' {
  if (text === '') return undefined;
  return /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535 ? Number(text) : 'invalid';
}

function acceptsOf(parameters: URLSearchParams, hosts: number): TargetSession | undefined {
  const given = last(parameters, 'target_session_attrs');
  if (given === undefined) return hosts > 1 ? 'read-write' : 'any';
  return targetSessions.find((one) => one === given);
}

function last(parameters: URLSearchParams, name: string): string | undefined {
  return orUndefined(parameters.getAll(name).at(-1));
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

/**
 * Decodes percent-encoding. Returns undefined if it is not valid, or encodes a NUL, which PostgreSQL cannot receive.
 */
function decode(text: string): string | undefined {
  try {
    const decoded = decodeURIComponent(text);
    return decoded.includes('\0') ? undefined : decoded;
  } catch {
    return undefined;
  }
}

function orUndefined(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}
