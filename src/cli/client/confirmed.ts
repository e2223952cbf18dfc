import { NodeError } from '../../http/client/node-error.ts';
import type { CommandContext } from '../command.ts';

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
    if (options.hasYes) return await doIt(options, undefined);
    const answer = (await context.ask?.(`Type ${word} to go on: `)) ?? '';
    if (answer.trim() !== word) {
      context.writeError('Nothing was changed.\n');
      return undefined;
    }
    try {
      return await doIt(options, options.guards ? plan.based_on_revision : undefined);
    } catch (error) {
      const hasMoved = options.guards && error instanceof NodeError && error.code === 'revision_mismatch';
      if (!hasMoved) throw error;
      context.writeError(`Nothing was changed: the state has changed since that plan. ${error.message}\n\n`);
    }
  }
}

const UNKNOWN_OUTCOMES = new Set(['connection_cut', 'timeout', 'unexpected_answer', 'commit_outcome_unknown']);

/** What breaks off after the deed was asked for may have been done all the same. */
async function doIt<Report extends PlanLike>(
  { act, word }: ConfirmedOptions<Report>,
  expectRevision: number | undefined,
): Promise<Report> {
  try {
    return await act(expectRevision);
  } catch (error) {
    if (!(error instanceof NodeError) || !UNKNOWN_OUTCOMES.has(error.code)) throw error;
    throw new NodeError(
      error.code,
      `${error.message} The ${word} had been asked for, and may or may not have been done: see "last restore" in status.`,
      { place: error.place, status: error.status, requestId: error.requestId, cause: error },
    );
  }
}
