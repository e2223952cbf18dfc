import { startEmbeddedPostgres } from '../../src/dev/postgres.ts';

/**
 * A process of its own that starts a server and waits, for tests that kill it.
 * Usage: starter.ts <data directory> <persistent: true|false>. Prints one line of JSON when the server is ready.
 */
const [dataDirectory = '', persistent] = process.argv.slice(2);
const { pid, url } = await startEmbeddedPostgres({ dataDirectory, persistent: persistent === 'true' });
console.log(JSON.stringify({ pid, url }));
setInterval(() => undefined, 60_000);
