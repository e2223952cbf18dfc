-- Verifies the audit chain of one state in plain PostgreSQL, without LOOM:
--
--   psql "$LOOM_PG_URL" -f docs/verify-chain.sql
--
-- Returns one row: entries, ok, first_bad_seq (null if ok), and head_matches (true if the chain ends at the state row's head).
-- To check another state than "default", change the state key in the first line of the statement.
with wanted as (select 'default' as state_key),
linked as (
  select seq, hash, entry, event_id, idempotency_key, recorded_at, action,
         coalesce(lag(seq) over chain, 0) + 1 as expected_seq,
         sha256(coalesce(lag(hash) over chain, decode(repeat('00', 32), 'hex')) || convert_to(entry::text, 'UTF8')) as expected_hash
    from loom_audit join wanted using (state_key)
  window chain as (order by seq)
),
chain as (
  select count(*) as entries,
         coalesce(max(seq), 0) as last_seq,
         min(least(seq, expected_seq)) filter (
           where seq <> expected_seq
              or hash <> expected_hash
              or entry -> 'seq' is distinct from to_jsonb(seq)
              or entry ->> 'event_id' is distinct from event_id::text
              or entry ->> 'idempotency_key' is distinct from idempotency_key
              or entry ->> 'action' is distinct from action
              or entry ->> 'recorded_at' is distinct from
                 to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
         ) as first_bad_seq
    from linked
),
head as (
  select coalesce(max(audit_seq), 0) as seq,
         coalesce(bool_and(audit_seq = last_seq and audit_hash = coalesce(
           (select hash from linked order by seq desc limit 1), decode(repeat('00', 32), 'hex'))), false) as matches
    from chain left join (loom_state join wanted using (state_key)) on true
)
select entries,
       first_bad_seq is null and head.matches as ok,
       coalesce(first_bad_seq, case when head.matches then null
                                    when last_seq = head.seq then greatest(head.seq, 1)
                                    else least(last_seq, head.seq) + 1 end) as first_bad_seq,
       head.matches as head_matches
  from chain, head;
