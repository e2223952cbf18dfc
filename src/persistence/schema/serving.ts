import type { ProbeVerdict } from '../../domain/health/probe.ts';
import { tableRights } from './objects.ts';
import { judgeSchema } from './serves.ts';
import type { ServingFacts } from './serving-facts.ts';

export type ServingVerdict = Pick<ProbeVerdict, 'database' | 'schema' | 'reason' | 'detail'>;

export interface ServingRules {
  /** Schema version that this node supports. */
  supportedSchemaVersion: number;
  /** Whether the node has seen the state's row before. Otherwise it is about to create the row. */
  hadState: boolean;
}

/**
 * Returns what keeps a node from serving, the cause before its consequences: a read-only server cannot be migrated, and
 * a schema of another version lacks objects. The detail names objects and roles, so it is for the log and for
 * operators.
 */
export function judgeServing(facts: ServingFacts, rules: ServingRules): ServingVerdict {
  const schema = judgeSchema(facts.schemaVersion, facts.compatibleFrom, rules.supportedSchemaVersion);
  const isUnreadable = facts.schemaVersion === null && facts.rights.length > 0;
  const shown = isUnreadable ? 'unknown' : schema;
  if (facts.readOnly !== null)
    return { database: 'read_only', schema: shown, reason: 'db_read_only', detail: readOnlyDetails[facts.readOnly] };
  if (isUnreadable) return forbidden(facts, 'unknown');
  if (schema === 'ahead') return { database: 'ok', schema, reason: 'schema_ahead' };
  if (schema === 'behind' && !isDamaged(facts)) return { database: 'ok', schema, reason: 'schema_behind' };
  const missing = facts.schemaVersion === null ? [...facts.missing, 'row schema_version of loom_meta'] : facts.missing;
  if (missing.length > 0)
    return { database: 'ok', schema: 'damaged', reason: 'schema_damaged', detail: missingDetail(missing) };
  if (facts.rights.length > 0 || facts.filtered.length > 0) return forbidden(facts, schema);
  if (facts.state === 'absent' && !rules.hadState) return { database: 'ok', schema, reason: 'starting' };
  if (facts.state === 'absent' || facts.state === 'lost')
    return { database: 'ok', schema, reason: 'state_missing', detail: stateDetails[facts.state] };
  return { database: 'ok', schema };
}

const readOnlyDetails = {
  recovery:
    'The server is a standby, or a primary that was demoted. Point LOOM_PG_URL to the primary, or promote this server.',
  setting:
    'The server refuses writes because default_transaction_read_only is on. Turn it off for the server, the database and the role.',
};

const stateDetails = {
  absent:
    'The state has no row in loom_state, and no documents or audit entries. Restore a copy of the database, or restart the node to begin an empty state.',
  lost:
    'The state has no row in loom_state, but documents or audit entries remain. No node creates a new row over them. ' +
    'Find out what happened to it, then create it from what remains with docs/repair-state.sql.',
};

/** Returns whether LOOM's tables exist without the schema version. Without any table, the database is only new. */
function isDamaged({ schemaVersion, missing }: ServingFacts): boolean {
  const tables = Object.keys(tableRights);
  return schemaVersion === null && tables.some((table) => !missing.includes(`table ${table}`));
}

function missingDetail(missing: string[]): string {
  return `Objects of LOOM's schema are missing: ${missing.join(', ')}. Restore them from a copy of the database, or restore a backup into an empty database.`;
}

function forbidden({ rights, grants, filtered }: ServingFacts, schema: ProbeVerdict['schema']): ServingVerdict {
  const sentences: string[] = [];
  if (rights.length > 0)
    sentences.push(`The database role lacks ${rights.join(', ')}. Run as the owner: ${grants.join(' ')}`);
  if (filtered.length > 0)
    sentences.push(
      `Row-level security applies to the database role on ${filtered.join(', ')}, so rows can be hidden from LOOM. ` +
        'Disable it on these tables, or give the role BYPASSRLS.',
    );
  return { database: 'forbidden', schema, reason: 'db_forbidden', detail: sentences.join(' ') };
}
