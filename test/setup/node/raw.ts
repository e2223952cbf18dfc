import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { assertProblemText } from './described.ts';

export interface RawAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

/** Connects to the server, without HTTP. Errors of the socket do not fail the test. */
export async function openSocket(port: number, host = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ port, host, noDelay: true });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** Sends bytes on a new connection, and returns all that the server sends until it closes the connection. */
export async function exchange(port: number, bytes: string | Buffer): Promise<string> {
  const socket = await openSocket(port);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.write(bytes);
  await once(socket, 'close');
  return Buffer.concat(chunks).toString('latin1');
}

/** Resolves as soon as the socket has received text that `isEnough` accepts, or is closed. */
export async function receive(socket: Socket, isEnough: (text: string) => boolean): Promise<string> {
  let text = '';
  return new Promise((resolve) => {
    const end = (): void => {
      socket.off('data', onData).off('close', end);
      resolve(text);
    };
    const onData = (chunk: Buffer): void => {
      text += chunk.toString('latin1');
      if (isEnough(text)) end();
    };
    socket.on('data', onData).on('close', end);
  });
}

/** Splits answers that all have a content-length, or none and no body. Checks those that are problems. */
export function toAnswers(text: string): RawAnswer[] {
  const answers: RawAnswer[] = [];
  for (let rest = text; rest !== ''; ) {
    const headEnd = rest.indexOf('\r\n\r\n');
    const [statusLine = '', ...lines] = rest.slice(0, headEnd).split('\r\n');
    const headers = Object.fromEntries(
      lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    );
    const bodyEnd = headEnd + 4 + Number(headers['content-length'] ?? 0);
    const answer = { status: Number(statusLine.split(' ')[1]), headers, body: rest.slice(headEnd + 4, bodyEnd) };
    if (headers['content-type']?.startsWith('application/problem+json')) assertProblemText(answer.body);
    answers.push(answer);
    rest = rest.slice(bodyEnd);
  }
  return answers;
}
