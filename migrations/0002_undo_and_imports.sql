-- loom: compatible
-- Why: what a restore replaces is kept, so that it can be undone; and audit entries can be imported in one statement.
-- Locks: none that matter; every object is new. Nodes of version 1 go on serving; a restore that one of them makes cannot be undone.

-- One row for each restore or undo that is kept, named by its revision. What stands in the tables below is what it replaced.
create table loom_snapshot (
  state_key text collate "C" not null,
  revision bigint not null,
  event_id uuid not null,
  kind text not null check (kind in ('restore', 'undo')),
  taken_at timestamptz not null,
  previous_revision bigint not null,
  replaced_state boolean not null,
  documents bigint not null,
  audit_entries bigint not null,
  bytes bigint not null,
  -- Whether it replaced more than entries of other restores: one that is made again and again does not push out the first.
  substantial boolean not null,
  primary key (state_key, revision)
);

-- A document as it was; a null value says that there was none.
create table loom_snapshot_document (
  state_key text collate "C" not null,
  revision bigint not null,
  name text collate "C" not null,
  value jsonb,
  primary key (state_key, revision, name)
);

-- An audit entry that a restore has taken out of the trail.
create table loom_snapshot_audit (
  state_key text collate "C" not null,
  revision bigint not null,
  seq bigint not null,
  entry jsonb not null,
  hash bytea not null,
  primary key (state_key, revision, seq)
);

-- A scratch state belongs to the state whose node has made it: others do not see it.
-- Its row in loom_state is marked, too. (A column there would have had to wait for every backup under way, and commits for it.)
create table loom_scratch (
  state_key text collate "C" primary key,
  owner text collate "C" not null,
  created_at timestamptz not null default now()
);

-- The chain as an aggregate: over (order by seq) it gives each entry its hash, in one pass. p_start is the hash before the first.
create function loom_chain_step(p_hash bytea, p_start bytea, p_entry jsonb) returns bytea
language sql immutable parallel safe as $$
  select loom_chain_hash(coalesce(p_hash, p_start), p_entry)
$$;

create aggregate loom_chain_after(p_start bytea, p_entry jsonb) (sfunc = loom_chain_step, stype = bytea);
