import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { backup } from '../../../src/cli/backup.ts';
import type { Command } from '../../../src/cli/command.ts';
import { drill } from '../../../src/cli/drill.ts';
import { restore } from '../../../src/cli/restore.ts';
import { undo } from '../../../src/cli/undo.ts';
import type { RestoreReport } from '../../../src/domain/backup.ts';
import { writeBackup } from '../../setup/backup/written-backup.ts';
import { useClientSite } from '../../setup/cli/client-site.ts';
import { type CommandOptions, type CommandRun, runCommand } from '../../setup/cli/command.ts';
import { type FakeNode, restoreReport, startFakeNode, statusReport, undoReport } from '../../setup/cli/fake-node.ts';
import { ADMIN_TOKEN, createTestServer } from '../../setup/node/http.ts';

const OWN = '5b0c6f1e-7f0a-4b0e-9a55-3d1c2b4a6f70';
const OTHER = '00000000-0000-4000-8000-000000000000';
const DAY_MS = 86_400_000;

describe('with a node that names itself and the backup', () => {
  let node: FakeNode;
  let folder: string;
  let file: string;
  let liveInstance: string | null;
  let more: Partial<RestoreReport>;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'loom-identity-'));
    file = join(folder, 'backup.json');
    const taken = new Date(Date.now() - 3 * DAY_MS - 1_000).toISOString();
    await writeFile(file, writeBackup({ header: { instance_id: OWN, exported_at: taken }, documents: [['a', '1']] }));
    liveInstance = OWN;
    more = {};
    node = await startFakeNode({
      '/v1/admin/status': statusReport(),
      '/v1/admin/persistence/restore': (body: string) =>
        restoreReport({
          dry_run: body.includes('"dry_run":true'),
          live: { instance_id: liveInstance, state_key: 'default', revision: 8 },
          ...more,
        }),
      '/v1/admin/persistence/undo': undoReport({
        undone: [
          { event_id: 'newer', kind: 'undo', taken_at: new Date(Date.now() - 3_600_000).toISOString(), revision: 8 },
          { event_id: 'older', kind: 'restore', taken_at: taken, revision: 7 },
        ],
      }),
    });
  });
  afterEach(async () => {
    await node.close();
    await rm(folder, { recursive: true, force: true });
  });

  /** Runs a command, answers each question with `typed`, and returns the questions. */
  async function ask(command: Command, args: string[], typed: string, options: CommandOptions = {}) {
    const questions: string[] = [];
    const answers = async (question: string): Promise<string> => {
      questions.push(question);
      return typed;
    };
    const env = { LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_URL: node.url };
    const done: CommandRun = await runCommand(command, args, { env, answers, ...options });
    return { ...done, question: questions.join('\n') };
  }

  const acts = (): number => node.asked.filter(({ body }) => body.includes('"dry_run":false')).length;

  it('plan and question of a restore name the node, the states, the instances and the age of the backup', async () => {
    const { code, stdout, question } = await ask(restore, [file], 'restore');
    expect(code).toBe(0);
    expect(stdout).toContain(`\nnode         ${node.url}, version 0.1.0\n`);
    expect(stdout).toContain(`\nlive state   "default" at revision 8, instance "${OWN}"\n`);
    expect(stdout).toContain(
      `\nbackup of    "default" at revision 7, 1 document, schema 1\n             instance "${OWN}"\n`,
    );
    expect(stdout).toMatch(/\ntaken +3 days ago: \d{4}-/);
    expect(stdout).not.toContain('ATTENTION');
    expect(question).toBe(
      'Restore the backup of "default", taken 3 days ago, into the live state "default" of ' +
        `${node.url}: 1 added, 1 changed, 0 removed, 0 unchanged.\nType restore to continue: `,
    );
  });

  it('a backup of another instance is marked, and needs the state key of the node as the answer', async () => {
    liveInstance = OTHER;
    const refused = await ask(restore, [file], 'restore');
    expect([refused.code, acts()]).toEqual([1, 0]);
    expect(refused.stdout).toContain('ATTENTION    THIS BACKUP COMES FROM ANOTHER INSTANCE\n');
    expect(refused.question).toMatch(
      / THIS BACKUP COMES FROM ANOTHER INSTANCE\.\nType the state key "default" to continue: $/,
    );
    expect(await ask(restore, [file], 'default')).toMatchObject({ code: 0 });
    expect(acts()).toBe(1);
  });

  it('--yes does not restore a backup of another instance without --accept-instance', async () => {
    liveInstance = OTHER;
    const { code, stderr } = await ask(restore, [file, '--yes'], '');
    expect([code, acts()]).toEqual([1, 0]);
    expect(stderr).toMatch(/^restore failed: instance_mismatch\nTHIS BACKUP COMES FROM ANOTHER INSTANCE\. /);
    expect(stderr).toContain(`Its instance is "${OWN}", and that of the node is "${OTHER}".`);
    expect(stderr).toContain('--accept-instance');
    const json = JSON.parse((await ask(restore, [file, '--yes', '--json'], '')).stdout);
    expect(json).toMatchObject({ ok: false, code: 'instance_mismatch' });
    expect(acts()).toBe(0);
    expect((await ask(restore, [file, '--yes', '--accept-instance'], '')).code).toBe(0);
    expect(acts()).toBe(1);
  });

  it('a dry run and a scratch state only mark another instance', async () => {
    liveInstance = OTHER;
    expect(await ask(restore, [file, '--dry-run'], '')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('THIS BACKUP COMES FROM ANOTHER INSTANCE'),
    });
    more = { scratch: { state_key: 's', state_sha256: null, audit_head: null } };
    expect(await ask(restore, [file, '--yes', '--into-scratch', 's'], '')).toMatchObject({ code: 0 });
    const { question, stdout } = await ask(restore, [file, '--into-scratch', 's'], 'restore');
    expect(question).toContain(`into a new scratch state of ${node.url}`);
    // The report says on which revision of the scratch state it is based, not that of the live state.
    expect(stdout).toContain(`\nlive state     "default", instance "${OTHER}"\n`);
    expect(question).toMatch(/\nType restore to continue: $/);
  });

  it('a backup that names no instance is of unknown origin, and counts as foreign', async () => {
    const {
      manifest: _manifest,
      document_sha256: _digests,
      instance_id: _instance,
      ...bare
    } = JSON.parse(writeBackup({ documents: [['a', '1']] }));
    await writeFile(file, JSON.stringify(bare));
    more = { backup: { ...restoreReport().backup, instance_id: null } };
    const { stdout, question } = await ask(restore, [file, '--accept-unverified'], 'default');
    expect(stdout).toContain('ATTENTION    THIS BACKUP IS OF UNKNOWN ORIGIN: IT NAMES NO INSTANCE\n');
    expect(question).toContain('Type the state key "default"');
    expect(await ask(restore, [file, '--accept-unverified', '--yes'], '')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('instance_mismatch'),
    });
  });

  it('a backup that the node calls foreign counts as foreign', async () => {
    more = { instance_differs: true };
    expect((await ask(restore, [file, '--yes'], '')).stderr).toContain('instance_mismatch');
    expect(acts()).toBe(0);
  });

  it('a node that does not name its instance is shown as unknown, and restores as before', async () => {
    more = JSON.parse('{"backup":null,"live":null}');
    const { code, stdout, question } = await ask(restore, [file], 'restore');
    expect(code).toBe(0);
    expect(stdout).toContain('\nlive state   "default" at revision 8, instance unknown\n');
    expect(question).toMatch(/\nType restore to continue: $/);
  });

  it('the names of a plan are bounded, "… (more)" shows only where there is more, and the counts are in the question', async () => {
    const names = Array.from({ length: 100 }, (_none, index) => `${'name '.repeat(40)}${index}`);
    more = {
      documents: { added: 4_000, changed: 2, removed: 0, unchanged: 0 },
      document_names: { added: names, changed: ['x', 'y'], removed: [], truncated: true },
    };
    const { stdout, question } = await ask(restore, [file], 'no');
    const lines = stdout.split('\n');
    expect(lines.filter((line) => / \+ /.test(line))).toHaveLength(6);
    expect(lines.filter((line) => line.endsWith('+ … (more)'))).toHaveLength(1);
    expect(stdout).not.toContain('~ … (more)');
    expect(stdout).not.toContain('- … (more)');
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(120);
    expect(lines.length).toBeLessThan(24);
    expect(question).toContain('4000 added, 2 changed, 0 removed, 0 unchanged.\n');
  });

  it('plan and question of an undo name the node, the state, and what is undone with its age', async () => {
    const { stdout, question } = await ask(undo, [], 'no');
    expect(stdout).toMatch(/undoes +the undo newer of \S+ \(60 min ago\), which made revision 8\n/);
    expect(stdout).toContain(`\nnode         ${node.url}, version 0.1.0\nlive state   "default"\n`);
    expect(question).toMatch(
      /^Undo 2 operations, from the undo newer of \S+, 60 min ago, back to the restore older of \S+, 3 days ago, in the live state "default" of http:/,
    );
    expect(question).toMatch(/: 1 added, 1 changed, 0 removed, 0 unchanged\.\nType undo to continue: $/);
  });
});

describe('with two databases', () => {
  const site = useClientSite();

  it('a restore and a drill in place recognize a backup of the other database', async () => {
    const other = await createTestServer();
    // The databases of the tests are copies of one template, and so have its instance id.
    await other.pool.query(`update loom_meta set value = to_jsonb('${OTHER}'::text) where key = 'instance_id'`);
    const { url } = await other.listen();
    const env = { LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_URL: url };
    expect((await site.run(backup, ['--out', site.file], { env })).code).toBe(0);
    await other.close({ timeoutMs: 1_000 });
    const before = await site.revision();
    const refused = await site.run(restore, [site.file, '--yes']);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('instance_mismatch') });
    const drilled = await site.run(drill, ['--file', site.file, '--in-place', '--yes']);
    expect(drilled).toMatchObject({ code: 1, stdout: expect.stringContaining('--accept-instance') });
    expect(await site.revision()).toBe(before);
    expect((await site.run(drill, ['--file', site.file])).code).toBe(0);
    expect((await site.run(restore, [site.file, '--yes', '--accept-instance'])).code).toBe(0);
    expect(await site.state()).toEqual({});
  });
});
