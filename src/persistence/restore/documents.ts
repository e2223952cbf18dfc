import type { PoolClient } from 'pg';
import type { DocumentCounts, DocumentNames } from '../../domain/backup.ts';
import { limits } from '../../limits.ts';

export interface DocumentsPlan {
  counts: DocumentCounts;
  names: DocumentNames;
}

export const NO_DOCUMENTS: DocumentsPlan = {
  counts: { added: 0, changed: 0, removed: 0, unchanged: 0 },
  names: { added: [], changed: [], removed: [], truncated: false },
};

/** What making the live documents exactly the staged ones would change; the names are staged for `keepDocuments` and `applyDocuments`. */
export async function planDocuments(client: PoolClient, stateKey: string): Promise<DocumentsPlan> {
  await client.query('truncate loom_stage_change');
  const { rows } = await client.query<{ unchanged: number }>(
    `with difference as materialized (
       select name, case when l.name is null then 'added' when s.name is null then 'removed'
                         when s.sha256 <> l.sha256 then 'changed' else 'unchanged' end as kind
         from (select name, sha256 from loom_stage_document) s
         full join (select name, sha256 from loom_document where state_key = $1) l using (name)
     ), staged as (
       insert into loom_stage_change (name, kind) select name, kind from difference where kind <> 'unchanged'
     )
     select count(*) as unchanged from difference where kind = 'unchanged'`,
    [stateKey],
  );
  return readStagedChanges(client, rows[0]?.unchanged ?? 0);
}

/** Counts, and names within bounds, of what stands in `loom_stage_change`. */
export async function readStagedChanges(client: PoolClient, unchanged: number): Promise<DocumentsPlan> {
  await client.query('analyze loom_stage_change');
  const { rows } = await client.query<{ kind: 'added' | 'changed' | 'removed'; count: number; names: string[] }>(
    `select kind, max(place) as count, array_agg(name order by name) filter (where place <= $1) as names
       from (select name, kind, row_number() over (partition by kind order by name) as place from loom_stage_change) placed
      group by kind`,
    [limits.maxPlanNames],
  );
  const counts = { added: 0, changed: 0, removed: 0, unchanged };
  const names: DocumentNames = { added: [], changed: [], removed: [], truncated: false };
  for (const { kind, count, names: listed } of rows) {
    counts[kind] = count;
    names[kind] = listed;
    names.truncated ||= count > limits.maxPlanNames;
  }
  return { counts, names };
}

/**
 * Makes the changes that are staged: values come from the staged documents, and those that are equal are not rewritten. Their time is
 * not that of the transaction, which began before the body had arrived.
 */
export async function applyDocuments(client: PoolClient, stateKey: string, revision: number): Promise<void> {
  await client.query(
    `delete from loom_document d using loom_stage_change c
      where d.state_key = $1 and d.name = c.name and c.kind = 'removed'`,
    [stateKey],
  );
  // An upsert would derive digest and size of each changed document twice, while commits wait.
  await client.query(
    `with changed as (
       update loom_document d set value = s.value, revision = $2, updated_at = statement_timestamp()
         from loom_stage_document s join loom_stage_change c using (name)
        where d.state_key = $1 and d.name = s.name and c.kind = 'changed'
     )
     insert into loom_document (state_key, name, value, revision, updated_at)
     select $1, s.name, s.value, $2, statement_timestamp()
       from loom_stage_document s join loom_stage_change c using (name)
      where c.kind = 'added'`,
    [stateKey, revision],
  );
}
