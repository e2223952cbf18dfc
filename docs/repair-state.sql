-- Repairs the row of one state in loom_state, after rows were changed by hand:
--
--   psql "$LOOM_PG_URL" -v ON_ERROR_STOP=1 -f docs/repair-state.sql
--
-- Counts the documents again. If the row itself is gone, creates it from the documents and the audit trail, with a new
-- epoch, so that no entity tag from before matches. Commits wait meanwhile. Changes no document and no audit entry, so
-- find out first what was lost. Run it as the owner of the tables.
-- To repair another state than "default", change the state key in the second statement.
begin;
select set_config('loom.state_key', 'default', true) as state_key;
set local row_security = off;
insert into loom_state (state_key, epoch, revision, audit_seq, audit_hash)
select wanted.state_key,
       substr(encode(sha256(convert_to(random()::text || clock_timestamp()::text, 'UTF8')), 'hex'), 1, 10),
       greatest(
         (select coalesce(max(revision), 0) from loom_document where state_key = wanted.state_key),
         (select coalesce(max(case when jsonb_typeof(entry -> 'revision') = 'number' then (entry -> 'revision')::bigint end), 0)
            from loom_audit where state_key = wanted.state_key)),
       coalesce(head.seq, 0),
       coalesce(head.hash, decode(repeat('00', 32), 'hex'))
  from (select current_setting('loom.state_key') as state_key) wanted
  left join lateral (
    select seq, hash from loom_audit where state_key = wanted.state_key order by seq desc limit 1
  ) head on true
 where exists (select from loom_document where state_key = wanted.state_key)
    or exists (select from loom_audit where state_key = wanted.state_key)
on conflict (state_key) do nothing;
select state_key from loom_state where state_key = current_setting('loom.state_key') for update;
update loom_state s
   set documents = found.documents, bytes = found.bytes
  from (select count(*) as documents, coalesce(sum(bytes), 0) as bytes
          from loom_document where state_key = current_setting('loom.state_key')) found
 where s.state_key = current_setting('loom.state_key')
returning s.epoch, s.revision, s.documents, s.bytes, s.audit_seq;
commit;
