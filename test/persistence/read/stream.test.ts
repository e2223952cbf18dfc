import { once } from 'node:events';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openStream } from '../../../src/persistence/read/stream.ts';
import { rounds, seededRandom } from '../../setup/depth.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createEmptyDatabase();
});
afterAll(() => database.drop());

/** Streams far more than the buffers hold. Resolves with the body and the error that the stream ends with. */
async function openLargeStream(signal?: AbortSignal) {
  let onClose = (_error: unknown): void => undefined;
  const ended = new Promise<unknown>((resolve) => {
    onClose = resolve;
  });
  const { body } = await openStream(database.door(), {
    prepare: async () => undefined,
    write: async (connection, _head, sink) => {
      for await (const lines of connection.copyOut(`select repeat('x', 1000) from generate_series(1, 100000)`)) {
        await sink.write(Buffer.concat(lines));
      }
    },
    onClose,
    lane: 'client',
    ...(signal === undefined ? {} : { signal }),
  });
  return { body, ended };
}

it('blames the reader, and not the database, whenever the reader disconnects', async () => {
  const random = seededRandom('reader');
  for (let round = 0; round < rounds({ quick: 10, full: 100 }); round += 1) {
    const { body, ended } = await openLargeStream();
    for (let chunk = random.integer(0, 20); chunk > 0; chunk -= 1) {
      await once(body, 'readable');
      body.read();
    }
    body.destroy();
    expect(await ended).toMatchObject({ code: 'client_gone' });
  }
  expect(await database.door().firstRow('select 1 as one')).toEqual({ one: 1 });
  expect(database.door().usage()).toMatchObject({ waiting: 0 });
});

it('blames the reader when the request is aborted before or during the stream', async () => {
  const controller = new AbortController();
  const { body, ended } = await openLargeStream(controller.signal);
  await once(body, 'readable');
  controller.abort();
  expect(await ended).toMatchObject({ code: 'client_gone' });
  await expect(openLargeStream(controller.signal)).rejects.toMatchObject({ code: 'client_gone' });
});

it('blames the database when the connection breaks', async () => {
  const { body, ended } = await openLargeStream();
  await database.pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name = 'loom-test' and state = 'active'`,
  );
  body.resume();
  expect(await ended).toMatchObject({ code: 'database_unavailable' });
});
