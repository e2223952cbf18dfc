import { readFile } from 'node:fs/promises';
import pg from 'pg';

// Runs a file as `psql URL -f FILE` does, and prints each row as JSON. With it, the tests of the pages do not need
// psql.
const [url = '', , file = ''] = process.argv.slice(2);
const client = new pg.Client({ connectionString: url });
await client.connect();
const { rows } = await client.query(await readFile(file, 'utf8'));
for (const row of rows) console.log(JSON.stringify(row));
await client.end();
