import type { OpenBackup } from '../../backup/offline/read.ts';
import { isLoomError, type LoomError } from '../../errors.ts';
import { type Command, USAGE_EXIT_CODE } from '../command.ts';
import { placeText, printable } from '../terminal/text.ts';
import { parseStrictly, UsageError, usageFaultText } from '../terminal/usage.ts';
import { FileFault, openNamedBackup } from './file-fault.ts';

export interface FileCommandOptions {
  name: string;
  summary: string;
  /** An option that names another backup file, and what the usage calls that. */
  otherFile?: { option: string; called: string; help: string };
  /** Resolves with what to print. A LoomError is a fault of the file; the exit code is 1 then. */
  report(open: OpenBackup, openOther?: OpenBackup): Promise<string>;
  /** What a fault begins with, such as `not ok`. */
  verdict: string;
}

/** A fault of the other file, which `otherFile` names. */
export class OtherFileFault extends Error {
  readonly fault: LoomError;

  constructor(fault: LoomError) {
    super(fault.message, { cause: fault });
    this.fault = fault;
  }
}

/** A command about backup files, plain or gzip. It needs no configuration, database or network. */
export function createFileCommand(options: FileCommandOptions): Command {
  const { name, summary, otherFile, report, verdict } = options;
  return {
    summary,
    takesArguments: true,
    run: async ({ args, write, writeError }) => {
      try {
        const asked = parse(args, otherFile?.option);
        if (asked === 'help') {
          write(usageOf(options));
          return 0;
        }
        write(await report(...(await openAll(asked, otherFile?.called))));
        return 0;
      } catch (error) {
        if (error instanceof UsageError) {
          writeError(usageFaultText(name, error));
          return USAGE_EXIT_CODE;
        }
        if (error instanceof FileFault) writeError(`${name} failed: ${printable(error.message)}\n`);
        else if (error instanceof OtherFileFault) write(faultText(`${verdict}: ${otherFile?.called}`, error.fault));
        else if (isLoomError(error)) write(faultText(verdict, error));
        else throw error;
        return 1;
      }
    },
  };
}

function usageOf({ name, summary, otherFile }: FileCommandOptions): string {
  const synopsis = `Usage: node dist/main.js ${name} FILE${otherFile ? ` [--${otherFile.option} ${otherFile.called}]` : ''}`;
  const rows = [
    ...(otherFile ? [[`--${otherFile.option} ${otherFile.called}`, otherFile.help]] : []),
    ['--help', 'show this'],
  ];
  const help = rows.map(([option = '', what]) => `  ${option.padEnd(22)} ${what}\n`).join('');
  return `${synopsis}\n\n${help}\n${summary.replace(/^./, (first) => first.toUpperCase())}.\n`;
}

function faultText(verdict: string, { code, place, message }: LoomError): string {
  return `${verdict}: ${code}${placeText(place)}\n${printable(message)}\n`;
}

interface Paths {
  file: string;
  other: string | undefined;
}

async function openAll({ file, other }: Paths, called: string | undefined): Promise<[OpenBackup, OpenBackup?]> {
  const open = await openNamedBackup(file);
  if (other === undefined) return [open];
  const openOther = await openNamedBackup(other).catch((error: unknown) => {
    throw error instanceof FileFault ? new FileFault(`${called}: ${error.message}`, { cause: error }) : error;
  });
  return [open, openOther];
}

/** The option may stand anywhere, but once. Throws a UsageError. */
function parse(args: string[], option: string | undefined): Paths | 'help' {
  const { positionals, values } = parseStrictly({
    args,
    options: {
      help: { type: 'boolean', short: 'h' },
      ...(option === undefined ? {} : { [option]: { type: 'string', multiple: true } }),
    },
  });
  if (values.help === true) return 'help';
  const [file, ...more] = positionals;
  if (file === undefined || more.length > 0) throw new UsageError('takes one file.');
  const [other, ...others] = option === undefined ? [] : ((values[option] as string[] | undefined) ?? []);
  if (others.length > 0) throw new UsageError(`--${option} may stand once.`);
  return { file, other };
}
