import { codeOf, type ErrorCode, isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { S3StoreOptions } from './s3-client.ts';

/** Describes an error of the S3 client. */
interface S3Fault {
  /** Error code of S3 or of the system; empty for an answer without one. */
  name: string;
  status: number | undefined;
  message: string;
}

/** What to do, by the name of an error, or by its status. The first line that matches counts. */
const advices: readonly { matches: (fault: S3Fault) => boolean; code: ErrorCode; advice: string }[] = [
  {
    matches: ({ name, status }) => /quota|storagefull|insufficientstorage/i.test(name) || status === 507,
    code: 'store_full',
    advice: 'The space or the quota is used up. Free space, or keep fewer backups (LOOM_BACKUP_KEEP).',
  },
  {
    matches: ({ name }) => name === 'NoSuchBucket',
    code: 'store_unreachable',
    advice: 'The bucket does not exist. Create it, or correct LOOM_BACKUP_STORE; LOOM does not create it.',
  },
  {
    matches: ({ name }) => /^RequestTimeTooSkewed|^RequestExpired/.test(name),
    code: 'store_refused',
    advice: 'The clock of this machine and that of the service differ too much. Set the clock, for example with NTP.',
  },
  {
    matches: ({ name }) => /^SignatureDoesNotMatch|^InvalidAccessKeyId|^InvalidToken|^ExpiredToken/.test(name),
    code: 'store_refused',
    advice: 'Check the access key, the secret key and the region. They may have been replaced, or may have expired.',
  },
  {
    matches: ({ name }) => name === 'CredentialsProviderError',
    code: 'store_refused',
    advice:
      'No credentials were found. Set LOOM_BACKUP_S3_ACCESS_KEY_ID and LOOM_BACKUP_S3_SECRET_ACCESS_KEY, or give the ' +
      'machine a role.',
  },
  {
    matches: ({ name, status }) =>
      name === 'PermanentRedirect' || name === 'AuthorizationHeaderMalformed' || status === 301,
    code: 'store_refused',
    advice: 'The bucket is in another region. Correct LOOM_BACKUP_S3_REGION.',
  },
  {
    matches: ({ status }) => status !== undefined && status > 301 && status < 400,
    code: 'store_refused',
    advice: 'The service named another address. Correct LOOM_BACKUP_S3_ENDPOINT and LOOM_BACKUP_S3_REGION.',
  },
  {
    matches: ({ name }) => name === 'InvalidObjectState',
    code: 'store_refused',
    advice:
      'A rule of the bucket has moved the object to an archive, where nobody can read it. Restore it there first, and ' +
      'remove the rule.',
  },
  {
    matches: ({ name, status }) => status === 429 || /^SlowDown|^TooManyRequests|^Throttl/.test(name),
    code: 'store_failed',
    advice: 'The service receives too many requests. Look for other programs that use it; LOOM tries again.',
  },
  {
    matches: ({ message }) => /region is missing/i.test(message),
    code: 'store_refused',
    advice: 'Set LOOM_BACKUP_S3_REGION.',
  },
  {
    matches: ({ status }) => status === 401 || status === 403,
    code: 'store_refused',
    advice:
      'Grant the key these rights on the bucket: list it and its uploads, get, put and delete objects, and abort uploads.',
  },
  {
    matches: ({ status }) => status !== undefined && status >= 500,
    code: 'store_failed',
    advice: 'The service has failed. Look at its status and its log; LOOM tries again.',
  },
  {
    matches: ({ status }) => status !== undefined,
    code: 'store_failed',
    advice: 'The service did not accept the request. Check that the endpoint is one of S3.',
  },
];

const NETWORK_CODES = /^E[A-Z_]+$|^UND_|^HPE_/;
const CERTIFICATE_CODES = /^CERT_|^ERR_TLS_|SELF_SIGNED|UNABLE_TO_|^ERR_SSL/;

/**
 * Converts an error of the S3 client, found while the store was `doing` something, such as "write \"a\"". Returns a
 * LoomError unchanged. The error of the client is not its cause, because it repeats headers of the request.
 */
export function toS3Fault(error: unknown, doing: string, options: S3StoreOptions): LoomError {
  if (isLoomError(error)) return error;
  const fault = describe(error, options);
  const where = `in the bucket ${JSON.stringify(options.bucket)} at ${hostOf(options)}`;
  const network = networkAdvice(error, fault);
  const { code, advice } = network ??
    advices.find(({ matches }) => matches(fault)) ?? { code: 'store_failed' as const, advice: 'The request failed.' };
  const found = [fault.name, fault.status === undefined ? '' : `HTTP ${fault.status}`].filter((part) => part !== '');
  return new LoomError(code, `Could not ${doing} ${where} (${found.join(', ')}). ${advice}${said(fault)}`);
}

function said({ name, message }: S3Fault): string {
  if (name === '') return ' The answer has no error code of S3, so a proxy may have sent it.';
  return message === '' ? '' : ` It says: "${message}".`;
}

function networkAdvice(error: unknown, { name, status }: S3Fault): { code: ErrorCode; advice: string } | undefined {
  if (status !== undefined) return undefined;
  const code = codeOf(error) ?? '';
  if (CERTIFICATE_CODES.test(code)) {
    return {
      code: 'store_unreachable',
      advice:
        'The certificate of the service was not accepted. Check it, and set NODE_EXTRA_CA_CERTS for a private CA.',
    };
  }
  if (name === 'TimeoutError' || code === 'ETIMEDOUT')
    return {
      code: 'store_unreachable',
      advice: 'The service did not answer in time. Check the network and the service.',
    };
  if (!NETWORK_CODES.test(code)) return undefined;
  return { code: 'store_unreachable', advice: 'The network connection failed. Check the endpoint and the network.' };
}

/** Returns the status of an error of the S3 client, and its name, which is the error code of S3. */
export function statusOf(error: unknown): number | undefined {
  const metadata = error instanceof Error && '$metadata' in error ? error.$metadata : undefined;
  const status = typeof metadata === 'object' && metadata !== null && 'httpStatusCode' in metadata;
  return status && typeof metadata.httpStatusCode === 'number' ? metadata.httpStatusCode : undefined;
}

export function isNotFound(error: unknown): boolean {
  return error instanceof Error && /^NotFound$|^NoSuchKey$/.test(error.name);
}

function describe(error: unknown, options: S3StoreOptions): S3Fault {
  if (!(error instanceof Error)) return { name: 'unknown error', status: undefined, message: '' };
  const status = statusOf(error);
  const code = codeOf(error);
  // The client gives these names to an answer without an error code of S3, such as an HTML page.
  if (status !== undefined && /^(?:Error|Unknown|UnknownError)$/.test(error.name))
    return { name: '', status, message: '' };
  const name = error.name === 'Error' && code !== undefined ? code : error.name;
  return { name: name.replace(/[^\w.]/g, '').slice(0, 80), status, message: readable(error, options) };
}

/** Shortens a message of a service, and removes whatever could be a key from it. */
function readable({ message, name }: Error, { credentials }: S3StoreOptions): string {
  if (message === name || /^UnknownError$|^@(?:aws-sdk|smithy)\b/.test(message)) return '';
  let text = message.replace(/\s+/g, ' ').replaceAll('"', "'");
  for (const secret of [credentials?.secretAccessKey, credentials?.accessKeyId])
    if (secret !== undefined && secret !== '') text = text.replaceAll(secret, '…');
  return text
    .replace(/[A-Za-z0-9+/=]{40,}/g, '…')
    .slice(0, limits.maxS3MessageCharacters)
    .replace(/\.$/, '');
}

function hostOf({ endpoint, region }: S3StoreOptions): string {
  return endpoint === undefined ? `AWS${region === undefined ? '' : ` (${region})`}` : new URL(endpoint).host;
}
