import type { ParseArgsConfig, parseArgs } from 'node:util';
import { nodeUrlFault } from '../../config/checks.ts';
import { type ClientConfig, parseClientConfig } from '../../config/config.ts';
import { isLoomError } from '../../errors.ts';
import { createNodeClient, type NodeClient } from '../../http/client/client.ts';
import { NodeError } from '../../http/client/node-error.ts';
import { type Command, type CommandContext, readFile, USAGE_EXIT_CODE } from '../command.ts';
import { asFileFault } from '../file/file-fault.ts';
import { placeText, printable } from '../terminal/text.ts';
import { parseStrictly, UsageError, usageFaultText } from '../terminal/usage.ts';

type Options = NonNullable<ParseArgsConfig['options']>;

const commonOptions = { url: { type: 'string' }, help: { type: 'boolean', short: 'h' } } as const;

type Values<Given extends Options> = ReturnType<
  typeof parseArgs<{ options: Given & typeof commonOptions; strict: true; allowPositionals: true }>
>['values'];

export interface ClientTools {
  /** Ends what is under way when the command is stopped. */
  client: NodeClient;
  /** For what must be done after a stop, too. */
  config: ClientConfig;
  context: CommandContext;
}

export interface ClientCommandOptions<Given extends Options> {
  name: string;
  summary: string;
  /** What stands behind the name in the usage, and below it one line for each option. */
  synopsis: string;
  help: string;
  options: Given;
  /** How many arguments there must be beside the options. */
  operands: number;
  /** Resolves with the exit code. */
  run(values: Values<Given>, operands: string[], tools: ClientTools): Promise<number>;
}

/**
 * A command that asks a node. The token comes from the environment or a file and never from the command line, which every user
 * of the machine can read. Exit codes: 0, 1 for what failed or was refused, 64 for wrong usage, 78 without a token.
 */
export function createClientCommand<Given extends Options>(options: ClientCommandOptions<Given>): Command {
  const usage =
    `Usage: node dist/main.js ${options.name} ${options.synopsis}\n\n${options.help}` +
    '  --url URL              the node; otherwise LOOM_URL, or this machine at LOOM_HOST and LOOM_PORT\n' +
    '  --help                 show this\n\n' +
    'The token: LOOM_ADMIN_TOKEN, or LOOM_ADMIN_TOKEN_FILE with the path of a file. See docs/client-commands.md.\n';
  return {
    summary: options.summary,
    takesArguments: true,
    run: async (context) => {
      try {
        const { values, positionals, url, wantsHelp } = parse(options, context.args);
        if (wantsHelp) {
          context.write(usage);
          return 0;
        }
        const config = parseClientConfig(context.env, { readFile, ...(url === undefined ? {} : { url }) });
        return await runWithClient(options, values, positionals, { config, context });
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
        context.writeError(usageFaultText(options.name, error));
        return USAGE_EXIT_CODE;
      }
    },
  };
}

async function runWithClient<Given extends Options>(
  options: ClientCommandOptions<Given>,
  values: Values<Given>,
  operands: string[],
  { config, context }: Omit<ClientTools, 'client'>,
): Promise<number> {
  const client = createNodeClient({ ...config, signal: context.stop });
  try {
    return await options.run(values, operands, { client, config, context });
  } catch (error) {
    if (error instanceof UsageError) throw error;
    context.writeError(`${options.name} failed: ${faultText(error)}\n`);
    return 1;
  } finally {
    await client.close();
  }
}

/** Code, place and request id, then the sentence; of a file, its path and the sentence. */
export function faultText(error: unknown): string {
  if (error instanceof NodeError) {
    const more = error.requestId === undefined ? [] : [`request ${printable(error.requestId)}`];
    return `${error.code}${placeText(error.place, more)}\n${printable(error.message)}`;
  }
  if (isLoomError(error)) return `${error.code}${placeText(error.place)}\n${printable(error.message)}`;
  const fault = asFileFault(error);
  return printable(fault instanceof Error ? fault.message : String(fault));
}

function parse<Given extends Options>(
  { options, operands }: ClientCommandOptions<Given>,
  args: string[],
): { values: Values<Given>; positionals: string[]; url: string | undefined; wantsHelp: boolean } {
  if (args.some((argument) => /^--?[a-z-]*token(=|$)/i.test(argument))) {
    throw new UsageError(
      'a token is not taken from the command line, which every user of this machine can read, and shells keep. ' +
        'Set LOOM_ADMIN_TOKEN, or LOOM_ADMIN_TOKEN_FILE to the path of a file that holds it.',
    );
  }
  const parsed = parseStrictly({ args, options: { ...options, ...commonOptions } });
  const { url, help } = parsed.values as { url?: string; help?: boolean };
  if (help !== true && parsed.positionals.length !== operands) {
    throw new UsageError(operands === 0 ? 'takes options only.' : 'takes one file.');
  }
  const fault = url === undefined ? undefined : nodeUrlFault(url);
  if (fault !== undefined) throw new UsageError(`--url ${fault}.`);
  return { values: parsed.values as Values<Given>, positionals: parsed.positionals, url, wantsHelp: help === true };
}

/** An option that is a whole number; undefined when it is not given. */
export function wholeNumber(text: string | undefined, option: string, least: number): number | undefined {
  if (text === undefined) return undefined;
  const number = Number(text);
  if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(number) && number >= least) return number;
  throw new UsageError(`--${option} must be a whole number from ${least}.`);
}

/** Throws where nobody can be asked: what changes a state is not done on a mere call from a script. */
export function assertCanAsk({ ask }: CommandContext, hasYes: boolean | undefined, what: string): void {
  if (hasYes !== true && ask === undefined) {
    throw new UsageError(`there is no terminal to ask on: pass --yes to ${what}, or --dry-run to only see the plan.`);
  }
}
