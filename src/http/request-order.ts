import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { limits } from '../limits.ts';

/** Bounds a turn of the event loop, after which the memory of closed connections is free. */
const REST_MS = 1;

interface Exchange {
  request: IncomingMessage;
  response: ServerResponse;
}

/** Holds the requests of one connection that have no complete answer yet. */
interface Line {
  current: Exchange | undefined;
  waiting: Exchange[];
  /** Runs after the last answer. Set once the connection takes no further requests. */
  last: (() => void) | undefined;
}

/**
 * Handles the requests of one connection one after another. Node emits all pipelined requests of a connection at once,
 * so a DELETE could overtake the PUT before it. A request behind an answer with `Connection: close`, or of a client
 * that has disconnected, is never handled. The node stops reading from a connection with many waiting requests, and
 * cuts it off if too many wait on all connections together.
 */
export class RequestOrder {
  readonly #lines = new WeakMap<Socket, Line>();
  readonly #onFlood: (socket: Socket) => void;
  readonly #open = new Set<Socket>();
  #resting = false;
  /** Number of waiting requests on all connections. */
  #waiting = 0;

  /** `onFlood` is called for each connection that is cut off, see `limits.maxWaitingRequests`. */
  constructor(onFlood: (socket: Socket) => void) {
    this.#onFlood = onFlood;
  }

  /** Adds a connection that the server has accepted. */
  add(socket: Socket): void {
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
  }

  /** Wraps the listener of a server's requests, so that it receives them in order. */
  wrap(handle: RequestListener): RequestListener {
    return (request, response) => {
      const { socket } = request;
      const line = this.#lineOf(socket);
      // Bytes that arrive after the connection's last request belong to no request.
      if (line.last !== undefined || socket.destroyed) return;
      // The node has closed its side, because the client was silent or the node shuts down. No answer can reach the
      // client, so the request must change nothing.
      if (!socket.writable) {
        socket.pause();
        return;
      }
      const exchange = { request, response };
      if (line.current === undefined) this.#begin(line, exchange, handle);
      else this.#wait(line, exchange);
      if (isFull(line)) socket.pause();
    };
  }

  /** Returns the number of waiting requests on all connections. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Returns the request that the node is handling now. */
  currentOf(socket: Socket): Exchange | undefined {
    return this.#lines.get(socket)?.current;
  }

  /**
   * Runs an action after all complete requests of a connection have been answered, unless an answer closes it. Drops a
   * waiting request whose body is incomplete, and all later ones.
   */
  afterAnswers(socket: Socket, action: () => void): void {
    const line = this.#lines.get(socket);
    if (line?.current === undefined) {
      action();
      return;
    }
    if (line.last !== undefined) return;
    line.last = action;
    this.#setWaiting(
      line,
      line.waiting.filter(({ request }) => request.complete),
    );
    socket.pause();
  }

  #lineOf(socket: Socket): Line {
    const known = this.#lines.get(socket);
    if (known !== undefined) return known;
    const line: Line = { current: undefined, waiting: [], last: undefined };
    this.#lines.set(socket, line);
    // Node resumes the socket after each answer and for each body. This listener runs before the next byte is read.
    socket.on('resume', () => {
      if (isFull(line)) socket.pause();
    });
    socket.once('close', () => this.#setWaiting(line, []));
    return line;
  }

  #setWaiting(line: Line, waiting: Exchange[]): void {
    this.#waiting += waiting.length - line.waiting.length;
    line.waiting = waiting;
  }

  #wait(line: Line, exchange: Exchange): void {
    line.waiting.push(exchange);
    this.#waiting += 1;
    if (this.#waiting <= limits.maxWaitingRequests || !isFull(line)) return;
    const { socket } = exchange.request;
    if (socket.destroyed) return;
    this.#onFlood(socket);
    socket.destroy();
    this.#rest();
  }

  /**
   * Reads from no connection until the one that was cut off is closed. Node parses a read to its end, and reads from
   * all connections before it frees anything: in one turn of the event loop, 100 connections create 200,000 requests.
   */
  #rest(): void {
    if (this.#resting) return;
    this.#resting = true;
    const paused = [...this.#open].filter((socket) => !socket.isPaused());
    for (const socket of paused) socket.pause();
    setTimeout(() => {
      this.#resting = false;
      for (const socket of paused) if (!socket.destroyed) socket.resume();
    }, REST_MS);
  }

  #begin(line: Line, exchange: Exchange, handle: RequestListener): void {
    const { request, response } = exchange;
    const { socket } = request;
    line.current = exchange;
    // Emitted once. `on` costs less than `once` for each request.
    response.on('close', () => {
      // Without a turn of the event loop, the 2,000 requests of one read would stop all other clients.
      if (line.waiting.length > 0) setImmediate(() => this.#next(line, socket, handle));
      else this.#next(line, socket, handle);
    });
    handle(request, response);
  }

  #next(line: Line, socket: Socket, handle: RequestListener): void {
    // A client that does not read could otherwise collect the answers to thousands of requests in the node's memory.
    if (socket.writableNeedDrain && line.waiting.length > 0) {
      socket.once('drain', () => this.#next(line, socket, handle));
      return;
    }
    line.current = undefined;
    if (socket.destroyed || !socket.writable) {
      this.#setWaiting(line, []);
      return;
    }
    const wasFull = isFull(line);
    const next = line.waiting.shift();
    if (next !== undefined) {
      this.#waiting -= 1;
      this.#begin(line, next, handle);
      if (wasFull && !isFull(line)) socket.resume();
      return;
    }
    const { last } = line;
    line.last = undefined;
    last?.();
  }
}

function isFull({ waiting, last }: Line): boolean {
  return last !== undefined || waiting.length >= limits.maxPipelinedRequests;
}
