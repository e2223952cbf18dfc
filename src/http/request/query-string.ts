import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';

/** Holds one parameter of a query, percent-decoded. */
export interface QueryParameter {
  name: string;
  value: string;
  /** Whether name and value were valid percent-encoded UTF-8. If not, they are as written. */
  valid: boolean;
}

/**
 * Parses the query of a URL. Throws `invalid_parameter` for too many parameters, before it decodes any: everyone may
 * send a query, so its cost is bounded.
 */
export function parseQuery(url: string): QueryParameter[] {
  const start = url.indexOf('?');
  if (start < 0) return [];
  const parts = url.slice(start + 1).split('&', limits.maxQueryParameters + 1);
  if (parts.length > limits.maxQueryParameters) {
    const detail = `The query has more than ${limits.maxQueryParameters} parameters. No route supports so many.`;
    throw new LoomError('invalid_parameter', detail);
  }
  return parts.filter((part) => part !== '').map(toParameter);
}

function toParameter(part: string): QueryParameter {
  const equals = part.indexOf('=');
  const name = decode(equals < 0 ? part : part.slice(0, equals));
  const value = decode(equals < 0 ? '' : part.slice(equals + 1));
  return { name: name.text, value: value.text, valid: name.valid && value.valid };
}

function decode(text: string): { text: string; valid: boolean } {
  const spaced = text.replaceAll('+', ' ');
  try {
    return { text: decodeURIComponent(spaced), valid: true };
  } catch {
    return { text: spaced, valid: false };
  }
}
