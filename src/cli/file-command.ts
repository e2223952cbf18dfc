import { type ParseArgsConfig, parseArgs } from 'node:util';
import { openBackupFile } from '../backup/file.ts';
import type { OpenBackup } from '../backup/read.ts';
import { isLoomError, type LoomError } from '../errors.ts';
import { type Command, USAGE_EXIT_CODE } from './command.ts';
import { placeText, printable } from './text.ts';

export interface FileCommandOptions {
  name: string;
  summary: string;
  /** An option that names another backup file, and what the usage calls that. */
  otherFile?: { option: string; called: string };
  /** Resolves with what to print. A LoomError is a fault of the file; the exit code is 1 then. */
  report(open: OpenBackup, openOther: OpenBackup | undefined): Promise<string>;
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
  const usage = `Usage: node dist/main.js ${name} FILE${otherFile ? ` [--${otherFile.option} ${otherFile.called}]` : ''}\n`;
  return {
    summary,
    takesArguments: true,
    run: async ({ args, write }) => {
      const paths = pathsOf(args, otherFile?.option);
      if (paths === undefined) {
        write(usage);
        return USAGE_EXIT_CODE;
      }
      try {
        const open = await openBackupFile(paths.file);
        write(await report(open, paths.other === undefined ? undefined : await openBackupFile(paths.other)));
        return 0;
      } catch (error) {
        if (error instanceof OtherFileFault) write(faultText(`${verdict}: ${otherFile?.called}`, error.fault));
        else if (isLoomError(error)) write(faultText(verdict, error));
        else throw error;
        return 1;
      }
    },
  };
}

function faultText(verdict: string, { code, place, message }: LoomError): string {
  return `${verdict}: ${code}${placeText(place)}\n${printable(message)}\n`;
}

/** Undefined when the command line is not as the usage says. The option may stand anywhere, but once. */
function pathsOf(args: string[], option: string | undefined): { file: string; other: string | undefined } | undefined {
  const options: ParseArgsConfig['options'] =
    option === undefined ? {} : { [option]: { type: 'string', multiple: true } };
  try {
    const { positionals, values } = parseArgs({ args, options, allowPositionals: true });
    const [file, ...more] = positionals;
    const others = option === undefined ? [] : ((values[option] as string[] | undefined) ?? []);
    if (file === undefined || more.length > 0 || others.length > 1) return undefined;
    return { file, other: others[0] };
  } catch {
    return undefined;
  }
}
