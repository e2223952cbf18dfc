import type { Readable } from 'node:stream';
import { isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { fromWebStream, toWebSource } from './web-streams.ts';

// The format is that of https://age-encryption.org/v1, so `age -d` decrypts a stored backup. The library is loaded only
// when it is needed: a node without encrypted backups never loads it.

/** The first bytes of every file that `age` has encrypted, unless it is armored. */
export const AGE_MAGIC = Buffer.from('age-encryption.org/v1\n');

/** A key pair that is never written anywhere. With it, a node reads back what it has just written. */
export interface EphemeralKey {
  recipient: string;
  /** Secret. */
  identity: string;
}

export async function createEphemeralKey(): Promise<EphemeralKey> {
  const { generateX25519Identity, identityToRecipient } = await import('age-encryption');
  const identity = await generateX25519Identity();
  return { identity, recipient: await identityToRecipient(identity) };
}

/**
 * Returns what is wrong with a list of recipients; undefined if all are public keys of `age`. Repeats a wrong one, so
 * the caller has checked that each looks like a public key.
 */
export async function findRecipientFault(recipients: readonly string[]): Promise<string | undefined> {
  if (recipients.length > limits.maxRecipients)
    return `has ${recipients.length} recipients, and at most ${limits.maxRecipients} are allowed`;
  const { Encrypter } = await import('age-encryption');
  for (const [index, recipient] of recipients.entries()) {
    const place = `recipient ${index + 1} of ${recipients.length}, ${JSON.stringify(recipient.slice(0, 100))},`;
    try {
      new Encrypter().addRecipient(recipient);
    } catch {
      return `${place} is not a public key of age (age1…): compare it with the output of age-keygen`;
    }
  }
  return undefined;
}

/**
 * Reads the secret keys of an identity file of `age`: one a line, with comments. Throws `identity_missing` if there is
 * none, or if a line is something else. The error names `origin` and the line, and never repeats it.
 */
export async function parseIdentities(text: string, origin = 'The identity file'): Promise<string[]> {
  const noIdentity = (found: string): LoomError =>
    new LoomError('identity_missing', `${origin} cannot be used. ${found} age-keygen makes identity files.`);
  if (text.length > limits.maxIdentityFileBytes)
    throw noIdentity(`It has more than ${limits.maxIdentityFileBytes} bytes.`);
  if (isEncryptedFile(text)) throw noIdentity('It is encrypted with a passphrase. Decrypt it first: age -d.');
  const { Decrypter } = await import('age-encryption');
  const identities: string[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const identity = line.trim();
    if (identity === '' || identity.startsWith('#')) continue;
    try {
      new Decrypter().addIdentity(identity);
    } catch {
      throw noIdentity(`Its line ${index + 1} is neither a comment nor a secret key of age (AGE-SECRET-KEY-1…).`);
    }
    identities.push(identity);
  }
  if (identities.length === 0) throw noIdentity('It has no secret key of age (AGE-SECRET-KEY-1…).');
  return identities;
}

/** Returns whether a text is a file that `age` has encrypted, armored or not, such as an identity with a passphrase. */
export function isEncryptedFile(text: string): boolean {
  return /^(-----BEGIN AGE ENCRYPTED FILE-----|age-encryption\.org\/)/.test(text.trimStart());
}

/** Encrypts a content for the recipients, at the pace of the reader. Destroying the result destroys the content. */
export async function encryptStream(content: Readable, recipients: readonly string[]): Promise<Readable> {
  const source = toWebSource(content);
  const toFault = (error: unknown): Error => asError(source.fault()?.error ?? error);
  try {
    const { Encrypter } = await import('age-encryption');
    const encrypter = new Encrypter();
    if (recipients.length === 0) throw new TypeError('There is no recipient to encrypt for.');
    for (const recipient of recipients) encrypter.addRecipient(recipient);
    return fromWebStream(await encrypter.encrypt(source.stream), { content, toFault });
  } catch (error) {
    content.destroy();
    throw toFault(error);
  }
}

/**
 * Decrypts a content with the first identity that fits, at the pace of the reader. Every byte of the result is
 * authentic. Rejects with `identity_missing` if no identity fits, and fails with `stored_backup_damaged`, also in the
 * middle. An error of the content itself passes unchanged.
 */
export async function decryptStream(content: Readable, identities: readonly string[]): Promise<Readable> {
  let bytes = 0;
  let isHeaderRead = false;
  const source = toWebSource(content, (chunk) => {
    if (!isHeaderRead && bytes > limits.maxAgeHeaderBytes) throw damaged('Its header does not end.');
    bytes += chunk.length;
  });
  const toFault = (error: unknown): Error => {
    const own = source.fault();
    if (own !== undefined) return asError(own.error);
    return isLoomError(error) ? error : toDecryptionFault(error, isHeaderRead ? bytes : undefined);
  };
  try {
    const { Decrypter } = await import('age-encryption');
    const decrypter = new Decrypter();
    for (const identity of identities) decrypter.addIdentity(identity);
    const plain = await decrypter.decrypt(source.stream);
    isHeaderRead = true;
    return fromWebStream(plain, { content, toFault });
  } catch (error) {
    content.destroy();
    throw toFault(error);
  }
}

/** `bytes` is undefined while the header is being read. */
function toDecryptionFault(error: unknown, bytes: number | undefined): LoomError {
  const text = error instanceof Error ? error.message : '';
  if (/no identity matched/.test(text)) {
    return new LoomError(
      'identity_missing',
      'None of the secret keys decrypts this backup. It was encrypted for other keys: its manifest lists their public ' +
        'keys. Use the identity file of one of them (LOOM_BACKUP_IDENTITY_FILE, or the option --identity of a command).',
    );
  }
  if (/invalid version/.test(text)) return damaged('It does not begin as a file of age does.');
  if (bytes === undefined) return damaged('Its header is cut off or changed.');
  return damaged(`It is cut off or changed, at or before byte ${bytes}.`);
}

function damaged(found: string): LoomError {
  return new LoomError(
    'stored_backup_damaged',
    `The encrypted backup is damaged. ${found} Use another copy, or another backup.`,
  );
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
