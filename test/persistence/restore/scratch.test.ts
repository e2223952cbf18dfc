import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../src/limits.ts';
import { toScratchKey } from '../../../src/persistence/state/scratch-states.ts';
import { ensureState } from '../../../src/persistence/state/state-row.ts';
import type { ParsedBackup } from '../../setup/backup/chain.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { asOwner, usesRoles } from '../../setup/roles/roles.ts';
import { digestTables } from '../../setup/server/digest.ts';
import { verifyBySql } from '../../setup/server/verify-sql.ts';

let nodes: TestNodes;
let node: TestStore;
let backup: string;
beforeEach(async () => {
  nodes = await openNodes();
  node = nodes.node;
  await node.put('a', 1);
  await node.put('b/ü', { nested: ['x'] });
  backup = await node.backup();
  await node.put('a', 'later');
});
afterEach(() => nodes.close());

const digest = () => digestTables(nodes.database.pool);
const context = () => ({ requestId: 'test', signal: new AbortController().signal });

describe('a restore into a scratch state', () => {
  it('changes no row of the live state, is reported with its digest, and can be dropped', async () => {
    const { manifest, revision }: ParsedBackup = JSON.parse(backup);
    const [whole, own] = [await digest(), await digestTables(nodes.database.pool, 'default')];
    const report = await node.restore(backup, { into_scratch: 'trial' });
    expect(report).toMatchObject({
      documents: { added: 2, changed: 0, removed: 0, unchanged: 0 },
      audit: { adopted: 2, imported: 0, replaced: 0 },
      revision: revision + 1,
      based_on_revision: 0,
      scratch: { state_key: 'trial', state_sha256: manifest.state_sha256, audit_head: report.audit.head },
    });
    expect(await digestTables(nodes.database.pool, 'default')).toBe(own);
    const listed = { state_key: 'trial', documents: 2, audit_entries: 3 };
    expect(await node.store.readScratchStates()).toMatchObject([listed]);
    expect(await node.store.verifyAudit(context(), 'trial')).toMatchObject({
      ok: true,
      entries: 3,
      head: report.audit.head,
    });
    expect(await verifyBySql(nodes.database.pool, toScratchKey('trial'))).toMatchObject({ ok: true, entries: 3 });

    expect(await node.store.dropScratch('trial')).toEqual({
      dropped: true,
      state_key: 'trial',
      documents: 2,
      audit_entries: 3,
    });
    expect(await digest()).toBe(whole);
    await expect(node.store.verifyAudit(context(), 'trial')).rejects.toMatchObject({ code: 'scratch_not_found' });
  });

  it('reports the digest of its tables, not the one of the backup', async () => {
    await nodes.database.pool.query(`
      create function spoil() returns trigger language plpgsql as $$
        begin if new.state_key like '%trial' then new.value := '"spoiled"'; end if; return new; end $$;
      create trigger spoil before insert on loom_document for each row execute function spoil()`);
    const report = await node.restore(backup, { into_scratch: 'trial' });
    expect(report.scratch?.state_sha256).not.toBe(JSON.parse(backup).manifest.state_sha256);
  });

  it('as a dry run leaves nothing behind', async () => {
    const before = await digest();
    const plan = await node.restore(backup, { into_scratch: 'trial', dry_run: true });
    expect(plan).toMatchObject({ dry_run: true, documents: { added: 2 }, audit: { adopted: 2 } });
    expect(plan.scratch).toEqual({ state_key: 'trial', state_sha256: null, audit_head: null });
    expect(await digest()).toBe(before);
  });

  it('leaves nothing behind if the backup is refused', async () => {
    const before = await digest();
    const spoiled = backup.replace('"x"', '"y"');
    expect(spoiled).not.toBe(backup);
    await expect(node.restore(spoiled, { into_scratch: 'trial' })).rejects.toMatchObject({
      code: 'backup_digest_mismatch',
    });
    expect(await digest()).toBe(before);
  });

  it.each([
    [{ into_scratch: 'default' }, 'scratch_exists', '/into_scratch'],
    [{ into_scratch: 'taken' }, 'scratch_exists', '/into_scratch'],
    [{ into_scratch: '' }, 'invalid_restore_request', '/into_scratch'],
    [{ into_scratch: '..' }, 'invalid_restore_request', '/into_scratch'],
    [{ into_scratch: 'x'.repeat(limits.maxScratchKeyBytes + 1) }, 'invalid_restore_request', '/into_scratch'],
    [{ into_scratch: '\u001ftrial' }, 'invalid_restore_request', '/into_scratch'],
    [{ into_scratch: 7 }, 'invalid_restore_request', '/into_scratch'],
    [{ into_scratch: 'trial', replace_state: false }, 'invalid_restore_request', '/replace_state'],
    [{ into_scratch: 'trial', expect_revision: 3 }, 'invalid_restore_request', '/expect_revision'],
  ])('is refused with %j', async (options, code, pointer) => {
    await node.restore(backup, { into_scratch: 'taken' });
    const before = await digest();
    for (const dry_run of [true, false]) {
      await expect(node.restore(backup, { ...options, dry_run })).rejects.toMatchObject({ code, place: { pointer } });
    }
    expect(await digest()).toBe(before);
  });

  it('does not block a restore of the live state if into_scratch comes before the backup', async () => {
    const body = `{"confirm":"restore","into_scratch":"trial","backup":${backup}}`;
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    async function* slowly() {
      yield Buffer.from(body.slice(0, 100));
      await held;
      yield Buffer.from(body.slice(100));
    }
    const slow = node.restoreBody(Readable.from(slowly()));
    await expect.poll(() => node.store.observe().operations[0]?.bytes).toBe(100);
    expect(await node.restore(backup)).toMatchObject({ documents: { changed: 1 } });
    await expect(node.restoreBody(body)).rejects.toMatchObject({ code: 'restore_in_progress' });
    release();
    expect(await slow).toMatchObject({ scratch: { state_key: 'trial' } });
  });
});

