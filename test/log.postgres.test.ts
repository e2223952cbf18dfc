import pg from 'pg';
import { expect, test } from 'vitest';
import { captureLog } from './setup/node/log.ts';
import { createEmptyDatabase } from './setup/server/database.ts';

const SECRET = 'hunter2-hunter2-hunter2';

test('an error of PostgreSQL is logged without the data that it quotes', async () => {
  const database = await createEmptyDatabase();
  await database.pool.query('create table account (name text, constraint account_name unique (name))');
  const insert = () => database.pool.query('insert into account values ($1)', [SECRET]);
  await insert();
  const error: unknown = await insert().catch((cause: unknown) => cause);
  await database.drop();
  expect(error instanceof pg.DatabaseError ? error.detail : '').toContain(SECRET);
  const captured = captureLog();
  captured.log.error({ err: error });
  expect(captured.text()).not.toContain('hunter2');
  expect(JSON.parse(captured.text()).err).toMatchObject({
    code: '23505',
    constraint: 'account_name',
    table: 'account',
  });
});
