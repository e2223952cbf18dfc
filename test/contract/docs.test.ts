import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { createBackupEncoder } from '../../src/backup/format/encoder.ts';
import { configVariables } from '../../src/config/config.ts';
import { actorNameFault } from '../../src/domain/actor.ts';
import { GENESIS_HASH } from '../../src/domain/audit.ts';
import type { ObservedHead } from '../../src/domain/state.ts';
import { errorCodes } from '../../src/errors.ts';
import { maxEarlierEntryBytes } from '../../src/limits/data.ts';
import { limits } from '../../src/limits.ts';
import { createMetrics } from '../../src/metrics.ts';

import { createFakeStoredBackups } from '../setup/backups/fake-stored-backups.ts';
import { createdTables } from './rules/migration-rules.ts';
import { codesIn, tableRows } from './rules/tables.ts';

const root = new URL('../../', import.meta.url);
const read = (path: string): Promise<string> => readFile(new URL(path, root), 'utf8');
const names = (await readdir(new URL('docs/', root))).filter((name) => name.endsWith('.md'));
const pages = new Map(
  await Promise.all(
    ['README.md', ...names.map((name) => `docs/${name}`)].map(async (path) => [path, await read(path)] as const),
  ),
);
const page = (path: string): string => {
  const text = pages.get(path);
  if (text === undefined) throw new Error(`there is no ${path}`);
  return text;
};

/** The tests below compare these pages with the code. Other tests check the pages of routes, codes and variables. */
const prose = [
  'README.md',
  'docs/tutorial.md',
  'docs/recipes.md',
  'docs/contributing.md',
  'docs/operations.md',
  'docs/deploy.md',
  'docs/faults.md',
  'docs/restore.md',
  'docs/client-commands.md',
  'docs/architecture.md',
  'docs/backup-format.md',
];
const statusOf = new Map<string, number>(errorCodes().map(({ code, status }) => [code, status]));

test('the runbook equals the contract, byte for byte', () => {
  expect(createHash('sha256').update(page('docs/runbook.md')).digest('hex')).toBe(
    'ae8b3f01b808d1901af5efcc51ddb2dd51c241bea95a8e5601c72ada7dd61e25',
  );
});

