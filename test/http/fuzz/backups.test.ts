import { afterAll, beforeAll, expect, test } from 'vitest';
import type { OpenBackup } from '../../../src/backup/offline/read.ts';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import { isLoomError } from '../../../src/errors.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import { depth, rounds, seededRandom, seedLabel } from '../../setup/depth.ts';
import { mutateBackup } from '../../setup/fuzz/backup-mutants.ts';
import { judgeProblem } from '../../setup/fuzz/judge.ts';
import { asAdmin, createTestServer, json, type TestResponse, type TestServer } from '../../setup/node/http.ts';
import { tally } from '../../setup/node/nodes.ts';

const MUTANTS = rounds({ quick: 10, full: 500 });

let server: TestServer;
let text: string;
beforeAll(async () => {
  server = await createTestServer();
  for (const [name, body] of [
    ['a/b', '{"list":[1,2.5,true,null,"x"],"nested":{"":{"deep":1e21}}}'],
    ['ü', '"text"'],
    ['gone', '0.1'],
  ] as const) {
    await request('PUT', `/v1/documents/${encodeURIComponent(name)}`, body, {
      'idempotency-key': encodeURIComponent(name),
    });
  }
  await request('PATCH', '/v1/state', '{"gone":null,"a/b":{"list":null},"more":[]}');
  const first = (await request('GET', backupPath)).text;
  await request('PUT', '/v1/documents/later', '1');
  await request('POST', restorePath, `{"confirm":"restore","backup":${first}}`);
  await request('POST', '/v1/admin/persistence/undo', '{"confirm":"undo"}');
  await request('POST', restorePath, `{"confirm":"restore","truncate_audit":true,"backup":${first}}`);
  await request('PUT', '/v1/documents/last', '{"n":[1,{"m":"😀"}]}', { 'x-loom-actor': 'alice' });
  text = (await request('GET', backupPath)).text;
  await request('PUT', '/v1/documents/live', '{"as":"it is now"}');
});
afterAll(() => server.close());

const backupPath = '/v1/admin/persistence/backup';
const restorePath = '/v1/admin/persistence/restore';

async function request(
  method: 'GET' | 'PUT' | 'PATCH' | 'POST' | 'DELETE',
  url: string,
  body?: string | Buffer,
  headers = {},
): Promise<TestResponse> {
  const answer = await server.request(method, url, {
    headers: { ...asAdmin, ...json, ...headers },
    ...(body === undefined ? {} : { body }),
  });
  if (answer.status >= 300) throw new Error(`${method} ${url}: ${answer.status} ${answer.text}`);
  return answer;
}

interface Verdict {
  code: string;
  pointer?: string | undefined;
  document?: string | undefined;
  seq?: number | undefined;
  offset?: number | undefined;
}

/** Returns the verdict of `verify FILE`, with the place as in the body of a restore. */
async function judgeFile(content: Buffer, offsetInBody: number): Promise<Verdict> {
  const open: OpenBackup = async function* () {
    for (let at = 0; at < content.length; at += 1_000) yield content.subarray(at, at + 1_000);
  };
  try {
    await verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION });
    return { code: 'accepted' };
  } catch (error) {
    if (!isLoomError(error)) throw error;
    const { pointer, document, seq, offset } = error.place;
    return toVerdict({
      code: error.code,
      pointer: pointer === undefined ? undefined : `/backup${pointer}`,
      document,
      seq,
      offset: offset === undefined ? undefined : offset + offsetInBody,
    });
  }
}

function toVerdict({ code, pointer, document, seq, offset }: Verdict): Verdict {
  // An error truncates a long pointer, which begins with `/backup` only in a body.
  return { code, pointer: pointer?.slice(0, 2_000), document, seq, offset };
}

/** Returns the answer of the node to a restore with these members. */
function restore(members: object, content: Buffer): Promise<TestResponse> {
  const start = startOf(members);
  const body = Buffer.concat([Buffer.from(start), content, Buffer.from('}')]);
  return server.request('POST', restorePath, { headers: { ...asAdmin, ...json }, body });
}

const startOf = (members: object): string => `${JSON.stringify(members).slice(0, -1)},"backup":`;

/** Text that is no JSON ends at another place in a file than in a body. */
const otherEnds = new Set(['invalid_restore_request', 'invalid_json', 'backup_incomplete', 'backup_malformed']);

function isJson(content: Buffer): boolean {
  try {
    JSON.parse(content.toString('utf8'));
    return true;
  } catch {
    return false;
  }
}

/** Returns the fault of LOOM that the mutant shows; undefined if there is none. Counts the verdict. */
async function tryMutant(content: Buffer, codes: string[]): Promise<object | undefined> {
  const members = { confirm: 'restore', dry_run: true, ...acceptedKey(content) };
  const plan = await restore(members, content);
  const file = await judgeFile(content, Buffer.byteLength(startOf(members)));
  codes.push(file.code);
  if (plan.status >= 500) return { plan: plan.text, file };
  const node = plan.status < 300 ? { code: 'accepted' } : toVerdict(plan.json());
  if (plan.status >= 400) judgeProblem(plan.status, plan.text);
  if (!isJson(content)) {
    const agree = node.code === file.code || (otherEnds.has(node.code) && file.code !== 'accepted');
    return agree ? undefined : { node, file };
  }
  if (JSON.stringify(node) !== JSON.stringify(file)) return { node, file };
  return plan.status < 300 ? tryAccepted(members, content, plan) : undefined;
}

/** Accepts the state key of the mutant: that of another state is no fault of a file. */
function acceptedKey(content: Buffer): object {
  const key: unknown = isJson(content) ? JSON.parse(content.toString('utf8'))?.state_key : undefined;
  return typeof key === 'string' && key !== 'default' ? { accept_state_key: key } : {};
}

/** Restores a mutant that both accept, into a scratch state and for real, and undoes it. */
async function tryAccepted(members: object, content: Buffer, plan: TestResponse): Promise<object | undefined> {
  const before = (await request('GET', '/v1/state')).text;
  const scratch = await restore({ ...members, dry_run: false, into_scratch: 'trial' }, content);
  if (scratch.status !== 200) return { scratch: scratch.text };
  await request('GET', '/v1/audit/verify?scratch=trial');
  await request('DELETE', '/v1/admin/persistence/scratch/trial');
  const done = await restore({ ...members, dry_run: false }, content);
  if (done.status !== 200) return { restore: done.text };
  const [planned, made] = [plan.json().documents, done.json().documents];
  if (JSON.stringify(planned) !== JSON.stringify(made)) return { planned, made };
  await request('POST', '/v1/admin/persistence/undo', '{"confirm":"undo"}');
  const after = (await request('GET', '/v1/state')).text;
  return after === before ? undefined : { before, after };
}

test(`verify FILE and a restore have the same verdict and place for ${MUTANTS} mutants of a backup`, async () => {
  const faults: object[] = [];
  const codes: string[] = [];
  expect(await tryMutant(Buffer.from(text), codes)).toBeUndefined();
  for (let index = 0; index < MUTANTS && faults.length < 10; index += 1) {
    const { what, content } = mutateBackup(text, seededRandom(`backup ${index}`));
    const fault = await tryMutant(content, codes).catch((error: unknown) => ({ error: String(error) }));
    if (fault !== undefined) faults.push({ index, what, ...fault });
  }
  if (depth === 'full') process.stdout.write(`${JSON.stringify(tally(codes))}\n`);
  expect(faults, seedLabel).toEqual([]);
  expect(codes[0]).toBe('accepted');
  expect((await request('GET', '/v1/audit/verify')).json()).toMatchObject({ ok: true });
}, 300_000);
