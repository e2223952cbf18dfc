import { createTestDatabase, type TestDatabase } from '../server/database.ts';
import { openTestStore, type TestStore, type TestStoreOptions } from './store.ts';

export interface TestNodes {
  database: TestDatabase;
  nodes: TestStore[];
  /** The first of them. */
  node: TestStore;
  /** Node `index`, round and round: spreads a load over all. */
  at(index: number): TestStore;
  close(): Promise<void>;
}

/** Several nodes on one fresh database, all for one state key. */
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

/** What a promise came to: `made`, or the code that it was refused with. */
export async function outcomeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'made';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

/** How often each word occurs. */
export function tally(words: string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const word of words) counts[word] = (counts[word] ?? 0) + 1;
  return counts;
}
