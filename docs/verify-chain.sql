-- Verifies the audit trail of one state in plain PostgreSQL, without LOOM, and compares the state with its trail:
--
--   psql "$LOOM_PG_URL" -f docs/verify-chain.sql
--
-- If you do not trust the search path of the role or the database, set PGOPTIONS='-c search_path=public,pg_temp', with the schema of
-- LOOM's tables. A redefined loom_fold could hide a wrong merge patch. GET /v1/audit/verify finds that.
--
-- Returns one row: entries, ok, first_bad_seq (null if every entry is valid), and head_matches (true if the chain ends at the state
-- row's head). mismatches is a list of everything else that does not match, each with its reason, the seq of the entry, the name of
-- the document or the event id of the undo record, and what differs: the digests that entries claim, the index of changes, documents,
-- the state row, undo records.
-- The trail tells documents from told_from_seq on: a node of an earlier version made a restore before. untold_documents counts those
-- that cannot be checked. The statement uses one function of LOOM: loom_fold, which applies merge patches. For a large trail, set
-- PGOPTIONS='-c jit=off': PostgreSQL would compile the statement for some seconds.
-- To check another state than "default", change the state key in the first line of the statement.
with wanted as (select 'default' as state_key),
linked as materialized (
  select seq, hash, expected_seq,
         seq <> expected_seq or hash <> expected_hash
           or entry -> 'seq' is distinct from to_jsonb(seq)
           or entry ->> 'event_id' is distinct from event_id::text
           or entry ->> 'idempotency_key' is distinct from idempotency_key
           or entry ->> 'action' is distinct from action
           or entry ->> 'recorded_at' is distinct from
              to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as is_bad,
         -- How the entry does not continue the one before, which left its revision and epoch in the state row. A row that
         -- docs/repair-state.sql has made has an epoch of ten hex digits.
         case when seq = expected_seq and (before_revision is distinct from last_revision or before_epoch <> last_epoch)
                and not (before_epoch is distinct from last_epoch
                         and coalesce((before_epoch #>> '{}') collate "C" ~ '^[0-9a-f]{10}$' and before_revision >= last_revision, false))
                and (action in ('document.put', 'document.patch', 'document.delete', 'state.put', 'state.patch', 'epoch',
                                'restore.changes', 'undo.changes')
                     or (last_action = 'audit.import' and action in ('audit.import', 'restore', 'undo')))
              then format('the entry shows that the state row had the revision %s and the epoch %s, and the entry before it has %s and %s',
                     before_revision, before_epoch, last_revision, coalesce(last_epoch, before_epoch)) end as broken
    from (select seq, hash, entry, event_id, idempotency_key, recorded_at, action,
                 coalesce(lag(seq) over chain, 0) + 1 as expected_seq,
                 case when action in ('document.put', 'document.patch', 'document.delete', 'state.put', 'state.patch')
                        then jsonb_path_query_first(entry, '$.revision - 1', '{}', true)
                      when action = 'epoch' then entry #> '{epoch_change,previous_revision}'
                      else entry -> 'revision' end as before_revision,
                 case when action = 'epoch' then entry #> '{epoch_change,previous_epoch}' else entry -> 'epoch' end as before_epoch,
                 case when seq = 1 then '0' else lag(entry -> 'revision') over chain end as last_revision,
                 lag(entry -> 'epoch') over chain as last_epoch,
                 lag(action) over chain as last_action,
                 sha256(coalesce(lag(hash) over chain, decode(repeat('00', 32), 'hex')) || convert_to(entry::text, 'UTF8')) as expected_hash
            from loom_audit join wanted using (state_key)
          window chain as (order by seq)) l
),
chain as (
  select count(*) as entries,
         coalesce(max(seq), 0) as last_seq,
         min(least(seq, expected_seq)) filter (where is_bad) as first_bad_seq
    from linked
),
head as (
  select coalesce(max(audit_seq), 0) as seq,
         coalesce(bool_and(audit_seq = last_seq and audit_hash = coalesce(
           (select hash from linked order by seq desc limit 1), decode(repeat('00', 32), 'hex'))), false) as matches
    from chain left join (loom_state join wanted using (state_key)) on true
),

-- The changes in the entries. "Told" are those with the digest of the document afterwards; older nodes wrote none.
elements as (
  select o.seq, e.place, e.change ->> 'name' as name, e.change ->> 'op' as op, o.revision as entry_revision,
         e.change -> 'revision' as revision,
         case when (e.change ->> 'sha256') collate "C" ~ '^[0-9a-f]{64}$' then decode(e.change ->> 'sha256', 'hex') end as claimed,
         case when e.change ->> 'op' = 'put' then sha256(convert_to((e.change -> 'value')::text, 'UTF8')) end as computed
    from (select a.seq, a.entry -> 'revision' as revision,
                 case when jsonb_typeof(a.entry -> 'changes') = 'array' then a.entry -> 'changes' end as changes
            from loom_audit a join wanted using (state_key) offset 0) o
   -- With the seq, PostgreSQL does not expect the same changes in many entries, and keeps none in memory.
   cross join lateral jsonb_array_elements(case when o.seq > 0 then o.changes end) with ordinality e (change, place)
   where jsonb_typeof(e.change -> 'name') = 'string' and octet_length(e.change ->> 'name') between 1 and 512
     and e.change ->> 'op' in ('put', 'merge', 'delete')
),
changes as materialized (
  select distinct on (name, seq) name collate "C" as name, seq, op,
         case when jsonb_typeof(revision) = 'number' and revision::text collate "C" ~ '^[0-9]{1,16}$' then revision::text::bigint
              when jsonb_typeof(entry_revision) = 'number' and entry_revision::text collate "C" ~ '^[0-9]{1,16}$'
                then entry_revision::text::bigint
              else 0 end as revision,
         case when op <> 'delete' then coalesce(claimed, computed) end as sha256,
         op = 'put' and claimed is not null and claimed is distinct from computed as is_wrong
    from elements order by name, seq, place desc
),

-- Restores and undos, and the changes that follow them. One of an older node does not say what it changed.
operations as materialized (
  select seq, split_part(action, '.', 1) as operation, action in ('restore', 'undo') as is_first,
         entry -> action ->> 'recorded_changes' as claimed, entry -> action -> 'undo_records' as undo_records,
         case when jsonb_typeof(entry -> 'changes') = 'array' then jsonb_array_length(entry -> 'changes') else 0 end as changes,
         action in ('restore', 'undo')
           and jsonb_typeof(entry -> (entry ->> 'action') -> 'recorded_changes') is distinct from 'number' as is_untold,
         action = 'restore' and (entry #> '{restore,adopted_entries}', entry #> '{restore,replaced_entries}')
           is distinct from ('0'::jsonb, '0'::jsonb) as is_rebase,
         action = 'undo' as is_undo, entry #> '{restore,replaced_state}' as replaced_state,
         entry #> array[action, 'previous_revision'] as before_revision, entry #> array[action, 'previous_epoch'] as before_epoch,
         entry #>> array[action, 'previous_head', 'hash'] as last_hash,
         case when (entry #>> array[action, 'previous_head', 'seq']) collate "C" ~ '^[0-9]{1,15}$'
              then (entry #>> array[action, 'previous_head', 'seq'])::bigint end as last_seq
    from loom_audit join wanted using (state_key)
   where action in ('restore', 'restore.changes', 'undo', 'undo.changes')
),
recorded as (
  select coalesce(first_seq, min(seq)) as seq, coalesce(max(claimed) filter (where is_first), '0') as claimed, sum(changes) as recorded,
         first_seq is null or max(seq) <> first_seq + count(*) - 1 or count(distinct operation) > 1 as is_misplaced
    from (select *, max(seq) filter (where is_first) over (order by seq) as first_seq from operations) o
   group by first_seq
),
untold as (
  select coalesce(array_agg(seq order by seq) filter (where is_untold and is_indexed), '{}') as seqs,
         coalesce(max(seq) filter (where is_untold and is_indexed), 0) as last_seq,
         coalesce(max(seq) filter (where is_first), 0) as last_operation,
         coalesce(max(seq) filter (where is_rebase), 0) as last_rebase
    from (select o.*, exists (select from loom_change c join wanted using (state_key) where c.name = '' and c.seq = o.seq) as is_indexed
            from operations o) o
),

-- Entries that continue another revision or epoch than the entry before them left: someone edited the state row. Entries before the last
-- restore that adopted or removed entries can come from a backup that LOOM did not make, so they may have any revision. An undo, and a
-- restore that did not replace the state, also tell what they found.
discontinued as (
  select seq, broken as detail from linked cross join untold where broken is not null and seq > last_rebase
  union all
  select o.seq, format('the entry shows that the state row had the revision %s and the epoch %s, and entry %s before it has %s and %s',
           o.before_revision, o.before_epoch, o.last_seq, p.revision, coalesce(p.epoch, o.before_epoch))
    from operations o cross join untold u
   cross join lateral (
     select '0'::jsonb as revision, null::jsonb as epoch where o.last_seq = 0
     union all
     select a.entry -> 'revision', a.entry -> 'epoch'
       from loom_audit a join wanted using (state_key) where a.seq = o.last_seq and encode(a.hash, 'hex') = o.last_hash) p
   where (o.is_undo or o.replaced_state = 'false') and o.seq >= u.last_rebase
     and (o.before_revision <> p.revision or o.before_epoch <> p.epoch)
     and not (o.before_epoch is distinct from p.epoch
              and coalesce((o.before_epoch #>> '{}') collate "C" ~ '^[0-9a-f]{10}$' and o.before_revision >= p.revision, false))
),

-- The index, row by row.
derived as (
  select name, seq, revision, op, sha256 from changes
  union all
  select '', seq, 0, 'unknown', null from operations where is_untold
),
unindexed as (
  select name, seq, case when i.op is null then 'has no row for' when d.op is null then 'has a row that no entry explains, for'
                         else 'has a row that differs from' end as how
    from derived d full join (select name, seq, revision, op, sha256 from loom_change join wanted using (state_key)) i using (name, seq)
   where (d.revision, d.op, d.sha256) is distinct from (i.revision, i.op, i.sha256)
),

-- Merges. A run is a change that does not depend on the document before, and the merges after it. PostgreSQL makes a full join in linear
-- time, however few rows it expects.
runs as (
  select *, count(*) filter (where not is_told) over (partition by name, era order by seq) as run
    from (select name, seq, op, sha256, op = 'merge' and sha256 is not null as is_told, width_bucket(seq, seqs) as era,
                 bool_or(op = 'merge' and sha256 is not null) over (partition by name) as has_merges
            from changes cross join untold
           where exists (select from changes where op = 'merge' and sha256 is not null)) listed
   where has_merges
),
needed as materialized (
  select *
    from (select name, seq, op, sha256, is_told, era, run, bool_or(is_told) over whole as has_merges,
                 case when run = 0 then era = 0 else first_value(op) over (whole order by seq) <> 'merge' end as is_known
            from runs window whole as (partition by name, era, run)) r
   where has_merges and is_known
),
unmerged as (
  select name, min(seq) as seq
    from (select j.*, loom_fold(op, value) over (partition by name, era, run order by seq) as document
            from (select *
                    from needed n
                    full join (select o.seq, e.change ->> 'name' as name, e.change -> 'value' as value
                                 from (select a.seq, a.entry -> 'changes' as changes
                                         from loom_audit a join wanted using (state_key)
                                        where exists (select from needed) offset 0) o
                                cross join lateral jsonb_array_elements(
                                  case when jsonb_typeof(o.changes) = 'array' and o.seq > 0 then o.changes end) e (change)
                                where jsonb_typeof(e.change -> 'name') = 'string'
                                  and e.change ->> 'op' in ('put', 'merge', 'delete')) v using (name, seq)
                  offset 0) j
           where op is not null) folded
   where is_told and sha256 is distinct from sha256(convert_to(document::text, 'UTF8'))
   group by name, era, run
),

-- Documents, and what the trail says last of each name.
documents as materialized (
  select name, revision, sha256 as stored_sha256, bytes as stored_bytes, sha256(text) as sha256, octet_length(text) as bytes
    from (select name, revision, sha256, bytes, convert_to(value::text, 'UTF8') as text
            from loom_document join wanted using (state_key) offset 0) printed
),
compared as materialized (
  select name,
         case when d.revision is null
                then case when l.seq > u.last_seq and l.op <> 'delete' then 'is missing: the audit trail has it, and no deletion of it' end
              when d.stored_sha256 <> d.sha256 or d.stored_bytes <> d.bytes
                then 'has a digest or size column that does not match its value'
              when l.seq is null then case when u.last_seq = 0 then 'exists, but the audit trail does not have it' end
              when l.seq <= u.last_seq then null
              when l.op = 'delete' then 'exists, but the audit trail does not have it'
              when l.sha256 <> d.sha256 then 'does not have the digest of its last change in the audit trail'
              when l.revision <> d.revision then 'does not have the revision of its last change in the audit trail' end as how,
         d.revision is not null and case when l.seq is null then u.last_seq > 0
                                         else l.seq <= u.last_seq or (l.op <> 'delete' and l.sha256 is null) end as is_untold
    from documents d
    full join (select distinct on (name) name, seq, revision, op, sha256 from changes order by name, seq desc) l using (name)
   cross join untold u
),
contradictions as (
  select case when s.documents <> d.documents then 'documents' end as documents,
         case when s.bytes <> d.bytes then 'bytes' end as bytes,
         case when s.revision::text is distinct from case when c.last_seq = 0 then '0' else e.entry ->> 'revision' end then 'revision' end
           as revision,
         case when c.last_seq > 0 and s.epoch is distinct from e.entry ->> 'epoch' then 'epoch' end as epoch
    from loom_state s join wanted using (state_key) cross join chain c
   cross join (select count(*) as documents, coalesce(sum(bytes), 0) as bytes from documents) d
    left join loom_audit e on e.state_key = wanted.state_key and e.seq = c.last_seq
),

-- Undo records, with the digest that docs/backup-format.md specifies: blocks of 4,096 items of 64 bytes.
items as (
  select revision, 'document' as kind, row_number() over (partition by revision order by name) as place,
         sha256(convert_to(name, 'UTF8'))
           || coalesce(sha256(convert_to(value::text, 'UTF8')), decode(repeat('00', 32), 'hex')) as item
    from loom_snapshot_document join wanted using (state_key)
  union all
  select revision, 'entry', row_number() over (partition by revision order by seq), hash || sha256(convert_to(entry::text, 'UTF8'))
    from loom_snapshot_audit join wanted using (state_key)
),
blocks as (
  select revision, kind, (place - 1) / 4096 as block, count(*) as items, sha256(string_agg(item, '' order by place)) as sha256
    from items group by 1, 2, 3
),
kept as (
  select revision, kind, sum(items) as items, encode(sha256(string_agg(sha256, '' order by block)), 'hex') as sha256
    from blocks group by 1, 2
),
named as (
  select place, name ->> 'event_id' as event_id, name ->> 'sha256' as sha256
    from untold u join operations o on o.seq = u.last_operation
   cross join lateral jsonb_path_query_array(o.undo_records, '$[*] ? (@.event_id.type() == "string")') n (list)
   cross join lateral jsonb_array_elements(n.list) with ordinality e (name, place)
),
records as (
  select s.event_id::text, s.substantial, n.event_id is not null as is_named, n.sha256 as named_sha256,
         to_char(s.taken_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as taken_at,
         exists (select from untold u join operations o on o.seq = u.last_operation
                  where jsonb_typeof(o.undo_records) = 'array') or u.last_operation = 0 as are_named,
         encode(sha256(convert_to(format('["%s","%s",%s,%s,%s,%s,%s,"%s","%s"]', s.kind, s.event_id, s.revision, s.previous_revision,
           s.replaced_state::text, s.documents, s.audit_entries, coalesce(d.sha256, encode(sha256(''), 'hex')),
           coalesce(e.sha256, encode(sha256(''), 'hex'))), 'UTF8')), 'hex') as sha256,
         s.documents = coalesce(d.items, 0) and s.audit_entries = coalesce(e.items, 0) as is_counted,
         case when s.documents > 0 or c.commits > 0 then s.substantial when c.changes > 0 then true else not s.substantial end as is_rated,
         coalesce(a.entry ->> 'recorded_at', (
           select max(k.entry ->> 'recorded_at') from loom_snapshot_audit k join wanted using (state_key)
            where k.entry ->> 'event_id' = s.event_id::text)) as recorded_at
    from loom_snapshot s join wanted using (state_key) cross join untold u
    left join kept d on d.revision = s.revision and d.kind = 'document'
    left join kept e on e.revision = s.revision and e.kind = 'entry'
    left join named n on n.event_id = s.event_id::text
    left join loom_audit a on a.state_key = wanted.state_key and a.event_id = s.event_id
   cross join lateral (
     select count(*) filter (where entry ->> 'action' not in ('restore', 'restore.changes', 'undo', 'undo.changes')) as commits,
            count(*) filter (where entry ->> 'action' in ('restore.changes', 'undo.changes')) as changes
       from loom_snapshot_audit k where k.state_key = wanted.state_key and k.revision = s.revision) c
),
damaged as (
  select event_id, case when are_named and not is_named then 'The audit trail does not name it.'
                        when named_sha256 <> sha256 then 'Its content does not match the digest in the audit trail.'
                        when recorded_at <> taken_at then 'Its time differs from that of its audit entry.'
                        when not is_rated then 'Its column "substantial" does not match what it keeps.' end as fault
    from records
  union all
  -- The last operation removes a record only if three newer substantial or ten newer empty ones are kept.
  select n.event_id, 'It is missing, and no later restore has replaced it.'
    from named n
   where not exists (select from records r where r.event_id = n.event_id)
     and (select count(*) from named o left join records r on r.event_id = o.event_id
           where o.place < n.place and r.substantial is not false) < 3
     and (select count(*) from named o join records r on r.event_id = o.event_id where o.place < n.place and not r.substantial) < 10
  union all
  select null, format('The record of revision %s is missing, and %s rows that it kept are there.', revision, sum(items))
    from kept where revision not in (select revision from loom_snapshot join wanted using (state_key)) group by revision
),

faults as (
  select 1 as place, 'digest_mismatch' as reason, seq, name as document, null as event_id,
         'the change does not make a document with the digest that it claims' as detail
    from (select name, seq from changes where is_wrong union all select name, seq from unmerged) w
  union all
  select 2, 'changes_mismatch', seq, null, null,
         format('the entry claims %s recorded changes, and the entries after it have %s', claimed, recorded)
    from recorded where is_misplaced or claimed <> recorded::text
  union all
  select 3, 'index_mismatch', seq, nullif(name, ''), null, format('the index of changes %s it', how) from unindexed
  union all
  select 4, 'document_mismatch', null, name, null, 'the document ' || how from compared where how is not null
  union all
  select 5, 'state_mismatch', null, null, null, format('the state row contradicts the trail or the documents: %s',
         concat_ws(', ', documents, bytes, revision, epoch))
    from contradictions where coalesce(documents, bytes, revision, epoch) is not null
  union all
  select 5, 'state_mismatch', seq, null, null, detail from discontinued
  union all
  select 6, 'undo_record_mismatch', null, null, event_id, concat_ws(': ', event_id, fault) from damaged where fault is not null
),
listed as (
  select count(*) as count, min(seq) filter (where place <= 2) as first_bad_seq,
         coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('reason', reason, 'seq', seq, 'document', document, 'event_id', event_id,
             'detail', detail))
           order by place, seq, document, event_id) filter (where number <= 100), '[]') as mismatches
    from (select *, row_number() over (partition by place order by seq, document, event_id) as number from faults) f
)
select entries,
       chain.first_bad_seq is null and head.matches and listed.count = 0 as ok,
       coalesce(chain.first_bad_seq, case when not head.matches and chain.last_seq = head.seq then greatest(head.seq, 1)
                                          when not head.matches then least(chain.last_seq, head.seq) + 1
                                          else listed.first_bad_seq end) as first_bad_seq,
       head.matches as head_matches,
       listed.count as mismatch_count,
       listed.mismatches,
       untold.last_seq + 1 as told_from_seq,
       (select count(*) from compared where is_untold) as untold_documents
  from chain, head, listed, untold;
