import { parse } from 'libpg-query';

type Node = Record<string, unknown>;

/** Kinds of `alter table` that break nodes of the previous version: they remove something, or require a new value. */
const takingAlterations: Record<string, string> = {
  AT_DropColumn: 'drops a column',
  AT_DropConstraint: 'drops a constraint',
  AT_AlterColumnType: 'changes the type of a column',
  AT_SetNotNull: 'makes a column not null',
  AT_DropExpression: 'drops what a column is generated from',
  AT_DropIdentity: 'drops an identity',
  AT_DetachPartition: 'detaches a partition',
};

/** Statements that are always destructive. */
const takingStatements: Record<string, string> = {
  DropStmt: 'drops an object',
  DropOwnedStmt: 'drops objects',
  DropdbStmt: 'drops a database',
  DropRoleStmt: 'drops a role',
  DropTableSpaceStmt: 'drops a tablespace',
  TruncateStmt: 'truncates a table',
  RenameStmt: 'renames an object',
  AlterObjectSchemaStmt: 'moves an object',
  // The parser cannot see which statements these run.
  DoStmt: 'runs a block of code',
  CallStmt: 'calls a procedure',
};

/**
 * Finds the destructive statements of a migration with PostgreSQL's own grammar. Rejects when the SQL does not parse.
 * Ignores the bodies of functions, because they do not run during a migration.
 */
export async function destructiveStatements(sql: string): Promise<string[]> {
  const { stmts = [] } = await parse(sql);
  return stmts.flatMap(({ stmt }) => Object.entries({ ...stmt }).flatMap(([kind, node]) => judge(kind, asNode(node))));
}

/** Returns whether the SQL begins or ends a transaction itself. The runner puts each file into one. */
export async function controlsTransaction(sql: string): Promise<boolean> {
  const { stmts = [] } = await parse(sql);
  return stmts.some(({ stmt }) => 'TransactionStmt' in { ...stmt });
}

/** Returns the names of the tables that the SQL creates. */
export async function createdTables(sql: string): Promise<string[]> {
  const { stmts = [] } = await parse(sql);
  return stmts.flatMap(({ stmt }) => {
    const name = asNode(asNode(asNode(stmt).CreateStmt).relation).relname;
    return typeof name === 'string' ? [name] : [];
  });
}

function judge(kind: string, node: Node): string[] {
  const fault = takingStatements[kind];
  if (fault !== undefined) return [fault];
  switch (kind) {
    case 'DeleteStmt':
      return node.whereClause === undefined ? ['deletes every row'] : [];
    case 'UpdateStmt':
      return node.whereClause === undefined ? ['rewrites every row'] : [];
    case 'AlterTableStmt':
      return list(node.cmds).flatMap((command) => judgeAlteration(asNode(command.AlterTableCmd)));
    case 'AlterEnumStmt':
      return node.oldVal === undefined ? [] : ['renames a value'];
    default:
      return [];
  }
}

function judgeAlteration(command: Node): string[] {
  const fault = takingAlterations[String(command.subtype)];
  if (fault !== undefined) return [fault];
  if (command.subtype !== 'AT_AddColumn') return [];
  const kinds = list(asNode(asNode(command.def).ColumnDef).constraints).map((one) => asNode(one.Constraint).contype);
  const isFilled = ['CONSTR_DEFAULT', 'CONSTR_GENERATED', 'CONSTR_IDENTITY'].some((kind) => kinds.includes(kind));
  return kinds.includes('CONSTR_NOTNULL') && !isFilled ? ['adds a column that older nodes leave empty'] : [];
}

function list(value: unknown): Node[] {
  return Array.isArray(value) ? value.map(asNode) : [];
}

function asNode(value: unknown): Node {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
