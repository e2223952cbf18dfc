import { NodeError } from '../http/node-error.ts';
import type { CommandContext } from './command.ts';

interface PlanLike {
  based_on_revision: number;
}

export interface ConfirmedOptions<Report extends PlanLike> {
  context: CommandContext;
  /** What must be typed. */
  word: string;
  /** Whether to go on without asking. */
  hasYes: boolean;
  /** Whether to end after the plan. */
  isDryRun: boolean;
  /** Whether the deed is held to the revision that its plan was made of, where a person has looked at it. */
  guards: boolean;
  /** Asks the node for the plan. */
  plan(): Promise<Report>;
  /** Does it, if the live revision is `expectRevision` still, or whatever it is when undefined. */
  act(expectRevision: number | undefined): Promise<Report>;
  textOf(report: Report): string;
}

/**
 * Shows a plan, asks, and does it; resolves with what was done, or undefined when it was not. When the state has changed since
 * the plan that was looked at, the new plan is shown and asked about again.
 */
export async function planAskAct<Report extends PlanLike>(
  options: ConfirmedOptions<Report>,
): Promise<Report | undefined> {
  const { context, word, textOf } = options;
  for (;;) {
    const plan = await options.plan();
    context.write(`Plan: this is what it would do.\n${textOf(plan)}`);
    if (options.isDryRun) return plan;
    if (options.hasYes) return await options.act(undefined);
    const answer = (await context.ask?.(`Type ${word} to go on: `)) ?? '';
    if (answer.trim() !== word) {
      context.writeError('Nothing was changed.\n');
      return undefined;
    }
    try {
      return await options.act(options.guards ? plan.based_on_revision : undefined);
    } catch (error) {
      const hasMoved = options.guards && error instanceof NodeError && error.code === 'revision_mismatch';
      if (!hasMoved) throw error;
      context.writeError(`Nothing was changed: the state has changed since that plan. ${error.message}\n\n`);
    }
  }
}
