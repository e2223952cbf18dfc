import { Readable } from 'node:stream';

/** A content as a web stream, for a library that needs one. */
export interface WebSource {
  stream: ReadableStream<Uint8Array>;
  /** The content's own error, if it has failed. */
  fault(): { error: unknown } | undefined;
}

/** Reads a content only as fast as the stream is read. `onChunk` may throw, which ends both. */
export function toWebSource(content: Readable, onChunk: (chunk: Uint8Array) => void = () => undefined): WebSource {
  let fault: { error: unknown } | undefined;
  // The reader of the stream gets the error. After a cancel, nobody asks for it.
  content.on('error', () => undefined);
  const chunks = content[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  const stream = new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        let next: IteratorResult<Uint8Array>;
        try {
          next = await chunks.next();
        } catch (error) {
          fault = { error };
          throw error;
        }
        if (next.done === true) {
          controller.close();
          return;
        }
        onChunk(next.value);
        controller.enqueue(next.value);
      },
      cancel: () => void content.destroy(),
    },
    { highWaterMark: 0 },
  );
  return { stream, fault: () => fault };
}

/** Reads a web stream only as fast as the result is read. Destroying the result destroys `content`, its origin. */
export function fromWebStream(
  stream: ReadableStream<Uint8Array>,
  { content, toFault }: { content: Readable; toFault: (error: unknown) => Error },
): Readable {
  const reader = stream.getReader();
  const result = new Readable({
    read: () => {
      reader.read().then(
        ({ value }) => result.push(value ?? null),
        (error: unknown) => result.destroy(toFault(error)),
      );
    },
    destroy: (error, done) => {
      content.destroy();
      reader.cancel().catch(() => undefined);
      done(error);
    },
  });
  return result;
}
