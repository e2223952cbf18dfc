import { readFile } from 'node:fs/promises';
import { readForm } from '../../backup/offline/file.ts';
import { parseIdentities } from '../../backup/stored/encryption.ts';
import { asFileFault } from './file-fault.ts';

/**
 * Reads the secret keys that decrypt stored backups: from the file that the command line names, or else as the node
 * finds them. Undefined without any. Rejects with a FileFault or `identity_missing`.
 */
export async function readIdentities(
  path: string | undefined,
  env: Record<string, string | undefined>,
): Promise<string[] | undefined> {
  const named = path ?? env.LOOM_BACKUP_IDENTITY_FILE;
  if (named !== undefined && named !== '') {
    const text = await readFile(named, 'utf8').catch((error: unknown) => {
      throw asFileFault(error, named, path === undefined ? 'LOOM_BACKUP_IDENTITY_FILE' : '--identity');
    });
    return await parseIdentities(text, `The identity file ${JSON.stringify(named)}`);
  }
  const text = env.LOOM_BACKUP_IDENTITY;
  return text === undefined || text === '' ? undefined : await parseIdentities(text, 'LOOM_BACKUP_IDENTITY');
}

/** Reads the secret keys for this backup file, as `readIdentities` does; undefined for a file that needs none. */
export async function identitiesFor(
  file: string,
  path: string | undefined,
  env: Record<string, string | undefined>,
): Promise<string[] | undefined> {
  const form = await readForm(file).catch((error: unknown) => {
    throw asFileFault(error, file);
  });
  return form === 'age' ? await readIdentities(path, env) : undefined;
}
