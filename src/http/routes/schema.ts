import type { FastifyInstance } from 'fastify';
import type { Store } from '../../domain/store.ts';
import { operatorRoute } from '../route-config.ts';
import { createTimedReader } from '../timed-reader.ts';

interface SchemaRouteParts {
  store: Pick<Store, 'readSchema'>;
  stateKey: string;
  supportedSchemaVersion: number;
}

export function registerSchema(app: FastifyInstance, parts: SchemaRouteParts): void {
  const readSchema = createTimedReader(() => parts.store.readSchema());

  app.get('/v1/admin/persistence/schema', operatorRoute('admin'), async () => {
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
