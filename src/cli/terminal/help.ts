import type { OptionTypes } from './arguments.ts';
import { type Row, table } from './text.ts';

/** The content of a command's `--help`. */
export interface CommandHelp {
  /** One line for the list of commands: a verb first, no full stop. */
  summary: string;
  /** The command line without arguments; default: `node dist/main.js` and the name. */
  commandLine?: string;
  /** The arguments, such as `FILE [options]`. */
  synopsis?: string;
  /** What the command does, in whole sentences. */
  about: string;
  options?: readonly Row[];
  /** The meaning of the exit codes 0 and 1, for a command that has them. 64 and 78 mean the same for all commands. */
  succeeds?: string;
  fails?: string;
  /** The meaning of the exit code 2, for a command that may do only a part of what it is for. */
  partly?: string;
  /** False if the command reads no configuration, and so never exits with 78. */
  isConfigured?: boolean;
  /** Whole command lines. */
  examples: readonly string[];
}

const WIDTH = 90;

/** Returns the help of one command. */
export function helpText(name: string, help: CommandHelp): string {
  const { commandLine = `node dist/main.js ${name}`, synopsis = '', about, options = [] } = help;
  return [
    `Usage: ${commandLine} ${synopsis}`.trimEnd(),
    '',
    about.replace(new RegExp(`(.{1,${WIDTH}})(?: +|$)`, 'g'), '$1\n'),
    section('Options', table([...options, ['-h, --help', 'show this help']])),
    section('Exit codes', table(exitCodes(help))),
    section('Examples', help.examples.map((line) => `${line}\n`).join('')).trimEnd(),
    '',
  ].join('\n');
}

/** Returns the help that lists all commands. */
export function listText(commands: readonly { name: string; help: CommandHelp }[]): string {
  return (
    'Usage: node dist/main.js <command>\n\n' +
    indented(table([...commands.map(({ name, help }): Row => [name, help.summary]), ['help', 'show this list']])) +
    '\nThe help of one command: node dist/main.js <command> --help\n' +
    'Configuration comes from the environment and .env: see docs/configuration.md.\n'
  );
}

/** Returns a line for each option: its name with its value, and its text. */
export function optionRows(options: OptionTypes): Row[] {
  return Object.entries(options).map(([name, option]) => {
    return [`--${name}${option.type === 'string' ? ` ${option.value}` : ''}`, option.help];
  });
}

function exitCodes({ succeeds, fails, partly, isConfigured = true, options = [] }: CommandHelp): Row[] {
  const asks = options.some(([name]) => name === '--yes');
  const codes: [string, string | undefined][] = [
    ['0', succeeds],
    ['1', fails],
    ['2', partly],
    ['64', `the command line is wrong${asks ? ', or the command must ask and there is no terminal' : ''}`],
    ['78', isConfigured ? 'the configuration is wrong' : undefined],
  ];
  return codes.flatMap(([code, meaning]): Row[] => (meaning === undefined ? [] : [[code, meaning]]));
}

function section(title: string, lines: string): string {
  return `${title}:\n${indented(lines)}`;
}

function indented(lines: string): string {
  return lines.replace(/^(?=.)/gm, '  ');
}
