import type { SentAnswer } from './recorder.ts';

const violations: string[] = [];
let loaded: Promise<typeof import('./sent.ts')> | undefined;
let checked = 0;

/** Checks an answer soon, and keeps a violation. Most files start no node, so they need not load the document. */
export function checkAnswer(answer: SentAnswer): void {
  loaded ??= import('./sent.ts');
  void loaded.then(({ assertSent }) => {
    checked += 1;
    try {
      assertSent(answer);
    } catch (error) {
      violations.push(`${answer.method} ${answer.url}: ${error instanceof Error ? error.message : String(error)}`);
    }
  });
}

/** Returns the violations since the last call, and the number of answers that this process has checked. */
export async function takeViolations(): Promise<{ violations: string[]; checked: number }> {
  await loaded;
  return { violations: violations.splice(0), checked };
}
