import { type AddressInfo, connect, createServer } from 'node:net';
import { Client } from 'pg';
import { expect, test } from 'vitest';
import { openDatabase } from '../../../src/persistence/connection/database.ts';
import { testConfig } from '../../setup/node/config.ts';
import { captureLog } from '../../setup/node/log.ts';
import { createEmptyDatabase } from '../../setup/server/database.ts';

test('a reset also closes the connections that open meanwhile: they may lead to the server that is away', async () => {
  const database = await createEmptyDatabase();
  const { host, port } = new Client(database.url);
  let opened = 0;
  const counting = createServer((client) => {
    opened += 1;
    const upstream = connect(port, host);
    client.pipe(upstream).pipe(client);
    for (const socket of [client, upstream]) socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => counting.listen(0, '127.0.0.1', resolve));
  const url = new URL(database.url);
  url.host = `127.0.0.1:${(counting.address() as AddressInfo).port}`;
  const counted = openDatabase(testConfig(url.href).postgres, {
    log: captureLog().log,
    applicationName: 'loom door test',
  });
  try {
    const opening = counted.withConnection((connection) => connection.execute('select 1'));
    await expect.poll(() => opened, { interval: 1 }).toBe(1);
    counted.reset();
    await opening;
    expect(opened).toBe(2);
  } finally {
    await counted.close({ deadlineMs: 1_000 });
    counting.close();
    await database.drop();
  }
});