describe('dropping a scratch state', () => {
  it('keeps the scratch states that a node of an older version, which served it, has made', async () => {
    await node.restore(backup, { into_scratch: 'trial' });
    const server = await serveAsBefore('trial');
    await server.restore(backup, { into_scratch: 'its own', accept_state_key: 'default' });
    await server.close();
    await expect(node.store.dropScratch('its own')).rejects.toMatchObject({ code: 'scratch_not_found' });
    await dropAsOwner('trial');
    expect(await node.store.readScratchStates()).toMatchObject([{ state_key: 'its own' }]);
    expect(await node.store.dropScratch('its own')).toMatchObject({ documents: 2 });
  });

  it('is refused while a node of an older version restores it, and in a database of a newer schema', async () => {
    await node.restore(backup, { into_scratch: 'trial' });
    const server = await serveAsBefore('trial');
    const holder = await nodes.database.pool.connect();
    try {
      await holder.query(`begin; select pg_advisory_xact_lock(hashtextextended('trial', ${0x72_65_73_74}))`);
      const before = await digest();
      await expect(node.store.dropScratch('trial')).rejects.toMatchObject({ code: 'restore_in_progress' });
      expect(await digest()).toBe(before);
      await holder.query('rollback');
      await nodes.database.pool.query(`update loom_meta set value = '99' where key = 'schema_compatible_from'`);
      await expect(node.store.dropScratch('trial')).rejects.toMatchObject({ code: 'schema_ahead' });
      expect(await node.store.readScratchStates()).toHaveLength(1);
    } finally {
      holder.release();
      await server.close();
    }
  });

  it('never drops another', async () => {
    const other = await openTestStore(nodes.database.url, { stateKey: 'other' });
    await other.put('theirs', 1);
    await other.close();
    const before = await digest();
    for (const key of ['default', 'other', 'nowhere']) {
      await expect(node.store.dropScratch(key)).rejects.toMatchObject({ code: 'scratch_not_found', status: 404 });
    }
    expect(await digest()).toBe(before);
  });

  it('is possible only for nodes of the state that it was made for', async () => {
    await node.restore(backup, { into_scratch: 'trial' });
    const other = await openTestStore(nodes.database.url, { stateKey: 'other' });
    try {
      expect(await other.store.readScratchStates()).toEqual([]);
      const notFound = { code: 'scratch_not_found' };
      await expect(other.store.dropScratch('trial')).rejects.toMatchObject(notFound);
      await expect(other.store.verifyAudit(context(), 'trial')).rejects.toMatchObject(notFound);
      await expect(other.restore(backup, { into_scratch: 'trial', accept_state_key: 'default' })).rejects.toMatchObject(
        {
          code: 'scratch_exists',
        },
      );
      expect(await node.store.readScratchStates()).toMatchObject([{ state_key: 'trial' }]);
    } finally {
      await other.close();
    }
  });

  it('removes the undo records of a node of an older version, which served it, and that node cannot drop it', async () => {
    const before = await digest();
    await node.restore(backup, { into_scratch: 'trial' });
    const inside = await serveAsBefore('trial');
    await inside.put('a', 2);
    await inside.restore(await inside.backup(), { truncate_audit: true });
    await expect(inside.store.dropScratch('trial')).rejects.toMatchObject({ code: 'scratch_not_found' });
    await inside.close();
    await dropAsOwner('trial');
    expect(await digest()).toBe(before);
  });
});

/** Stores a scratch state under its plain name, as older versions did. */
async function storeAsBefore(name: string): Promise<void> {
  const tables = ['loom_state', 'loom_document', 'loom_audit', 'loom_change', 'loom_scratch', 'loom_lineage'];
  const renamed = tables.map(
    (table) => `update ${table} set state_key = '${name}' where state_key = '${toScratchKey(name)}'`,
  );
  await nodes.database.pool.query(`begin; set local session_replication_role = replica; ${renamed.join(';')}; commit`);
}

/**
 * Drops a scratch state under a plain name. The serving role may not: to the database, its entries are those of a live
 * state.
 */
