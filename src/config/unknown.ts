/**
 * Names of `LOOM_*` variables that are set but unknown, each with the known name that is meant, if one is near. A
 * mistyped variable would otherwise be a setting that silently does not hold.
 */
export function unknownVariables(
  env: Record<string, string | undefined>,
  known: readonly string[],
): { name: string; meant: string | undefined }[] {
  return Object.keys(env)
    .filter((name) => name.startsWith('LOOM_') && !known.includes(name) && !isForeign(name, env[name] ?? ''))
    .map((name) => ({ name, meant: nearest(name, known) }));
}

/**
 * Kubernetes gives every pod variables about each Service of its namespace, as Docker's links did before: with a Service
 * `loom` these are LOOM_SERVICE_HOST, LOOM_PORT=tcp://10.0.0.1:8787, LOOM_PORT_8787_TCP_ADDR and so on.
 * (Kubernetes documentation, "Service: Discovering services: Environment variables".)
 */
export function isServiceLink(name: string, value: string): boolean {
  if (/^LOOM_(\w+_)?SERVICE_(HOST|PORT(_\w+)?)$/.test(name)) return true;
  if (/^LOOM_(\w+_)?PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(name)) return true;
  return /^LOOM_(\w+_)?PORT$/.test(name) && /^(tcp|udp|sctp):\/\//.test(value);
}

/** The tests have variables of their own, and a shell that has exported one may start a node too. */
function isForeign(name: string, value: string): boolean {
  return name.startsWith('LOOM_TEST_') || isServiceLink(name, value);
}

function nearest(name: string, known: readonly string[]): string | undefined {
  const candidates = known
    .map((candidate) => ({ candidate, distance: editDistance(name, candidate) }))
    .sort((a, b) => a.distance - b.distance);
  const best = candidates[0];
  return best !== undefined && best.distance <= MOST_EDITS ? best.candidate : undefined;
}

/** Beyond this, a suggestion misleads more often than it helps. */
const MOST_EDITS = 4;

/** Levenshtein's distance, one row of the table at a time. */
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
