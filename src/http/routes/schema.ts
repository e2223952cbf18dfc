import type { FastifyInstance } from 'fastify';
import { type SchemaReport, schemaReportSchema } from '../../domain/state.ts';
import type { Store } from '../../domain/store.ts';
import { gatedRoute } from '../openapi/codes.ts';
import { jsonAnswer, type Operation } from '../openapi/operation.ts';
import { operatorRoute } from '../route-config.ts';
import { createTimedReader } from '../timed-reader.ts';

const readSchemaReport = {
  id: 'readSchema',
  summary: 'Returns the schema of the database, and the versions that the node supports',
  answers: jsonAnswer(schemaReportSchema, 'The schema.'),
  codes: gatedRoute,
} satisfies Operation;

interface SchemaRouteParts {
  store: Pick<Store, 'readSchema'>;
  stateKey: string;
  supportedSchemaVersion: number;
}

export function registerSchema(app: FastifyInstance, parts: SchemaRouteParts): void {
  const readSchema = createTimedReader(() => parts.store.readSchema());

  app.get('/v1/admin/persistence/schema', operatorRoute('admin', readSchemaReport), async (): Promise<SchemaReport> => {
    const schema = await readSchema();
    return {
      backend: 'postgres',
      state_key: parts.stateKey,
      initialized: schema.initialized,
      schema_version: schema.schemaVersion,
      supported_schema_version: parts.supportedSchemaVersion,
      compatible_from: schema.compatibleFrom,
      instance_id: schema.instanceId,
      applied: schema.applied,
      pending: schema.pending,
    };
  });
}
