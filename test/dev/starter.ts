import { startEmbeddedPostgres } from '../../src/dev/postgres.ts';

/**
 * Starts a server in its own process and waits, for tests that kill it. Prints one line of JSON when it is ready.
 * Usage: starter.ts <data directory> <persistent: true|false>.
 */
const [dataDirectory = '', persistent] = process.argv.slice(2);
const { pid, url } = await startEmbeddedPostgres({ dataDirectory, persistent: persistent === 'true' });
console.log(JSON.stringify({ pid, url }));
setInterval(() => undefined, 60_000);
