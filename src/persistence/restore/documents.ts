import type { DocumentCounts, DocumentNames } from '../../domain/backup.ts';
import { limits } from '../../limits.ts';
import type { Queries } from '../connection/connection.ts';

export interface DocumentsPlan {
  counts: DocumentCounts;
  names: DocumentNames;
}

export const NO_DOCUMENTS: DocumentsPlan = {
  counts: { added: 0, changed: 0, removed: 0, unchanged: 0 },
  names: { added: [], changed: [], removed: [], truncated: false },
};

/**
 * Plans the changes that make the live documents equal to the staged ones. Stages their names in `loom_stage_change`
 * for `keepDocuments` and `applyDocuments`.
 */
export async function planDocuments(queries: Queries, stateKey: string): Promise<DocumentsPlan> {
  await queries.execute('truncate loom_stage_change');
  const row = await queries.firstRow<{ unchanged: number }>(
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
  return readStagedChanges(queries, row?.unchanged ?? 0);
}

/** Counts the staged changes, and lists up to `limits.maxPlanNames` names of each kind. */
export async function readStagedChanges(queries: Queries, unchanged: number): Promise<DocumentsPlan> {
  await queries.execute('analyze loom_stage_change');
  const rows = await queries.rows<{ kind: 'added' | 'changed' | 'removed'; count: number; names: string[] }>(
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
 * Selects the revision of a written document: the one that the trail gives its last change, if that has the document's
 * digest. Then the trail alone already leads to the document. Otherwise it is `$2`, the revision of the operation.
 */
const REVISION = `case when t.sha256 = s.sha256 and t.revision between 1 and $2 then t.revision else $2 end`;

/**
 * Applies the staged changes with the values of the staged documents. Equal documents are not rewritten; if the trail
 * gives their last change another revision, they get that. `updated_at` is the time of the statement, because the
 * transaction began before the body arrived. Call it after `stageLastChanges`.
 */
export async function applyDocuments(queries: Queries, stateKey: string, revision: number): Promise<void> {
  await queries.execute(
    `delete from loom_document d using loom_stage_change c
      where d.state_key = $1 and d.name = c.name and c.kind = 'removed'`,
    [stateKey],
  );
  // Commits wait for this statement. An upsert would derive digest and size of each changed document twice.
  await queries.execute(
    `with changed as (
       update loom_document d set value = s.value, revision = ${REVISION}, updated_at = statement_timestamp()
         from loom_stage_document s join loom_stage_change c using (name) left join loom_stage_last t using (name)
        where d.state_key = $1 and d.name = s.name and c.kind = 'changed'
     )
     insert into loom_document (state_key, name, value, revision, updated_at)
     select $1, s.name, s.value, ${REVISION}, statement_timestamp()
       from loom_stage_document s join loom_stage_change c using (name) left join loom_stage_last t using (name)
      where c.kind = 'added'`,
    [stateKey, revision],
  );
  await queries.execute(
    `update loom_document d set revision = t.revision
       from loom_stage_last t
      where d.state_key = $1 and d.name = t.name and d.sha256 = t.sha256 and d.revision <> t.revision
        and t.revision between 1 and $2`,
    [stateKey, revision],
  );
}
