import { readFile } from 'node:fs/promises';
import pg from 'pg';

// Does for the tests of the pages what `psql URL -f FILE` does for a reader, and prints each row as JSON. A machine that runs the
// tests need not have psql.
const [url = '', , file = ''] = process.argv.slice(2);
const client = new pg.Client({ connectionString: url });
await client.connect();
const { rows } = await client.query(await readFile(file, 'utf8'));
for (const row of rows) console.log(JSON.stringify(row));
await client.end();
