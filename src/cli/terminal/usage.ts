import { type ParseArgsConfig, parseArgs } from 'node:util';

/** The command line is wrong: exit code 64. */
export class UsageError extends Error {}

/** What a wrong command line is answered with: the reason, and where to read on. */
export function usageFaultText(name: string, { message }: UsageError): string {
  return `${name}: ${message}\nSee node dist/main.js ${name} --help.\n`;
}

/** `parseArgs`, strictly: throws a UsageError. */
export function parseStrictly(config: ParseArgsConfig): ReturnType<typeof parseArgs> {
  try {
    return parseArgs({ ...config, strict: true, allowPositionals: true });
  } catch (error) {
    // The first sentence names the option, never its value.
    const reason = error instanceof Error ? (error.message.split('. ')[0] ?? '') : String(error);
    throw new UsageError(`${reason.replace(/\.$/, '')}.`);
  }
}
