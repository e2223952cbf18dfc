import { NodeError } from '../../http/client/node-error.ts';
import type { CommandContext } from '../command.ts';
import { NotConfirmed } from '../failure.ts';

interface PlanLike {
  based_on_revision: number;
}

export interface PlanAskActOptions<Report extends PlanLike> {
  context: CommandContext;
  /** Whether standard output is reserved for JSON. */
  wantsJson: boolean;
  /** What the operator types to go on. */
  word: string;
  /** Whether to act without asking. */
  hasYes: boolean;
  /** Whether to end after the plan. */
  isDryRun: boolean;
  /** Whether the revision of a confirmed plan guards the act. */
  guardsRevision: boolean;
  plan(): Promise<Report>;
  /** Acts if the live revision still is `expectRevision`; at any revision when that is undefined. */
  act(expectRevision: number | undefined): Promise<Report>;
  textOf(report: Report): string;
}

/**
 * Shows a plan, asks, and acts. Resolves with the report of the act, or with the plan of a dry run; throws NotConfirmed. If the
 * state changes after the plan was shown, it shows and asks about the new plan.
 */
export async function planAskAct<Report extends PlanLike>(options: PlanAskActOptions<Report>): Promise<Report> {
  const { context, word, isDryRun, hasYes } = options;
  const asks = !isDryRun && !hasYes;
  // With --json the plan is only there for the question.
  const show = options.wantsJson ? (asks ? context.writeError : undefined) : context.write;
  for (;;) {
    const plan = await options.plan();
    show?.(`Plan: nothing is changed yet.\n${options.textOf(plan)}`);
    if (isDryRun) return plan;
    if (hasYes) return await actOnce(options, undefined);
    const answer = (await context.ask?.(`Type ${word} to go on: `)) ?? '';
    if (answer.trim() !== word) throw new NotConfirmed();
    try {
      return await actOnce(options, options.guardsRevision ? plan.based_on_revision : undefined);
    } catch (error) {
      const hasMoved = options.guardsRevision && error instanceof NodeError && error.code === 'revision_mismatch';
      if (!hasMoved) throw error;
      context.writeError(`Nothing was changed: the state has changed since that plan. ${error.message}\n\n`);
    }
  }
}

const UNKNOWN_OUTCOMES = new Set(['connection_cut', 'timeout', 'unexpected_answer', 'commit_outcome_unknown']);

/** Acts. When the answer does not arrive, the node may have acted nevertheless: the error says so. */
async function actOnce<Report extends PlanLike>(
  { act, word }: PlanAskActOptions<Report>,
  expectRevision: number | undefined,
): Promise<Report> {
  try {
    return await act(expectRevision);
  } catch (error) {
    if (!(error instanceof NodeError) || !UNKNOWN_OUTCOMES.has(error.code)) throw error;
    throw new NodeError(
      error.code,
      `${error.message} The command had sent the ${word}, and the node may or may not have carried it out: see "last restore" in status.`,
      { place: error.place, status: error.status, requestId: error.requestId, cause: error },
    );
  }
}
