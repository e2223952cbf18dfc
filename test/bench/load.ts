import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import autocannon from 'autocannon';
import { environment } from './results.ts';

export interface LoadRequest {
  /** GET if undefined. */
  method?: 'GET' | 'PUT' | 'PATCH' | 'POST' | 'DELETE';
  /** Path and query. */
  path: string;
  headers?: Record<string, string>;
  body?: string;
}

export interface LoadOptions {
  /** The node, without a path, such as `http://127.0.0.1:8787`. */
  url: string;
  /** Connections. Each one sends its next request after the answer to the last one. */
  clients: number;
  seconds: number;
  /** The requests to send in turn. */
  requests: LoadRequest[];
}

export interface LoadResult {
  tool: 'wrk' | 'autocannon';
  requestsPerSecond: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  /** Answers with an error status, and requests without an answer. */
  non2xx: number;
}

/** A load that is running. */
export interface RunningLoad {
  /** Ends the load before its time. */
  stop(): void;
  /** Resolves after the load has ended. */
  result: Promise<LoadResult>;
}

/**
 * Loads a URL with wrk if it is installed, because it leaves more of the processors to the node, otherwise with
 * autocannon. wrk corrects its latencies for the requests that a slow answer delays.
 */
export async function load(options: LoadOptions): Promise<LoadResult> {
  return (await startLoad(options)).result;
}

/** Loads a URL, and throws unless every request succeeds. */
export async function loadWithoutErrors(options: LoadOptions): Promise<LoadResult> {
  const result = await load(options);
  if (result.non2xx > 0) throw new Error(`${result.non2xx} requests to ${options.url} failed`);
  return result;
}

/** Starts a load, so that something else can happen meanwhile. */
export async function startLoad(options: LoadOptions): Promise<RunningLoad> {
  const tool = (await hasWrk()) ? 'wrk' : 'autocannon';
  environment['load generator'] = tool;
  return tool === 'wrk' ? startWrk(options) : startAutocannon(options);
}

let wrkIsInstalled: boolean | undefined;

async function hasWrk(): Promise<boolean> {
  // wrk has no exit code 0 for its help and version.
  wrkIsInstalled ??= await promisify(execFile)('wrk', ['--version']).then(
    () => true,
    (error: { code?: unknown }) => error.code !== 'ENOENT',
  );
  return wrkIsInstalled;
}

async function startWrk({ url, clients, seconds, requests }: LoadOptions): Promise<RunningLoad> {
  const directory = await mkdtemp(join(tmpdir(), 'loom-wrk-'));
  const script = join(directory, 'requests.lua');
  const texts = requests.map((request) => requestText(url, request));
  await writeFile(join(directory, 'requests'), texts.map((text) => `${Buffer.byteLength(text)}\n${text}`).join(''));
  await writeFile(script, luaScript(join(directory, 'requests')));
  const child = spawn('wrk', ['-t1', `-c${clients}`, `-d${seconds}s`, '--timeout', '30s', '-s', script, url]);
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  const result = outputOf(child)
    .then(readWrk)
    .finally(async () => {
      process.off('exit', kill);
      await rm(directory, { recursive: true, force: true });
    });
  // The caller may await the result much later.
  result.catch(() => undefined);
  return { stop: () => void child.kill('SIGINT'), result };
}

function requestText(url: string, { method = 'GET', path, headers = {}, body = '' }: LoadRequest): string {
  const length = method === 'GET' ? {} : { 'content-length': Buffer.byteLength(body) };
  const lines = Object.entries({ host: new URL(url).host, ...headers, ...length }).map(([name, value]) => {
    return `${name}: ${value}\r\n`;
  });
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`;
}

/** Lua reads the requests from a file, because a script may have only 65,536 constants. */
function luaScript(requestsFile: string): string {
  return `
local requests, turn = {}, 0
init = function()
  local file = assert(io.open('${requestsFile}', 'rb'))
  for length in file:lines() do requests[#requests + 1] = file:read(tonumber(length)) end
  file:close()
end
request = function()
  turn = turn % #requests + 1
  return requests[turn]
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nresult {"requests":%d,"us":%d,"p50":%d,"p99":%d,"max":%d,"failed":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    e.status + e.connect + e.read + e.write + e.timeout))
end
`;
}

function outputOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (output += chunk));
    child.once('error', reject);
    child.once('close', () => resolve(output));
  });
}

function readWrk(output: string): LoadResult {
  const line = /^result (\{.*\})$/m.exec(output)?.[1];
  if (line === undefined) throw new Error(`wrk printed no result:\n${output}`);
  const { requests, us, p50, p99, max, failed } = JSON.parse(line) as Record<string, number>;
  const ms = (microseconds = Number.NaN): number => microseconds / 1_000;
  return {
    tool: 'wrk',
    requestsPerSecond: ((requests ?? 0) * 1e6) / (us ?? Number.NaN),
    p50Ms: ms(p50),
    p99Ms: ms(p99),
    maxMs: ms(max),
    non2xx: failed ?? 0,
  };
}

function startAutocannon({ url, clients, seconds, requests }: LoadOptions): RunningLoad {
  const settings = {
    url,
    connections: clients,
    duration: seconds,
    timeout: 30,
    requests: requests.map(({ method = 'GET', ...request }) => ({ method, ...request })),
  };
  let instance: autocannon.Instance | undefined;
  const result = new Promise<autocannon.Result>((resolve, reject) => {
    instance = autocannon(settings, (error, seen) => (error ? reject(error) : resolve(seen)));
  }).then(
    (seen): LoadResult => ({
      tool: 'autocannon',
      requestsPerSecond: seen['2xx'] / seen.duration,
      p50Ms: seen.latency.p50,
      p99Ms: seen.latency.p99,
      maxMs: seen.latency.max,
      non2xx: seen.non2xx + seen.errors + seen.timeouts,
    }),
  );
  result.catch(() => undefined);
  return { stop: () => instance?.stop(), result };
}
