import type { FastifyInstance } from 'fastify';
import { scratchKeyFault } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import type { RouteContext } from '../context.ts';
import { dataRoute } from '../route-config.ts';

export function registerScratch(app: FastifyInstance, { store }: RouteContext): void {
  app.delete<{ Params: { state_key: string } }>(
    '/v1/admin/persistence/scratch/:state_key',
    dataRoute('admin'),
    async (request) => {
      const stateKey = request.params.state_key;
      const fault = scratchKeyFault(stateKey);
      if (fault !== undefined) throw new LoomError('scratch_not_found', `There is none: a state key ${fault}.`);
      return { dropped: true, ...(await store.dropScratch(stateKey)) };
    },
  );
}
