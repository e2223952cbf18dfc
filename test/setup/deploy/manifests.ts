import { ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor';
import { Deployment } from 'kubernetes-models/apps/v1/Deployment';
import { Job } from 'kubernetes-models/batch/v1/Job';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1/NetworkPolicy';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget';
import { PersistentVolumeClaim } from 'kubernetes-models/v1/PersistentVolumeClaim';
import { Secret } from 'kubernetes-models/v1/Secret';
import { Service } from 'kubernetes-models/v1/Service';
import { parse } from 'yaml';
import { readDeployFile } from './files.ts';

/** The kinds of objects, whose classes have the published schemas of Kubernetes and of the Prometheus operator. */
const kinds = [
  Deployment,
  Job,
  NetworkPolicy,
  PersistentVolumeClaim,
  PodDisruptionBudget,
  Secret,
  Service,
  ServiceMonitor,
];

/** Reads a manifest of `docs/deploy/kubernetes`. */
export function readManifest<T>(name: string): T {
  return parse(readDeployFile(`kubernetes/${name}.yaml`)) as T;
}

/**
 * Returns what is wrong with a manifest by the schema of its kind. The schemas allow unknown members, as the server
 * does, which ignores them. So a member that the validation never reads is a fault too: it is probably mistyped.
 */
export function manifestFaults(manifest: { apiVersion?: string; kind?: string }): string[] {
  const kind = kinds.find((one) => one.kind === manifest.kind && one.apiVersion === manifest.apiVersion);
  if (kind === undefined) return [`no schema for ${manifest.apiVersion} ${manifest.kind}`];
  const unread = new Set<string>();
  const { validate } = kind.prototype as { validate(this: unknown): void };
  try {
    validate.call(watchReads(manifest, '', unread));
  } catch (error) {
    return [String(error)];
  }
  return [...unread].map((path) => `unknown member ${path}`);
}

/** Returns a copy that removes from `unread` the path of each member that is read. */
function watchReads(value: unknown, path: string, unread: Set<string>): unknown {
  if (Array.isArray(value)) return value.map((one, index) => watchReads(one, `${path}/${index}`, unread));
  if (typeof value !== 'object' || value === null) return value;
  const members = Object.entries(value).map(([name, member]) => {
    unread.add(`${path}/${name}`);
    return [name, watchReads(member, `${path}/${name}`, unread)];
  });
  return new Proxy(Object.fromEntries(members), {
    get: (target, name, receiver) => {
      unread.delete(`${path}/${String(name)}`);
      return Reflect.get(target, name, receiver);
    },
  });
}
