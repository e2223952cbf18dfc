// Room `node`: LOOM for tests, from a store without HTTP to the built program in a process of its own.

import { createTestDatabase, type TestDatabase } from '../server/database.ts';
import { openTestStore, type TestStore, type TestStoreOptions } from './store.ts';

export interface TestNodes {
  database: TestDatabase;
  nodes: TestStore[];
  /** The first node. */
  node: TestStore;
  /** Returns the node at `index` modulo the number of nodes, to spread a load over them. */
  at(index: number): TestStore;
  close(): Promise<void>;
}

/** Opens the stores of several nodes with the same state key on one empty database. */
export async function openNodes(count = 1, options: TestStoreOptions = {}): Promise<TestNodes> {
  const database = await createTestDatabase();
  const node = await openTestStore(database.url, options);
  const nodes = [node];
  while (nodes.length < count) nodes.push(await openTestStore(database.url, options));
  return {
    database,
    nodes,
    node,
    at: (index) => nodes[index % nodes.length] ?? node,
    close: async () => {
      await Promise.all(nodes.map((one) => one.close()));
      await database.drop();
    },
  };
}

/** Returns `made` if the promise resolves, else the code of its error. */
export async function outcomeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'made';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

/** Counts how often each word occurs. */
export function tally(words: string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const word of words) counts[word] = (counts[word] ?? 0) + 1;
  return counts;
}
