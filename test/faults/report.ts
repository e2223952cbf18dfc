import type { FaultKind } from './plan.ts';
import { describePlan } from './plan.ts';
import type { Result } from './round.ts';

const seconds = (ms: number): string => (ms / 1_000).toFixed(1);
const longest = (numbers: number[]): number => Math.max(0, ...numbers);

/** Returns one line for a round. */
export function lineOf(result: Result): string {
  const { plan, faults, acknowledged, entries, lost, doubled, rolledBack, readyMs, recoveries } = result;
  const counts = `${acknowledged} acknowledged, ${entries} entries, ${lost} lost, ${doubled} doubled`;
  const gone = rolledBack > 0 ? `, ${rolledBack} gone with the old epoch` : '';
  const times = `/ready ${Math.round(readyMs)} ms, back ${recoveries.map(({ ms }) => seconds(ms)).join(' and ')} s`;
  const verdict = faults.length === 0 ? 'ok  ' : 'BAD ';
  return `${verdict} ${seconds(result.seconds * 1_000)} s, ${describePlan(plan)}: ${counts}${gone}; ${times}`;
}

/** Returns the totals of all rounds, with a line for each kind of fault. */
export function totalsOf(results: Result[]): string {
  const sum = (name: 'acknowledged' | 'entries' | 'lost' | 'doubled' | 'rolledBack'): number =>
    results.reduce((total, one) => total + one[name], 0);
  const byKind = new Map<FaultKind, { rounds: number; ms: number[] }>();
  for (const { recoveries } of results) {
    for (const { kinds, ms } of recoveries) {
      for (const kind of kinds) {
        const known = byKind.get(kind) ?? { rounds: 0, ms: [] };
        byKind.set(kind, { rounds: known.rounds + 1, ms: [...known.ms, ms] });
      }
    }
  }
  const kinds = [...byKind].sort(([left], [right]) => (left < right ? -1 : 1));
  return [
    `${results.length} rounds, ${results.filter(({ faults }) => faults.length > 0).length} bad`,
    `${sum('acknowledged')} acknowledged commits, ${sum('entries')} entries: ${sum('lost')} lost, ${sum('doubled')} doubled`,
    `${sum('rolledBack')} commits gone with an old epoch, after the promotion of a standby that lacked them`,
    `longest answer of /ready: ${Math.round(longest(results.map(({ readyMs }) => readyMs)))} ms`,
    `longest 200 of /ready without a commit: ${seconds(longest(results.map((one) => one.falselyReadyMs)))} s`,
    `longest 503 of /ready while commits worked: ${seconds(longest(results.map((one) => one.falselyUnreadyMs)))} s`,
    'faults of each kind, and the longest recovery of a step with it:',
    ...kinds.map(
      ([kind, { rounds, ms }]) => `  ${kind.padEnd(20)} ${String(rounds).padStart(4)}  ${seconds(longest(ms))} s`,
    ),
  ].join('\n');
}
