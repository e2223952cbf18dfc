import type { FastifyRequest } from 'fastify';
import type { Change } from '../../domain/commit.ts';
import { assertDocumentName } from '../../domain/document.ts';
import { LoomError } from '../../errors.ts';
import { pointerToken } from '../../json/pointer.ts';
import { createJsonScanner } from '../../json/scanner/scanner.ts';
import type { CapturedValue, CaptureVisit, Visit } from '../../json/visit.ts';
import { limits } from '../../limits.ts';
import { type MediaTypes, openBody, openBodyBytes, readChunks } from './body.ts';

export interface BodyBounds {
  maxDocumentBytes: number;
  /** Milliseconds over which the client must send at the minimum rate. */
  paceWindowMs: number;
}

type JsonBodyOptions = BodyBounds & { mediaTypes: MediaTypes };

/** Reads the body as one document. Resolves with its normalized JSON text. */
export async function readDocumentBody(request: FastifyRequest, options: JsonBodyOptions): Promise<string> {
  let text: string | undefined;
  let textBytes = 0;
  const root = captureDocument(options.maxDocumentBytes, (value) => {
    textBytes = value.text.length;
    text = value.text.toString('utf8');
  });
  await scanBody(request, options, { maxCanonicalBytes: options.maxDocumentBytes, root, keptBytes: () => textBytes });
  if (text === undefined) throw new Error('a successful scan captures its value');
  return text;
}

/** Reads the body as one object of documents. Maps each with `toChange`, in the order of the body. */
export async function readStateBody(
  request: FastifyRequest,
  options: JsonBodyOptions,
  toChange: (name: string, value: CapturedValue) => Change,
): Promise<Change[]> {
  const changes: Change[] = [];
  let bytes = 0;
  const onMember = (name: string): CaptureVisit => {
    assertDocumentName(name, pointerToken(name));
    if (changes.length === limits.maxChangesPerCommit) {
      throw new LoomError('too_many_changes', `One commit can change at most ${limits.maxChangesPerCommit} documents.`);
    }
    return captureDocument(options.maxDocumentBytes, (value) => {
      bytes += value.canonicalBytes + Buffer.byteLength(name);
      if (bytes > limits.maxStateBodyBytes) {
        const detail = `The documents of one commit can have at most ${limits.maxStateBodyBytes} bytes in total.`;
        throw new LoomError('body_too_large', detail);
      }
      changes.push(toChange(name, value));
    });
  };
  const onOther = (type: string, offset: number): never => {
    const detail = `The body must be an object of documents by name, but it is ${withArticle(type)}.`;
    throw new LoomError('state_not_object', detail, { pointer: '', offset });
  };
  const root: Visit = { kind: 'object', uniqueNames: 'check', onMember, onOther };
  const keptBytes = (): number => bytes + changes.length * CHANGE_BYTES;
  await scanBody(request, options, { maxCanonicalBytes: limits.maxStateBodyBytes, root, keptBytes });
  return changes;
}

function captureDocument(maxBytes: number, onValue: (value: CapturedValue) => void): CaptureVisit {
  return { kind: 'capture', maxBytes, maxDepth: limits.maxDocumentDepth, borrows: 'call', onValue };
}

interface ScanOptions {
  /** Bounds the canonical text of the body, which may be shorter than the body. */
  maxCanonicalBytes: number;
  root: Visit;
  /** Returns the bytes of the values that `root` has kept so far. */
  keptBytes(): number;
}

/** Scans the body. Charges the memory for what is kept, from each chunk until the commit has been answered. */
async function scanBody(
  request: FastifyRequest,
  { mediaTypes, paceWindowMs }: JsonBodyOptions,
  { maxCanonicalBytes, root, keptBytes }: ScanOptions,
): Promise<void> {
  const maxBytes = maxCanonicalBytes * limits.maxRawBodyFactor + limits.rawBodySlackBytes;
  const body = openBody(request, { mediaTypes, maxBytes, paceWindowMs });
  const scanner = createJsonScanner(root);
  const { body: share } = request.memory;
  const bufferBytes = openBodyBytes(request);
  try {
    await readChunks(body, (chunk) => {
      scanner.write(chunk);
      share.resize(bufferBytes + scanner.heldBytes() + limits.bodyMemoryFactor * keptBytes());
    });
    scanner.end();
    share.resize(limits.commitMemoryFactor * keptBytes());
  } catch (error) {
    share.resize(0);
    throw error;
  }
}

/** Memory for the objects of one change, in addition to its text. */
const CHANGE_BYTES = 256;

function withArticle(type: string): string {
  if (type === 'null') return type;
  return `${/^[ao]/.test(type) ? 'an' : 'a'} ${type}`;
}
