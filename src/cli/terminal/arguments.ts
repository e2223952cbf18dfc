import { type ParseArgsConfig, parseArgs } from 'node:util';

/** Reports a wrong command line: exit code 64. */
export class UsageError extends Error {}

/** Options by name, with the name of the value and the text that `--help` shows. */
export type OptionTypes = Record<
  string,
  ReturnType<typeof flag> | (ReturnType<typeof valued> & { multiple?: boolean })
>;

/** Defines an option without a value. */
export const flag = (help: string) => ({ type: 'boolean', help }) as const;

/** Defines an option with a value, which the help calls `value`. */
export const valued = (value: string, help: string) => ({ type: 'string', value, help }) as const;

export interface ParsedArguments<Given extends OptionTypes> {
  values: ReturnType<typeof parseArgs<{ options: Given; strict: true; allowPositionals: true }>>['values'];
  /** The arguments that are not options. */
  operands: string[];
  /** Whether `--json` is given. */
  wantsJson: boolean;
}

/** The number of arguments that are not options. */
export type OperandCount = 0 | 1 | 'optional';

const commonOptions = { help: { type: 'boolean', short: 'h' }, json: { type: 'boolean' } } as const;

/** Parses the arguments of a command with options. Throws a UsageError. */
export function parseArguments<Given extends OptionTypes>(
  args: string[],
  options: Given,
  operandCount: OperandCount,
): ParsedArguments<Given> | 'help' {
  if (args.some((argument) => /^--?[a-z-]*token(=|$)/i.test(argument))) {
    throw new UsageError(
      'the command line takes no token: every user of this machine can read it, and shells store it. ' +
        'Set LOOM_ADMIN_TOKEN, or set LOOM_ADMIN_TOKEN_FILE to the path of a file with the token.',
    );
  }
  const { values, positionals } = parseStrictly({ args, options: { ...options, ...commonOptions } });
  if (values.help === true) return 'help';
  const [min, max] = operandCount === 'optional' ? [0, 1] : [operandCount, operandCount];
  if (positionals.length < min || positionals.length > max) {
    throw new UsageError(max === 0 ? 'takes options only.' : 'takes one file.');
  }
  const own = values as ParsedArguments<Given>['values'];
  return { values: own, operands: positionals, wantsJson: values.json === true };
}

function parseStrictly(config: ParseArgsConfig): ReturnType<typeof parseArgs> {
  try {
    const parsed = parseArgs({ ...config, strict: true, allowPositionals: true, tokens: true });
    assertNotRepeated(parsed.tokens, config.options ?? {});
    return parsed;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    // The first sentence names the option. A later one may repeat its value.
    const reason = error instanceof Error ? (error.message.split(/\.\s/)[0] ?? '') : String(error);
    throw new UsageError(`${reason.replace(/\.$/, '')}.${valueHint(reason, config.options ?? {})}`);
  }
}

/** Throws if an option has two values, of which one would be ignored. */
function assertNotRepeated(
  tokens: { kind: string; name?: string }[],
  options: NonNullable<ParseArgsConfig['options']>,
) {
  const given = new Set<string>();
  for (const { kind, name } of tokens) {
    if (kind !== 'option' || name === undefined || options[name]?.type !== 'string' || options[name].multiple) continue;
    if (given.has(name)) throw new UsageError(`--${name} is given twice. Give it once.`);
    given.add(name);
  }
}

/** Shows how to write an option whose value looks like another option. */
function valueHint(reason: string, options: Record<string, { type: string; value?: string }>): string {
  const name = /^Option '(?:-\w, )?--([\w-]+).*argument is ambiguous/.exec(reason)?.[1];
  const value = name === undefined || !Object.hasOwn(options, name) ? undefined : options[name]?.value;
  return value === undefined ? '' : ` It needs a value: --${name} ${value}.`;
}

/** Reads an option that is a whole number; undefined if the option is not given. */
export function wholeNumber(
  text: string | undefined,
  option: string,
  { min, max }: { min: number; max?: number },
): number | undefined {
  if (text === undefined) return undefined;
  const number = Number(text);
  const isInRange = number >= min && number <= (max ?? Number.MAX_SAFE_INTEGER);
  if (/^\d{1,16}$/.test(text) && isInRange) return number;
  throw new UsageError(
    `--${option} takes a whole number ${max === undefined ? `of at least ${min}` : `from ${min} to ${max}`}.`,
  );
}
