import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Pool } from 'pg';

const text = await readFile(new URL('../../../docs/roles.sql', import.meta.url), 'utf8');

/** The roles of `docs/roles.sql`, under names of their own: roles belong to the whole server. */
export interface TestRoles {
  owner: string;
  serve: string;
  read: string;
  /** Runs the file. */
  apply(): Promise<void>;
  /** Returns `url` with the name and password of a role. */
  as(role: 'owner' | 'serve' | 'read', url: string): string;
  drop(): Promise<void>;
}

export function createTestRoles(pool: Pool): TestRoles {
  const suffix = randomBytes(4).toString('hex');
  const names = { owner: `loom_owner_${suffix}`, serve: `loom_serve_${suffix}`, read: `loom_read_${suffix}` };
  const statements = text.replace(/\bloom_(owner|serve|read)\b/g, `loom_$1_${suffix}`);
  return {
    ...names,
    apply: async () => {
      await pool.query(statements);
      for (const name of Object.values(names)) await pool.query(`alter role ${name} password 'secret'`);
    },
    as: (role, url) => Object.assign(new URL(url), { username: names[role], password: 'secret' }).href,
    drop: async () => {
      for (const name of Object.values(names)) await pool.query(`drop owned by ${name} cascade; drop role ${name}`);
    },
  };
}
