/**
 * Returns the names of unknown `LOOM_*` variables, each with the known name that is most similar, if one is similar
 * enough. LOOM reports them because it would otherwise silently ignore a mistyped setting.
 */
export function unknownVariables(
  env: Record<string, string | undefined>,
  known: readonly string[],
): { name: string; suggestion: string | undefined }[] {
  return Object.keys(env)
    .filter((name) => name.startsWith('LOOM_') && !known.includes(name) && !isForeign(name, env[name] ?? ''))
    .map((name) => ({ name, suggestion: nearest(name, known) }));
}

/**
 * Recognizes a variable that Kubernetes sets in every pod for a Service of the namespace. A Service `loom` sets
 * LOOM_SERVICE_HOST, LOOM_PORT=tcp://10.0.0.1:8787, LOOM_PORT_8787_TCP_ADDR and so on (Kubernetes documentation,
 * "Service: Discovering services: Environment variables").
 */
export function isServiceLink(name: string, value: string): boolean {
  if (/^LOOM_(\w+_)?SERVICE_(HOST|PORT(_\w+)?)$/.test(name)) return true;
  if (/^LOOM_(\w+_)?PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(name)) return true;
  return /^LOOM_(\w+_)?PORT$/.test(name) && /^(tcp|udp|sctp):\/\//.test(value);
}

/** Recognizes a variable of the tests or of Kubernetes. A shell may set the tests' variables and start a node. */
function isForeign(name: string, value: string): boolean {
  return name.startsWith('LOOM_TEST_') || isServiceLink(name, value);
}

function nearest(name: string, known: readonly string[]): string | undefined {
  const candidates = known
    .map((candidate) => ({ candidate, distance: editDistance(name, candidate) }))
    .sort((a, b) => a.distance - b.distance);
  const best = candidates[0];
  return best !== undefined && best.distance <= MAX_EDITS ? best.candidate : undefined;
}

/** Bounds the distance: a less similar suggestion misleads more often than it helps. */
const MAX_EDITS = 4;

/** Computes the Levenshtein distance, one row of the table at a time. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const substitution = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
