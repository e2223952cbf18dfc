import { describe, expect, test } from 'vitest';
import { LoomError } from '../../src/errors.ts';
import { toFileStoreFault } from '../../src/object-store/file/file-faults.ts';
import type { S3StoreOptions } from '../../src/object-store/s3/s3-client.ts';
import { toS3Fault } from '../../src/object-store/s3/s3-faults.ts';

const secretAccessKey = 'short-secret';
const options: S3StoreOptions = {
  kind: 's3',
  bucket: 'shop',
  prefix: '',
  endpoint: 'https://user:password@s3.example:9000/path',
  credentials: { accessKeyId: 'the-key-id', secretAccessKey },
};

/** Creates an error as the S3 client does. */
function answer(name: string, httpStatusCode?: number, message = name): Error {
  const $metadata = httpStatusCode === undefined ? {} : { httpStatusCode };
  return Object.assign(new Error(message), { name, $metadata });
}

const network = (code: string): Error => Object.assign(new Error(`connect ${code}`), { code });

describe('an error of S3', () => {
  test.each<[error: Error, code: string, word: string]>([
    [answer('AccessDenied', 403), 'store_refused', 'rights'],
    [answer('SignatureDoesNotMatch', 403), 'store_refused', 'secret key'],
    [answer('InvalidAccessKeyId', 403), 'store_refused', 'access key'],
    [answer('ExpiredToken', 400), 'store_refused', 'expired'],
    [answer('RequestTimeTooSkewed', 403), 'store_refused', 'clock'],
    [answer('PermanentRedirect', 301), 'store_refused', 'LOOM_BACKUP_S3_REGION'],
    [answer('CredentialsProviderError'), 'store_refused', 'LOOM_BACKUP_S3_ACCESS_KEY_ID'],
    [answer('Error', undefined, 'Region is missing'), 'store_refused', 'LOOM_BACKUP_S3_REGION'],
    [answer('NoSuchBucket', 404), 'store_unreachable', '"shop"'],
    [answer('QuotaExceeded', 403), 'store_full', 'quota'],
    [answer('XMinioStorageFull', 507), 'store_full', 'space'],
    [answer('SlowDown', 503), 'store_failed', 'too many requests'],
    [answer('TooManyRequests', 429), 'store_failed', 'too many requests'],
    [answer('ServiceUnavailable', 503), 'store_failed', 'HTTP 503'],
    [answer('TemporaryRedirect', 307), 'store_refused', 'LOOM_BACKUP_S3_ENDPOINT'],
    [answer('InvalidObjectState', 403), 'store_refused', 'archive'],
    [answer('InvalidRequest', 400), 'store_failed', 'HTTP 400'],
    [answer('TimeoutError'), 'store_unreachable', 'in time'],
    [network('ECONNREFUSED'), 'store_unreachable', 'network'],
    [network('ENOTFOUND'), 'store_unreachable', 'ENOTFOUND'],
    [network('CERT_HAS_EXPIRED'), 'store_unreachable', 'certificate'],
    [network('DEPTH_ZERO_SELF_SIGNED_CERT'), 'store_unreachable', 'NODE_EXTRA_CA_CERTS'],
    [new TypeError('something else'), 'store_failed', 'something else'],
  ])('%s', (error, code, word) => {
    const fault = toS3Fault(error, 'write "a"', options);
    expect(fault).toMatchObject({ code, message: expect.stringContaining(word) });
    expect(fault.message).toMatch(/^Could not write "a" in the bucket "shop" at s3\.example:9000 \(/);
    expect(fault.cause).toBeUndefined();
  });

  test.each([
    answer('Error', 503, '@aws-sdk XML parse error: mismatched tags <br> and </body>. Deserialization error: …'),
    answer('Unknown', 503, 'UnknownError'),
  ])('an answer that a proxy has sent: %s', (error) => {
    expect(toS3Fault(error, 'write "a"', options).message).toBe(
      'Could not write "a" in the bucket "shop" at s3.example:9000 (HTTP 503). The service has failed. Look at its ' +
        'status and its log; LOOM tries again. The answer has no error code of S3, so a proxy may have sent it.',
    );
  });

  test('never repeats a secret, or a text that could be one', () => {
    const said = `The key the-key-id with ${secretAccessKey} and ${'abcDEF12'.repeat(5)} failed.\n"Authorization"`;
    const { message } = toS3Fault(answer('AccessDenied', 403, said), 'write "a"', options);
    expect(message).toContain(`It says: "The key … with … and … failed. 'Authorization'".`);
    expect(message).not.toContain('password');
    const long = toS3Fault(answer('AccessDenied', 403, 'word '.repeat(500)), 'write "a"', options);
    expect(long.message.length).toBeLessThan(700);
  });

  test('an error of LOOM stays as it is', () => {
    const own = new LoomError('run_lost', 'Another node has taken over.');
    expect(toS3Fault(own, 'write "a"', options)).toBe(own);
    expect(toFileStoreFault(own, 'write "a"', '/backups')).toBe(own);
  });
});

describe('an error of the file system', () => {
  test.each([
    ['ENOSPC', 'store_full'],
    ['EDQUOT', 'store_full'],
    ['EROFS', 'store_refused'],
    ['EACCES', 'store_refused'],
    ['EPERM', 'store_refused'],
    ['ENOENT', 'store_unreachable'],
    ['ESTALE', 'store_unreachable'],
    ['EIO', 'store_failed'],
    ['EUNKNOWN', 'store_failed'],
  ])('%s: %s', (system, code) => {
    const fault = toFileStoreFault(network(system), 'write "a"', '/backups');
    expect(fault.code).toBe(code);
    expect(fault.message).toMatch(new RegExp(`^Could not write "a" in the folder "/backups" \\(${system}\\)\\. [A-Z]`));
  });
});
