import type { IncomingMessage, ServerResponse } from 'node:http';

/** Adds verbs of S3 that `s3rver` lacks: it lists and ends unfinished uploads, and refuses to replace an object. */
export interface UploadBook {
  /** Answers a request that `s3rver` does not know. Returns false for any other. */
  answer(question: IncomingMessage, answer: ServerResponse): Promise<boolean>;
  /** Notes what an answer of the service says about an upload. */
  note(question: IncomingMessage, given: IncomingMessage): void;
}

export function createUploadBook(target: string): UploadBook {
  const uploads = new Map<string, { key: string; initiated: Date }>();

  function list(url: URL): string {
    const prefix = url.searchParams.get('prefix') ?? '';
    const found = [...uploads].filter(([, { key }]) => key.startsWith(prefix));
    const members = found.map(
      ([id, { key, initiated }]) =>
        `<Upload><Key>${key}</Key><UploadId>${id}</UploadId><Initiated>${initiated.toISOString()}</Initiated></Upload>`,
    );
    return `<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>${members.join('')}</ListMultipartUploadsResult>`;
  }

  return {
    answer: async (question, answer) => {
      const url = new URL(question.url ?? '', target);
      const uploadId = url.searchParams.get('uploadId');
      if (question.method === 'GET' && url.searchParams.has('uploads')) {
        answer.writeHead(200, { 'content-type': 'application/xml' }).end(list(url));
        return true;
      }
      if (question.method === 'DELETE' && uploadId !== null) {
        if (uploads.delete(uploadId)) answer.writeHead(204).end();
        else await sendError(question, answer, 404, 'NoSuchUpload', 'The upload does not exist.');
        return true;
      }
      const isCondition = question.headers['if-none-match'] === '*' && /^(?:PUT|POST)$/.test(question.method ?? '');
      if (!isCondition) return false;
      const { status } = await fetch(new URL(url.pathname, target), { method: 'HEAD' });
      if (status !== 200) return false;
      await sendError(question, answer, 412, 'PreconditionFailed', 'The object exists.');
      return true;
    },
    note: (question, given) => {
      const url = new URL(question.url ?? '', target);
      if (question.method !== 'POST' || given.statusCode !== 200) return;
      uploads.delete(url.searchParams.get('uploadId') ?? '');
      if (!url.searchParams.has('uploads')) return;
      const [, , ...path] = url.pathname.split('/');
      let text = '';
      given.on('data', (chunk: Buffer) => {
        text += chunk.toString('utf8');
        const id = /<UploadId>([^<]+)</.exec(text)?.[1];
        if (id !== undefined) uploads.set(id, { key: decodeURIComponent(path.join('/')), initiated: new Date() });
      });
    },
  };
}

/** Answers with an error of S3, after the whole body has arrived. */
export async function sendError(
  question: IncomingMessage,
  answer: ServerResponse,
  status: number,
  code: string,
  message: string,
): Promise<void> {
  await question.resume().toArray();
  const body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  answer.writeHead(status, { 'content-type': 'application/xml' });
  answer.end(question.method === 'HEAD' ? undefined : body);
}
