import type { Random } from '../values/random.ts';

/** Remembers what a node answered, so that later requests can use it. */
export interface Known {
  names: string[];
  etags: string[];
  eventIds: string[];
  scratchKeys: string[];
  /** Texts of backups. */
  backups: string[];
  /** Names of stored backups, and ids of the runs that take and prove them. */
  storedNames: string[];
  runIds: string[];
  /** Revisions, and cursors of pages. */
  numbers: number[];
  cursors: string[];
  keys: string[];
}

/** Bounds each list: the oldest value goes first. */
const maxKnown = 12;
/** A larger backup takes too long to parse and spoil. */
const maxKnownBackupCharacters = 150_000;

export function createKnown(): Known {
  return {
    names: ['greeting', 'a/b', 'ü'],
    etags: ['"mv0S7yTtHF.17"'],
    eventIds: ['01a214ed-a53e-7cec-a3cc-fe25a65bce35'],
    scratchKeys: ['trial'],
    backups: [],
    storedNames: [],
    runIds: [],
    numbers: [0, 1, 2],
    cursors: ['a'],
    keys: ['key-1'],
  };
}

function remember<T>(list: T[], value: T): void {
  if (list.includes(value)) return;
  list.push(value);
  if (list.length > maxKnown) list.shift();
}

/** Learns from an answer of the status 2xx, from its headers and the members of its body. */
export function learn(known: Known, { headers, text }: { headers: Record<string, string>; text: string }): void {
  const { etag, location } = headers;
  if (etag !== undefined) remember(known.etags, etag);
  if (location !== undefined) remember(known.names, decodeURIComponent(location.split('/').at(-1) ?? ''));
  const isJson = headers['content-type']?.startsWith('application/json') ?? false;
  if (!isJson || !text.startsWith('{') || text.length > maxKnownBackupCharacters) return;
  const body: Record<string, unknown> = JSON.parse(text);
  if ('loom_backup_version' in body) remember(known.backups, text);
  else visit(body, known);
}

/** Names the members with objects from which the fuzzer learns. */
const VISITED = ['undo', 'kept', 'scratch_states', 'history', 'entries', 'backups', 'runs'];

function visit(value: object, known: Known): void {
  for (const [name, member] of Object.entries(value)) {
    if (name === 'event_id' && typeof member === 'string') remember(known.eventIds, member);
    else if (name === 'state_key' && typeof member === 'string' && member !== 'default')
      remember(known.scratchKeys, member);
    else if (['revision', 'seq', 'next'].includes(name) && typeof member === 'number') remember(known.numbers, member);
    else if (name === 'next' && typeof member === 'string') remember(known.cursors, member);
    else if (name === 'name' && typeof member === 'string' && isStoredBackup(value))
      remember(known.storedNames, member);
    else if (name === 'id' && typeof member === 'string') remember(known.runIds, member);
    else if (VISITED.includes(name) && isObject(member)) visit(member, known);
    else if (isObject(member) && /^\d+$/.test(name)) visit(member, known);
  }
}

function isStoredBackup(value: object): boolean {
  return 'taken_at' in value || 'attempt' in value;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** Returns a known value that the parameter of the path can have, as a text; undefined if there is none. */
export function knownParameter(known: Known, name: string, path: string, random: Random): string | undefined {
  const isOfStore = path.startsWith('/v1/admin/backups');
  const lists: Record<string, readonly (string | number)[]> = {
    name: isOfStore ? known.storedNames : known.names,
    document: known.names,
    prefix: known.names,
    after: [...known.cursors, ...known.numbers],
    before: isOfStore ? known.storedNames : known.numbers,
    id: known.runIds,
    scratch: known.scratchKeys,
    state_key: known.scratchKeys,
    'if-match': [...known.etags, '*', known.etags.join(', ')],
    'if-none-match': [...known.etags, '*', `W/${known.etags[0]}`],
    'idempotency-key': known.keys,
    action: ['document.put', 'document.delete', 'restore', 'undo', 'state.replace', 'restore.changes'],
  };
  const list = lists[name] ?? [];
  return list.length === 0 ? undefined : String(random.pick(list));
}
