import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { markImitation } from '../answers/recorder.ts';

type Handler = (asked: IncomingMessage, answer: ServerResponse) => void;

export interface HttpProxy {
  url: string;
  /** Sets a handler that answers instead of the node if it returns true. Without one, every request is forwarded. */
  intercept(handler: ((asked: IncomingMessage, answer: ServerResponse) => boolean) | undefined): void;
  /** Method and path of every request. */
  asked: string[];
  close(): Promise<void>;
}

/** Starts an HTTP proxy in front of a node, for network faults: changed bytes, cut connections, error pages. */
export async function startHttpProxy(nodeUrl: string): Promise<HttpProxy> {
  let intercept: ((asked: IncomingMessage, answer: ServerResponse) => boolean) | undefined;
  const asked: string[] = [];
  const server = await listen((question, answer) => {
    asked.push(`${question.method} ${question.url}`);
    if (intercept?.(question, answer) !== true) forward(nodeUrl, question, answer);
  });
  return {
    url: server.url,
    asked,
    intercept: (handler) => {
      intercept = handler;
    },
    close: server.close,
  };
}

/** Starts an HTTP server with any handler. */
export async function listen(handler: Handler): Promise<{ url: string; close(): Promise<void> }> {
  const server: Server = createServer(handler);
  markImitation(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function forward(nodeUrl: string, question: IncomingMessage, answer: ServerResponse): void {
  const { hostname, port } = new URL(nodeUrl);
  const { method, url, headers } = question;
  const onward = request({ hostname, port, method, path: url, headers, agent: false }, (found) => {
    answer.writeHead(found.statusCode ?? 500, found.headers);
    found.pipe(answer);
    found.on('error', () => answer.destroy());
  });
  onward.on('error', () => answer.destroy());
  answer.on('close', () => onward.destroy());
  question.pipe(onward);
}
