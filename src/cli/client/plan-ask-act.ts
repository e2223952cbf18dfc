import { NodeError } from '../../http/client/node-error.ts';
import { oneLine } from '../../json/printable.ts';
import type { CommandInput, CommandResult } from '../command.ts';
import { NotConfirmed } from '../failure.ts';
import { flag, UsageError } from '../terminal/arguments.ts';
import { withHint } from './hints.ts';

export const PLAN_OPTIONS = { yes: flag('do not ask'), 'dry-run': flag('show only the plan') };

type PlanInput = Omit<CommandInput<typeof PLAN_OPTIONS>, 'operands'>;

/** What an operator confirms: a summary of the plan, and the text to type. */
export interface Question {
  summary: string;
  /** What to type, as the question names it: `restore`, or `the state key "default"`. */
  asked: string;
  answer: string;
}

interface PlanOptions<Report> {
  /** The name of the command. */
  word: string;
  /** Whether to act only at the revision of the confirmed plan. */
  guardsRevision: boolean;
  /** Plans with `dry_run`, otherwise acts. With `expect_revision`, the node acts only at that revision. */
  send(members: { dry_run?: boolean; expect_revision?: number }): Promise<Report>;
  planText(report: Report): string;
  doneText(report: Report): string;
  /** Members of `--json` in addition to the report. */
  more?: object;
  question(plan: Report): Question;
  /** Throws if the plan needs a question, although `--yes` forbids it. */
  assertMayActUnasked?(plan: Report): void;
}

/** Throws a UsageError if the command must ask and has no terminal. */
export function assertCanAsk({ values, context }: PlanInput, command: string): void {
  if (values['dry-run'] !== true && values.yes !== true && context.ask === undefined) {
    throw new UsageError(
      `there is no terminal to ask on: pass --yes to ${command} without a question, or --dry-run to see only the plan.`,
    );
  }
}

/**
 * Shows a plan, asks, and acts. Resolves with the report of the act, or with the plan of a dry run. Throws
 * NotConfirmed. If the state has changed since the plan, shows a new plan and asks again.
 */
export async function planAskAct<Report extends { based_on_revision: number }>(
  { values: { yes = false, 'dry-run': isDryRun = false }, context, wantsJson }: PlanInput,
  { word, guardsRevision, send, planText, doneText, more, question, assertMayActUnasked }: PlanOptions<Report>,
): Promise<CommandResult> {
  const asks = !isDryRun && !yes;
  const guards = asks && guardsRevision;
  // With --json, only the question needs the plan.
  const show = wantsJson ? (asks ? context.writeError : undefined) : context.write;
  for (;;) {
    const plan = await send({ dry_run: true });
    show?.(`Plan: nothing is changed yet.\n${planText(plan)}`);
    if (isDryRun) return { exitCode: 0, text: '', json: { ok: true, report: plan, ...more } };
    if (asks) await confirm(question(plan), context.ask);
    else assertMayActUnasked?.(plan);
    try {
      const act = send(guards ? { expect_revision: plan.based_on_revision } : {});
      const report = await withHint(unknownOutcomes(word), act);
      return { exitCode: 0, text: doneText(report), json: { ok: true, report, ...more } };
    } catch (error) {
      const hasMoved = guards && error instanceof NodeError && error.code === 'revision_mismatch';
      if (!hasMoved) throw error;
      context.writeError(`Nothing was changed: the state has changed since that plan. ${oneLine(error.message)}\n\n`);
    }
  }
}

/** Asks a question that fits on the last lines of a screen. */
async function confirm({ summary, asked, answer }: Question, ask: PlanInput['context']['ask']): Promise<void> {
  const typed = await ask?.(`${oneLine(summary)}\nType ${oneLine(asked)} to continue: `);
  if (typed?.trim() !== answer.trim()) throw new NotConfirmed();
}

/** Returns the hints for a request without an answer, which the node may have carried out. */
function unknownOutcomes(word: string): Record<string, string> {
  const hint = `The ${word} was sent, and the node may or may not have carried it out: see "last restore" in status.`;
  return { connection_cut: hint, timeout: hint, unexpected_answer: hint, commit_outcome_unknown: hint };
}
