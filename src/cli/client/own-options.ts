import { NodeError } from '../../http/client/node-error.ts';

/** A node speaks of members of a request; these are the options that stand for them. */
const options: Record<string, string> = {
  state_key_mismatch: 'On this command line: --accept-state-key KEY.',
  backup_unverified: 'To restore it all the same: --accept-unverified.',
};

/** The node's refusal with the option that would lift it, if there is one. */
export function withOwnOption(error: unknown): unknown {
  if (!(error instanceof NodeError)) return error;
  const { code, message, place, status, requestId } = error;
  const option = options[code];
  if (option === undefined) return error;
  return new NodeError(code, `${message} ${option}`, { place, status, requestId, cause: error });
}