test.each(prose)(
  '%s names only variables, codes, scripts and files that exist, and each code with its status',
  async (path) => {
    const text = page(path);
    const variables = configVariables().flatMap(({ name, secret }) => (secret ? [name, `${name}_FILE`] : [name]));
    const ofTests = ['PG_URL', 'DEPTH', 'SEED', 'ROLES', 'PGBOUNCER'].map((name) => `LOOM_TEST_${name}`);
    const known = [...variables, ...ofTests];
    expect(
      [...text.matchAll(/\bLOOM_[A-Z_]+\b/g)].map(([name]) => name).filter((name) => !known.includes(name)),
    ).toEqual([]);

    const withStatus = [...text.matchAll(/`([a-z]+(?:_[a-z]+)*)`(?:, | \()(\d{3})\b/g)];
    const wrong = withStatus.filter(([, code = '', status]) => statusOf.get(code) !== Number(status));
    expect(wrong.map(([found]) => found)).toEqual([]);

    const { scripts } = JSON.parse(await read('package.json'));
    const used = [...text.matchAll(/npm (?:run )?([a-z]+)/g)].map((match) => match[1] ?? '');
    expect(used.filter((name) => name !== 'ci' && !(name in scripts))).toEqual([]);

    const paths = [...text.matchAll(/\b(?:src|test|migrations)\/[a-z0-9/-]*(?:\.[a-z.]+)?/g)].map(([found]) => found);
    expect(paths.filter((file) => !existsSync(new URL(file, root)))).toEqual([]);
  },
);

test('every link to a heading leads to a heading', () => {
  const broken = [...pages].flatMap(([path, text]) =>
    [...text.matchAll(/\]\(([\w./-]*)#([^)\s]+)\)/g)]
      .filter(([, file = '', anchor = '']) => !anchorsOf(page(resolve(path, file))).includes(anchor))
      .map(([link]) => `${path}: ${link}`),
  );
  expect(broken).toEqual([]);
});

function resolve(from: string, file: string): string {
  return file === '' ? from : new URL(file, `file:///${from}`).pathname.slice(1);
}

/** Returns the anchors that common viewers generate from headings, and those that the page sets itself. */
function anchorsOf(text: string): string[] {
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replaceAll(' ', '-'),
  );
  return [...headings, ...[...text.matchAll(/^<a id="([^"]+)"><\/a>$/gm)].map(([, id = '']) => id)];
}

describe('docs/operations.md', () => {
  test('names only metrics of the node', async () => {
    const metrics = createMetrics();
    const head: ObservedHead = {
      stateKey: 'default',
      epoch: 'e',
      revision: 0,
      documents: 0,
      bytes: 0,
      head: { seq: 0, hash: GENESIS_HASH },
      lastBackupAt: null,
      lastRestoreAt: null,
      updatedAt: '2026-01-01T00:00:00.000000Z',
      epochChanges: 0,
      lastEpochChange: null,
      futureTimes: [],
    };
    metrics.watch({
      observe: () => ({
        queueDepth: 0,
        pool: { total: 0, idle: 0, waiting: 0, max: 1, streams: { used: 0, max: 1 } },
        operations: [],
        lastChainCheck: null,
      }),
      readiness: () => ({ ok: true, checks: { http: 'ok', database: 'ok', schema: 'ok' } }),
      readHead: () => Promise.resolve(head),
      readStoredBackups: () => createFakeStoredBackups().observe(),
    });
    metrics.countRequest({ method: 'GET', route: '/ready', status: 200, durationMs: 1, isProbe: true });
    const { text } = await metrics.scrape();
    metrics.close();
    const alarms = tableRows(page('docs/operations.md'), 'alarm').map(([, expression = '']) => expression);
    const named = alarms.flatMap((expression) => [...expression.matchAll(/\bloom_[a-z_]+/g)].map(([name]) => name));
    expect(named.length).toBeGreaterThanOrEqual(alarms.length);
    expect(named.filter((name) => !new RegExp(`^${name}(?:\\{| )`, 'm').test(text))).toEqual([]);
    const labels = alarms.flatMap((expression) =>
      [...expression.matchAll(/\{(\w+="[^"]+")\}/g)].map((match) => match[1] ?? ''),
    );
    expect(labels.filter((label) => !text.includes(label))).toEqual([]);
  });

  test.each([
    `${limits.maxWrongTokens} wrong tokens a minute`,
    `up to ${limits.maxQueueCommits.toLocaleString('en')} deep`,
    `Up to ${limits.maxQueueBytes / 2 ** 20} MiB of commits`,
    `time out after ${limits.queryTimeoutMs / 1000} s, commits after ${limits.commitTimeoutMs / 1000} s`,
    `sends the commit again for up to ${limits.commitTimeoutMs / 1000} s`,
    `no answer within ${limits.probeDeadlineMs / 1000} s`,
    `reads fewer than ${limits.minClientBytesPerSecond.toLocaleString('en')} bytes a second over ${limits.clientPaceWindowMs / 1000} s`,
    `use at most ${limits.maxBodiesBytes / 2 ** 20} MiB, and all answers at most ${limits.maxAnswersBytes / 2 ** 20} MiB`,
  ])('states the limit: %s', (words) => {
    expect(page('docs/operations.md').replace(/\s+/g, ' ')).toContain(words);
  });
});

describe('docs/http-api.md', () => {
  test.each([
    `stops reading while ${limits.maxPipelinedRequests} of them wait`,
    `16 KiB and ${limits.maxRequestHeaders} headers`,
    `at most ${limits.maxQueryParameters} parameters`,
    `first ${limits.maxHeaderElements} elements of a list`,
    `after ${limits.maxWrongTokens} wrong tokens from one address`,
    `has 1 to ${limits.maxActorCharacters} printable characters`,
    `entries with more than ${limits.maxHistoryEntryBytes / 2 ** 20} MiB of stored bytes`,
    `set back by more than ${limits.maxClockStepMs / 60_000} minutes`,
  ])('states the limit: %s', (words) => {
    expect(page('docs/http-api.md').replace(/\s+/g, ' ')).toContain(words);
  });
});

describe('docs/restore.md', () => {
  test.each([
    `up to ${limits.commitLockTimeoutMs / 1000} s, and are then answered \`state_busy\``,
    `at most ${limits.maxPlanNames} names of each kind`,
    `The name has at most ${limits.maxScratchKeyBytes} bytes`,
    `ends the restore's transaction after ${limits.lockedIdleTimeoutMs / 1000} s`,
    `it takes up to ${limits.operationIdleTimeoutMs / 60_000} minutes`,
    `its last ${limits.maxUndoRecords} restores and undos`,
    `the newest ${limits.maxReplacedRestores}`,
    `at most ${limits.maxSelectedDocuments.toLocaleString('en-US')}, which together have at most ${limits.maxBackupMemberBytes / 1024} KiB`,
  ])('states the limit: %s', (words) => {
    expect((page('docs/restore.md') + page('docs/operations.md')).replace(/\s+/g, ' ')).toContain(words);
  });
});

test('docs/http-api.md names only characters that the name of an actor cannot have', () => {
  const rows = tableRows(page('docs/http-api.md'), 'refused');
  const points = rows.flatMap(([, , examples = '']) => [...examples.matchAll(/U\+([\dA-F]{4,6})/g)]);
  expect(points.length).toBeGreaterThan(10);
  const accepted = points.filter(([, hex = '']) => {
    const character = String.fromCodePoint(Number.parseInt(hex, 16));
    return actorNameFault(`a${character}a`) === undefined;
  });
  expect(accepted).toEqual([]);
});

test('docs/errors.md states how long a commit and a restore wait for the row of the state', () => {
  const commitSeconds = limits.commitLockTimeoutMs / 1000;
  expect(page('docs/errors.md')).toContain(
    `A commit waits up to ${commitSeconds} s for it, or up to ${2 * commitSeconds} s if several nodes wait; ` +
      `a restore waits up to ${limits.restoreLockTimeoutMs / 1000} s`,
  );
});

test('docs/errors.md and docs/http-api.md state the work of one commit', () => {
  const workMiB = limits.maxCommitWorkBytes / 2 ** 20;
  const errors = page('docs/errors.md');
  expect(errors).toContain(`more than ${workMiB} MiB, or the merge took more than ${limits.maxCommitMergeMs / 1000} s`);
  expect(errors).toContain(`would have more than ${limits.maxAuditEntryBytes / 2 ** 20} MiB`);
  expect(page('docs/http-api.md')).toContain(`at most ${workMiB} MiB in total`);
});

test('docs/restore.md explains every member of a restore, and no other', async () => {
  const source = await read('src/domain/request.ts');
  const schema = /restore(?:Members)?Schema = z\.strictObject\(\{\n([\s\S]*?)\n\}\)/.exec(source)?.[1] ?? '';
  const members = [...schema.matchAll(/^ {2}(\w+):/gm)]
    .map(([, name = '']) => name)
    .filter((name) => name !== 'confirm');
  const rows = tableRows(page('docs/restore.md'), 'member');
  expect(rows.flatMap(([member = '']) => codesIn(member)).sort()).toEqual(members.sort());
});

test.each(['docs/architecture.md', 'docs/operations.md'])('%s names every table', async (path) => {
  const folder = new URL('migrations/', root);
  const sql = await Promise.all((await readdir(folder)).map((name) => readFile(new URL(name, folder), 'utf8')));
  const tables = (await Promise.all(sql.map(createdTables))).flat();
  expect(tables.length).toBeGreaterThan(5);
  expect(tables.filter((table) => !page(path).includes(`\`${table}\``))).toEqual([]);
});

describe('docs/backup-format.md', () => {
  const text = page('docs/backup-format.md');

  test('lists exactly the members of a backup', () => {
    const backup = JSON.parse(exampleBackup());
    expect(tableRows(text, 'member').flatMap(([members = '']) => codesIn(members))).toEqual(Object.keys(backup));
    const manifest = text.slice(text.indexOf('**Manifest.**'));
    expect(tableRows(manifest, 'member').map(([member = '']) => codesIn(member)[0])).toEqual(
      Object.keys(backup.manifest),
    );
  });

  test('names a code of the catalogue for each check, and every code of a backup', () => {
    const codes = tableRows(text, 'check').flatMap(([, cell = '']) => codesIn(cell));
    expect(codes.filter((code) => !statusOf.has(code))).toEqual([]);
    const ofBackups = [...statusOf.keys()].filter((code) => code.startsWith('backup_') && code !== 'backup_running');
    expect(ofBackups.filter((code) => !codes.includes(code))).toEqual([]);
  });

  test('states the limit of each part', () => {
    const MiB = 2 ** 20;
    expect(text).toContain(
      `a document ${limits.maxConfigurableDocumentBytes / MiB} MiB, an entry ${limits.maxReadableEntryBytes / MiB} MiB`,
    );
    expect(text).toContain(`with ${limits.maxReadableEntryDepth} levels of nesting`);
    expect(text.replace(/\s+/g, ' ')).toContain(
      `entries of up to ${limits.maxAuditEntryBytes / MiB} MiB, and earlier versions ` +
        `wrote up to ${(maxEarlierEntryBytes / MiB).toFixed(1)} MiB. A restore imports up to ` +
        `${(limits.maxImportedEntryBytes / MiB).toFixed(1)} MiB and ${limits.maxAuditEntryDepth} levels`,
    );
    expect(text).toContain(
      `any other member ${limits.maxBackupMemberBytes / 1024} KiB, ${limits.maxBackupHeaderMembers} members`,
    );
    expect(text).toContain(`at most ${limits.maxDocumentDepth} levels of nesting`);
    expect(text).toContain(`1 to ${limits.maxDocumentNameBytes} bytes of UTF-8`);
    expect(text).toContain(`a string of 1 to ${limits.maxIdempotencyKeyBytes} bytes`);
    expect(text).toContain(`from 0 to 2^${Math.log2(limits.maxBackupRevision)}`);
    expect(text).toContain(`has at most ${limits.maxBackupHeaderCharacters} characters`);
  });
});

function exampleBackup(): string {
  const encoder = createBackupEncoder();
  const begin = encoder.begin({
    loom_backup_version: 1,
    backend: 'postgres',
    instance_id: '00000000-0000-4000-8000-000000000000',
    state_key: 'default',
    schema_version: 1,
    epoch: 'e',
    revision: 0,
    exported_at: '2026-01-01T00:00:00.000000Z',
    state_updated_at: '2026-01-01T00:00:00.000000Z',
  });
  const head = { seq: 0, hash: GENESIS_HASH };
  return [begin, encoder.beginDigests(), encoder.beginAudit(head), encoder.end(head)].join('');
}
