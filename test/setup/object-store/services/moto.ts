import type { LocalService } from './local-service.ts';

/** The server of moto, which imitates many rules of AWS in memory. It checks no signature. */
export const moto: LocalService = {
  name: 'moto',
  programs: ['moto_server'],
  packages: 'moto[server] from PyPI',
  checksKeys: false,
  datesUploads: false,
  hasPolicies: true,
  hasLocks: true,
  start: async ({ launch, port }) => {
    launch('moto_server', ['-H', '127.0.0.1', '-p', String(port)]);
    return { accessKeyId: 'loom-test', secretAccessKey: 'loom-test-secret' };
  },
};
