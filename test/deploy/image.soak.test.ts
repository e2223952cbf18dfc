import { randomBytes } from 'node:crypto';
import { chmodSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { IDeployment } from 'kubernetes-models/apps/v1/Deployment';
import type { IJob } from 'kubernetes-models/batch/v1/Job';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { freePorts } from '../setup/deploy/balancers.ts';
import { findBuilder } from '../setup/deploy/builders.ts';
import { type Container, type Mount, runContainer, startContainer } from '../setup/deploy/containers.ts';
import type { BuildImage, BuiltImage } from '../setup/deploy/image.ts';
import { readManifest } from '../setup/deploy/manifests.ts';
import { type ToolResult, writeFiles } from '../setup/deploy/tools.ts';
import { waitUntil } from '../setup/node/program.ts';
import { createTestRoles, type TestRoles } from '../setup/roles/roles.ts';
import { createEmptyDatabase, type TestDatabase } from '../setup/server/database.ts';

const MB = 1_000_000;
const BUILD_MS = 10 * 60_000;
/** For a test that runs containers: on a busy machine, each takes seconds to start. */
const CONTAINERS_MS = 120_000;
const revision = randomBytes(20).toString('hex');
const adminToken = 'admin-token-of-the-image-test';

const builder = findBuilder();
if ('missing' in builder) {
  test(`the image is not built: Docker does not answer; ${builder.missing}`, () => {
    expect(builder.missing).not.toBe('');
  });
} else {
  describe(`the image, built and run by ${builder.name},`, { timeout: CONTAINERS_MS }, () =>
    describeImage(builder.build),
  );
}

function describeImage(build: BuildImage): void {
  let image: BuiltImage;
  let database: TestDatabase;
  let roles: TestRoles;
  beforeAll(async () => {
    database = await createEmptyDatabase();
    roles = createTestRoles(database.pool);
    await roles.apply();
    image = await build({ REVISION: revision });
  }, BUILD_MS);
  afterAll(async () => {
    await image?.remove();
    await roles.drop();
    await database.drop();
  }, BUILD_MS);

  /** Runs a script of Node.js in a container, and returns what it prints as JSON. */
  const script = async (source: () => unknown, writable = false): Promise<unknown> => {
    const { code, stdout, stderr } = await runContainer(image.runtime, { command: asCommand(source), writable });
    expect([code, stderr]).toEqual([0, '']);
    return JSON.parse(stdout);
  };

  test('names its revision, its version and its base', () => {
    const { version, description } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    const labels = Object.entries(image.config.Labels).filter(([name]) => name.startsWith('org.opencontainers.image.'));
    expect(
      Object.fromEntries(labels.map(([name, value]) => [name.replace(/^org.opencontainers.image./, ''), value])),
    ).toEqual({ title: 'LOOM', description, version, revision, 'base.name': image.base });
    expect(image.base).toMatch(/sha256:[0-9a-f]{64}$/);
  });

  test('takes less than 45 MB above its base', () => {
    expect(image.bytesAboveBase).toBeGreaterThan(10 * MB);
    expect(image.bytesAboveBase).toBeLessThan(45 * MB);
  });

  test('has the build and what it needs, and nothing for development', async () => {
    const found = (await script(listApplication)) as { top: string[]; dist: string[]; packages: string[] };
    const { dependencies, devDependencies } = JSON.parse(
      readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
    );
    expect(found.top).toEqual(['dist', 'migrations', 'node_modules', 'package.json']);
    expect(found.dist).toEqual(expect.arrayContaining(['main.js', 'healthcheck.js']));
    expect(found.dist).not.toContain('dev');
    expect(found.packages).toEqual(expect.arrayContaining(Object.keys(dependencies)));
    const transitive = ['ajv', 'ajv-formats'];
    const forDevelopment = Object.keys(devDependencies).filter((name) => !transitive.includes(name));
    expect(found.packages.filter((name) => forDevelopment.includes(name))).toEqual([]);
  });

  test('its user can write nowhere, and not to the program even if the file system is writable', async () => {
    expect(await script(listWritable)).toEqual({ user: [1000, 1000], found: [] });
    const { found } = (await script(listWritable, true)) as { found: string[] };
    expect(found).toContain('/tmp');
    expect(found.filter((path) => path.startsWith('/app') || /^\/(usr|etc|s?bin|lib)/.test(path))).toEqual([]);
  });

  test('without a configuration, a node ends with 78 and says what is missing', async () => {
    const { code, stdout, stderr } = await runContainer(image.runtime, {});
    expect(code).toBe(78);
    expect(stdout + stderr).toContain('LOOM_PG_URL');
  });

  /** Runs the Job and then a node, with the variables and secrets of their manifests and the roles of roles.sql. */
  const startNode = async (): Promise<{ url: string; node: Container; secrets: Mount }> => {
    const job = readManifest<IJob>('migrate').spec?.template.spec?.containers[0];
    const deployment = readManifest<IDeployment>('deployment').spec?.template.spec?.containers[0];
    const ofJob = secretsMount({ owner_pg_url: roles.as('owner', database.url) });
    const migrated = await runContainer(image.runtime, {
      args: job?.args ?? [],
      env: environmentOf(job?.env),
      mounts: [ofJob],
    });
    expect(migrated).toMatchObject({ code: 0 });
    await roles.apply();
    const secrets = secretsMount({
      pg_url: roles.as('serve', database.url),
      admin_token: adminToken,
      metrics_token: 'metrics-token-of-the-image-test',
    });
    const [port = 0] = await freePorts(1);
    const env = { ...environmentOf(deployment?.env), LOOM_PORT: String(port) };
    const node = await startContainer(image.runtime, { env, mounts: [secrets] });
    onTestFinished(node.kill);
    const url = `http://127.0.0.1:${port}`;
    await waitUntil(
      () => fetch(`${url}/ready`).then(({ status }) => status, String),
      (status) => status === 200,
    );
    return { url, node, secrets };
  };

  test('a node serves as process 1 of user 1000, and exits with 0 at SIGTERM', async () => {
    const { url, node, secrets } = await startNode();
    const status = readFileSync(`/proc/${node.pid}/status`, 'utf8');
    expect(/^Uid:\t(.*)$/m.exec(status)?.[1]).toBe('1000\t1000\t1000\t1000');
    expect(/^NSpid:\t.*\t(\d+)$/m.exec(status)?.[1]).toBe('1');
    expect(/^CapEff:\t(\w+)$/m.exec(status)?.[1]).toMatch(/^0+$/);

    const headers = { 'x-loom-admin-token': adminToken, 'content-type': 'application/json' };
    const put = await fetch(`${url}/v1/documents/a`, { method: 'PUT', headers, body: '{"n":1}' });
    expect(put.status).toBe(201);
    await expectBackup(url, secrets);
    const verified = await fetch(`${url}/v1/audit/verify`, { headers: { 'x-loom-admin-token': adminToken } });
    expect(await verified.json()).toMatchObject({ ok: true });

    const hook = readManifest<IDeployment>('deployment').spec?.template.spec?.containers[0]?.lifecycle?.preStop?.exec;
    expect(await node.exec(hook?.command ?? [])).toEqual({ code: 0, stdout: '', stderr: '' });
    const check = ['node', 'dist/healthcheck.js'];
    expect(await node.exec(check)).toEqual({ code: 0, stdout: 'live\n', stderr: '' });
    // A command finds the node and the token by the variables of the node.
    expect(await node.exec(['node', 'dist/main.js', 'status'])).toMatchObject({ code: 0 });
    expect(await node.stop()).toBe(0);
    expect(node.output()).not.toMatch(/"level":(?:50|60)|secret/);
  });

  /** Takes and verifies a backup with the commands of the image, into a folder of the machine. */
  const expectBackup = async (url: string, secrets: Mount): Promise<void> => {
    const folder = join(writeFiles({}), 'backups');
    await mkdir(folder);
    chmodSync(folder, 0o777);
    const mounts = [{ source: folder, target: '/backups', writable: true }];
    const env = { LOOM_URL: url, LOOM_ADMIN_TOKEN_FILE: '/run/secrets/loom/admin_token' };
    const run = (...args: string[]): Promise<ToolResult> =>
      runContainer(image.runtime, { args, env, mounts: [...mounts, secrets] });
    expect(await run('backup', '--out', '/backups/loom.json.gz', '--gzip')).toMatchObject({ code: 0 });
    expect(await run('verify', '/backups/loom.json.gz')).toMatchObject({ code: 0 });
    expect(await run('status')).toMatchObject({ code: 0 });
  };

  test('its health check takes less than three times the CPU time of a module that does nothing', async () => {
    const { node } = await startNode();
    const { code, stdout } = await node.exec(asCommand(measureHealthCheck));
    expect(code).toBe(0);
    const { check, nothing } = JSON.parse(stdout) as { check: number; nothing: number };
    expect(nothing).toBeGreaterThan(0);
    expect(check / nothing).toBeLessThan(3);
  });
}

function environmentOf(variables: { name: string; value?: string }[] = []): Record<string, string> {
  return Object.fromEntries(variables.map(({ name, value }) => [name, value ?? '']));
}

/** Writes secrets as a platform mounts them: readable for the container's user, whoever runs the test. */
function secretsMount(files: Record<string, string>): Mount {
  const source = writeFiles(files);
  chmodSync(source, 0o755);
  return { source, target: '/run/secrets/loom' };
}

/** Returns the command that calls a function in a container. The function may use only globals of Node.js. */
function asCommand(source: () => unknown): string[] {
  return ['node', '--input-type=module', '--eval', `console.log(JSON.stringify((${source})()))`];
}

function listApplication(): unknown {
  const { readdirSync } = process.getBuiltinModule('node:fs');
  const list = (folder: string): string[] => readdirSync(folder).toSorted();
  const packages = list('/app/node_modules').flatMap((name) =>
    name.startsWith('@') ? list(`/app/node_modules/${name}`).map((own) => `${name}/${own}`) : [name],
  );
  return { top: list('/app'), dist: list('/app/dist'), packages };
}

/** Returns each file and folder to which the user of the container can write, except those of the kernel. */
function listWritable(): unknown {
  const { accessSync, constants, readdirSync } = process.getBuiltinModule('node:fs');
  const found: string[] = [];
  const visit = (path: string): void => {
    try {
      accessSync(path, constants.W_OK);
      found.push(path);
    } catch {}
    try {
      for (const one of readdirSync(path, { withFileTypes: true })) {
        const inner = `${path === '/' ? '' : path}/${one.name}`;
        if (['/proc', '/dev', '/sys'].includes(inner) || one.isSymbolicLink()) continue;
        visit(inner);
      }
    } catch {}
  };
  visit('/');
  return { user: [process.getuid?.(), process.getgid?.()], found };
}

/** Returns the CPU time of ten health checks, and of ten modules that do nothing, in ticks of the kernel. */
function measureHealthCheck(): unknown {
  const { spawnSync } = process.getBuiltinModule('node:child_process');
  const { readFileSync: read } = process.getBuiltinModule('node:fs');
  const ofChildren = (): number => {
    const stat = read('/proc/self/stat', 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return Number(fields[13]) + Number(fields[14]);
  };
  const run = (...args: string[]): number => {
    const before = ofChildren();
    const { status } = spawnSync('node', args);
    if (status !== 0) throw new Error(`node ${args.join(' ')} ended with ${status}`);
    return ofChildren() - before;
  };
  const sums = { check: 0, nothing: 0 };
  for (let round = 0; round < 10; round += 1) {
    sums.check += run('dist/healthcheck.js');
    sums.nothing += run('--input-type=module', '--eval', '0');
  }
  return sums;
}