async function dropAsOwner(name: string) {
  const owner = await openTestStore(asOwner(nodes.database.url));
  try {
    if (usesRoles) await expect(node.store.dropScratch(name)).rejects.toMatchObject({ code: 'database_unavailable' });
    return await owner.store.dropScratch(name);
  } finally {
    await owner.close();
  }
}

/** Opens the store of a node of an older version, which serves the scratch state as its own. */
async function serveAsBefore(name: string): Promise<TestStore> {
  await storeAsBefore(name);
  const mark = (isScratch: boolean) =>
    nodes.database.pool.query('update loom_state set scratch = $2 where state_key = $1', [name, isScratch]);
  await mark(false);
  const server = await openTestStore(nodes.database.url, { stateKey: name });
  await mark(true);
  return server;
}

describe('the name of a scratch state as a state key', () => {
  it('gives a node a state of its own, which dropping the scratch state does not touch', async () => {
    await node.restore(backup, { into_scratch: 'trial' });
    const server = await openTestStore(nodes.database.url, { stateKey: 'trial' });
    try {
      expect(await server.state()).toEqual({});
      expect(await verify(server)).toMatchObject({ ok: true, entries: 0 });
      await server.put('own', 1);
      const own = await digestTables(nodes.database.pool, 'trial');
      expect(await node.store.verifyAudit(context(), 'trial')).toMatchObject({ ok: true, entries: 3 });
      expect(await node.store.readScratchStates()).toMatchObject([{ state_key: 'trial', documents: 2 }]);
      expect(await server.store.readScratchStates()).toEqual([]);
      expect(await node.store.dropScratch('trial')).toMatchObject({ state_key: 'trial', documents: 2 });
      expect(await digestTables(nodes.database.pool, 'trial')).toBe(own);
      await expect(node.store.dropScratch('trial')).rejects.toMatchObject({ code: 'scratch_not_found' });
      await expect(node.restore(backup, { into_scratch: 'trial' })).rejects.toMatchObject({ code: 'scratch_exists' });
      expect(await server.state()).toEqual({ own: 1 });
    } finally {
      await server.close();
    }
  });

  it.each(['x'.repeat(limits.maxScratchKeyBytes), 'ü/%'])('may be as long or odd as %s', async (name) => {
    await node.restore(backup, { into_scratch: name });
    const server = await openTestStore(nodes.database.url, { stateKey: name });
    try {
      await server.put('own', 1);
      expect(await node.store.dropScratch(name)).toMatchObject({ state_key: name, documents: 2 });
      expect(await server.state()).toEqual({ own: 1 });
    } finally {
      await server.close();
    }
  });
});

describe('a scratch state of an older version, stored under its plain name', () => {
  it('is listed, verified, exported and dropped, and its name cannot be taken again', async () => {
    const before = await digest();
    await node.restore(backup, { into_scratch: 'trial' });
    await storeAsBefore('trial');
    expect(await node.store.readScratchStates()).toMatchObject([{ state_key: 'trial', documents: 2 }]);
    expect(await node.store.verifyAudit(context(), 'trial')).toMatchObject({ ok: true, entries: 3 });
    expect(JSON.parse(await node.backup({ scratch: 'trial' })).state).toEqual(JSON.parse(backup).state);
    await expect(node.restore(backup, { into_scratch: 'trial' })).rejects.toMatchObject({ code: 'scratch_exists' });
    expect(await dropAsOwner('trial')).toMatchObject({ state_key: 'trial', documents: 2, audit_entries: 3 });
    expect(await digest()).toBe(before);
  });

  it('is not served by a node that starts with this name, and not changed by it', async () => {
    await node.restore(backup, { into_scratch: 'trial' });
    await storeAsBefore('trial');
    const before = await digest();
    const message = expect.stringContaining('set another LOOM_PG_STATE_KEY');
    await expect(ensureState(node.database, 'trial')).rejects.toMatchObject({ code: 'scratch_exists', message });
    expect(await digest()).toBe(before);
    await ensureState(node.database, 'default');
  });
});

describe('a backup of a scratch state', () => {
  it('has its documents and trail, names it, restores, and does not count as a backup of the live state', async () => {
    await node.restore(backup, { into_scratch: 'trial' });
    const exported = await node.takeBackup({ scratch: 'trial' });
    const parsed: ParsedBackup = JSON.parse(exported);
    expect(parsed).toMatchObject({
      state_key: 'trial',
      state: JSON.parse(backup).state,
      manifest: { audit_verified: true },
    });
    expect(parsed.audit_entries).toHaveLength(3);
    expect(await node.store.readHead()).toMatchObject({ lastBackupAt: null });
    expect(node.store.observe().lastChainCheck?.to_seq).not.toBe(3);
    expect(await node.restore(exported, { accept_state_key: 'trial' })).toMatchObject({ verified: true });
    await expect(node.backup({ scratch: 'nowhere' })).rejects.toMatchObject({ code: 'scratch_not_found' });
  });
});
