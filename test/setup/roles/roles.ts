// Room `roles`: the roles of docs/roles.sql. With LOOM_TEST_ROLES=1, nodes of the tests connect as the serving role.

import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Pool } from 'pg';
import { inject } from 'vitest';
import { isTestWorker } from '../depth.ts';

const text = await readFile(new URL('../../../docs/roles.sql', import.meta.url), 'utf8');
const PASSWORD = 'secret';

/** Begins the names of databases that have no roles, because a test migrates them itself. */
export const UNPREPARED = 'empty_';

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
      for (const name of Object.values(names)) await pool.query(`alter role ${name} password '${PASSWORD}'`);
    },
    as: (role, url) => withRole(url, names[role]),
    drop: async () => {
      for (const name of Object.values(names)) await pool.query(`drop owned by ${name} cascade; drop role ${name}`);
    },
  };
}

function withRole(url: string, name: string): string {
  return Object.assign(new URL(url), { username: name, password: PASSWORD }).href;
}

/** Whether nodes of the tests connect as the serving role, in databases with all migrations. */
export const usesRoles = process.env.LOOM_TEST_ROLES === '1';

/** Returns the URL with which a node connects: with the serving role, if `usesRoles` and `url` has the superuser. */
export function asServingRole(url: string): string {
  if (!usesRoles || !isTestWorker || !URL.canParse(url)) return url;
  const role = inject('servingRole');
  const { pathname, username } = new URL(url);
  const prefix = `/${inject('databasePrefix')}`;
  const isPrepared = pathname.startsWith(prefix) && !pathname.startsWith(`${prefix}${UNPREPARED}`);
  const isSuperuser = username === new URL(inject('serverUrl')).username;
  return role !== undefined && isPrepared && isSuperuser ? withRole(url, role) : url;
}

/** Returns the URL with which a node connects as the owner of the tables, to do what the serving role may not. */
export function asOwner(url: string): string {
  const role = usesRoles ? inject('ownerRole') : undefined;
  return role === undefined ? url : withRole(url, role);
}
