import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { droppedScratchSchema } from '../../domain/state.ts';
import type { Store } from '../../domain/store.ts';
import { jsonAnswer, type Operation } from '../openapi/operation.ts';
import { assertScratchKey } from '../request/scratch-key.ts';
import { dataRoute } from '../route-config.ts';

const dropScratch = {
  id: 'dropScratch',
  summary: 'Drops a scratch state',
  path: {
    state_key: z
      .string()
      .describe('Name of the scratch state')
      .meta({ examples: ['trial'] }),
  },
  answers: jsonAnswer(droppedScratchSchema, 'The scratch state is gone.'),
  codes: ['scratch_not_found', 'restore_in_progress', 'commit_outcome_unknown'],
} satisfies Operation;

export function registerScratch(app: FastifyInstance, { store }: { store: Pick<Store, 'dropScratch'> }): void {
  app.delete<{ Params: { state_key: string } }>(
    '/v1/admin/persistence/scratch/:state_key',
    dataRoute('admin', dropScratch),
    async ({ params }) => {
      assertScratchKey(params.state_key);
      return await store.dropScratch(params.state_key);
    },
  );
}
