import { throughPooler } from './pooled.ts';
import { asServingRole } from './roles.ts';

/** Returns the URL with which a node of the tests connects: see LOOM_TEST_ROLES and LOOM_TEST_PGBOUNCER. */
export function nodeUrl(url: string): string {
  return throughPooler(asServingRole(url));
}
