import { openBackupFile } from '../backup/file.ts';
import type { OpenBackup } from '../backup/read.ts';
import { isLoomError, type LoomError } from '../errors.ts';
import { type Command, USAGE_EXIT_CODE } from './command.ts';

export interface FileCommandOptions {
  name: string;
  summary: string;
  /** Resolves with what to print. */
  report(open: OpenBackup): Promise<string>;
  /** What to print of a backup that is at fault; the exit code is 1 then. */
  faultText(error: LoomError): string;
}

/** A command about one backup file, plain or gzip. It needs no configuration, database or network. */
export function createFileCommand({ name, summary, report, faultText }: FileCommandOptions): Command {
  return {
    summary,
    takesArguments: true,
    run: async ({ args, write }) => {
      const [path, ...others] = args;
      if (path === undefined || others.length > 0) {
        write(`Usage: node dist/main.js ${name} FILE\n`);
        return USAGE_EXIT_CODE;
      }
      try {
        write(await report(await openBackupFile(path)));
        return 0;
      } catch (error) {
        if (!isLoomError(error)) throw error;
        write(faultText(error));
        return 1;
      }
    },
  };
}
