import { NodeError } from '../../http/client/node-error.ts';

/** The option of the command line that lifts a refusal, by the code of the refusal. */
const hints: Record<string, string> = {
  state_key_mismatch: 'On this command line: --accept-state-key KEY.',
  backup_unverified: 'To restore it nevertheless: --accept-unverified.',
};

/** Adds to a node's refusal the option that lifts it, if there is one. The node itself names members of a request. */
export function withOwnOption(error: unknown): unknown {
  const hint = error instanceof NodeError ? hints[error.code] : undefined;
  if (!(error instanceof NodeError) || hint === undefined) return error;
  const { code, message, place, status, requestId } = error;
  return new NodeError(code, `${message} ${hint}`, { place, status, requestId, cause: error });
}
