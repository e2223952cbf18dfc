import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Command } from '../../../src/cli/command.ts';
import { restore } from '../../../src/cli/restore.ts';
import { undo } from '../../../src/cli/undo.ts';
import { verify } from '../../../src/cli/verify.ts';
import { writeBackup } from '../../setup/backup/written-backup.ts';
import { runCommand } from '../../setup/cli/command.ts';
import { type FakeNode, restoreReport, startFakeNode, statusReport, undoReport } from '../../setup/cli/fake-node.ts';
import { ADMIN_TOKEN } from '../../setup/node/http.ts';

let node: FakeNode;
let folder: string;
let file: string;
/** Resolves the answer to a plan when the command has read the status of that request twice. */
let onPoll: (() => void) | undefined;
let requestId: string;
let operations: unknown;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'loom-progress-'));
  file = join(folder, 'backup.json');
  await writeFile(file, writeBackup({ documents: [['a', '1']] }));
  requestId = '';
  operations = undefined;
  const late = async (report: object, question: IncomingMessage): Promise<object> => {
    requestId = String(question.headers['x-request-id']);
    let polls = 0;
    await new Promise<void>((resolve) => {
      onPoll = () => {
        polls += 1;
        // At the second poll, the command has shown the answer of the first one.
        if (polls === 2) resolve();
      };
    });
    return report;
  };
  node = await startFakeNode({
    '/v1/admin/status': () => {
      const counts = { documents: 1_204, audit_entries: 1, bytes: 9 };
      const running = { kind: 'plan', request_id: requestId, phase: 'planning', started_at: '', ...counts };
      if (requestId !== '') onPoll?.();
      return statusReport({ operations: operations ?? [{ ...running, request_id: 'other', phase: 'other' }, running] });
    },
    '/v1/admin/persistence/restore': (_body, question) => late(restoreReport(), question),
    '/v1/admin/persistence/undo': (_body, question) => late(undoReport(), question),
  });
});
afterEach(async () => {
  await node.close();
  await rm(folder, { recursive: true, force: true });
});

const run = (command: Command, args: string[], isWatched = true) =>
  runCommand(command, args, { env: { LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_URL: node.url }, isWatched });

it.each<[string, Command, string]>([
  ['restore', restore, 'the node checks and plans'],
  ['undo', undo, 'the node plans'],
])('while a node works, %s shows what its status says about this very request', async (name, command, what) => {
  const { code, stderr } = await run(command, [...(name === 'restore' ? [file] : []), '--dry-run']);
  expect(code).toBe(0);
  expect(stderr).toMatch(new RegExp(`\\r\\u001b\\[2K${what} …(?:, \\d+ s)? \\(planning: 1204 documents, 1 entry\\)`));
  expect(stderr).not.toContain('other');
  // A longer line would break in two, and the next one would clear only the second.
  for (const line of stderr.split('\r\u001b[2K')) expect(line.length).toBeLessThan(80);
  expect(stderr.endsWith('\r\u001b[2K')).toBe(true);
});

it('a status of another form disturbs neither the progress nor the restore', async () => {
  operations = 'none';
  const { code, stderr } = await run(restore, [file, '--dry-run']);
  expect(code).toBe(0);
  expect(stderr).toContain('the node checks and plans …');
});

it('verify shows the share of a plain file', async () => {
  const { code, stderr } = await run(verify, [file, '--against', file]);
  expect(code).toBe(0);
  for (const what of ['verify …', 'verify EARLIER …', 'compare …']) expect(stderr).toContain(what);
});
