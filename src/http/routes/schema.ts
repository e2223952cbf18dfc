import type { FastifyInstance } from 'fastify';
import type { RouteContext } from '../context.ts';
import { operatorRoute } from '../route-config.ts';
import { createTimedReader } from '../timed-reader.ts';

export function registerSchema(app: FastifyInstance, { store, config, node }: RouteContext): void {
  const readSchema = createTimedReader(() => store.readSchema());

  app.get('/v1/admin/persistence/schema', operatorRoute('admin'), async () => {
    const schema = await readSchema();
    return {
      backend: 'postgres',
      state_key: config.postgres.stateKey,
      initialized: schema.initialized,
      schema_version: schema.schemaVersion,
      supported_schema_version: node.supportedSchemaVersion,
      compatible_from: schema.compatibleFrom,
      instance_id: schema.instanceId,
      applied: schema.applied,
      pending: schema.pending,
    };
  });
}
