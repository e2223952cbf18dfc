import { afterAll, beforeAll, expect, it } from 'vitest';
import { findRedefinitions, pinSearchPath, readDefinitions } from '../../../src/persistence/schema/definitions.ts';
import { knownDefinitions } from '../../../src/persistence/schema/known-definitions.ts';
import { functionNames } from '../../../src/persistence/schema/objects.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

const look = () =>
  database.door().transaction('read', async (connection) => {
    const shadowed = await pinSearchPath(connection);
    return { shadowed, redefined: await findRedefinitions(connection), ...(await readDefinitions(connection)) };
  });

it('knows the definitions that the migrations create. After a migration, copy them from this failure', async () => {
  const { definitions, shadowed, redefined } = await look();
  expect(definitions).toEqual(knownDefinitions);
  expect({ shadowed, redefined }).toEqual({ shadowed: [], redefined: [] });
});

it('covers every function of LOOM', () => {
  const names = Object.keys(knownDefinitions).map((object) => /^function (\w+)\(/.exec(object)?.[1]);
  expect(new Set(names.filter((name) => name !== undefined))).toEqual(new Set(functionNames));
});
