import type { FastifyInstance } from 'fastify';
import type { Store } from '../../domain/store.ts';
import { assertScratchKey } from '../request/scratch-key.ts';
import { dataRoute } from '../route-config.ts';

export function registerScratch(app: FastifyInstance, { store }: { store: Pick<Store, 'dropScratch'> }): void {
  app.delete<{ Params: { state_key: string } }>(
    '/v1/admin/persistence/scratch/:state_key',
    dataRoute('admin'),
    async ({ params }) => {
      assertScratchKey(params.state_key);
      return await store.dropScratch(params.state_key);
    },
  );
}
