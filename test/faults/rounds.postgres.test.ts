import { afterAll, expect, test } from 'vitest';
import { depth, rounds, runRounds, runSeed } from '../setup/depth.ts';
import { describePlan, drawPlan } from './plan.ts';
import { lineOf, totalsOf } from './report.ts';
import { type Result, runRound } from './round.ts';
import { findTools } from './site.ts';

const { tools, missing } = findTools();
const results: Result[] = [];
const count = runRounds ?? rounds({ quick: 1, full: 20 });
const seeds = Array.from({ length: count }, (_, index) => (runSeed + index) % 2 ** 31);
const isShort = depth === 'quick';

if (missing.length > 0) console.info(`Faults that this machine leaves out:\n  ${missing.join('\n  ')}`);

test.each(seeds)(
  'nothing is lost, doubled or wrong after the faults of seed %i',
  async (seed) => {
    const plan = drawPlan(seed, tools, isShort);
    // At quick depth, other tests share the processors.
    const result = await runRound(plan, { timed: !isShort });
    results.push(result);
    const { faults, history } = result;
    const repeat = isShort ? `LOOM_TEST_SEED=${seed} npm test -- test/faults` : `npm run soak -- faults --seed ${seed}`;
    const report = [describePlan(plan), `To repeat it: ${repeat}`, ...faults, '', ...history].join('\n');
    if (!isShort) console.info(lineOf(result));
    if (runRounds === 1) console.info(report);
    expect(faults, report).toEqual([]);
  },
  180_000,
);

afterAll(() => {
  if (runRounds !== undefined || !isShort) console.info(totalsOf(results));
});
