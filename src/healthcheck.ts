import { env } from 'node:process';
import { findLiveFault } from './cli/client/live.ts';

// The health check of the image: the second main file, which may use the process. It loads as little as possible. The
// node itself checks its variables at start, so this file only reads them. It imports nothing of `cli` but live.ts.
const { LOOM_HOST: host, LOOM_PORT: port } = env;

// Kubernetes sets LOOM_PORT to an address such as tcp://10.0.0.1:8787 for a Service `loom`, which a node ignores.
const isNumber = port !== undefined && /^\d{1,5}$/.test(port);
const fault = await findLiveFault(
  host === undefined || host === '' ? '127.0.0.1' : host,
  isNumber ? Number(port) : 8787,
);

process.stdout.write(fault === undefined ? 'live\n' : `not live: ${fault}\n`);
process.exitCode = fault === undefined ? 0 : 1;
