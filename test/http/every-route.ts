import { RUN_ID, STORED_NAME } from '../setup/backups/fake-stored-backups.ts';
import { asAdmin, mergePatch, type TestResponse, type TestServer } from '../setup/node/http.ts';

type Step = [method: 'GET' | 'PUT' | 'PATCH' | 'DELETE' | 'POST', url: string, body?: string];

/** Describes a request with the admin token, and the route that serves it, such as `PUT /v1/documents/:name`. */
export interface Call {
  route: string;
  url: string;
  send(): Promise<TestResponse>;
}

/**
 * Returns at least one successful call of every route, to be sent in this order. One of them deletes the document
 * `deleted`, if it exists. A new route needs a call here: a test compares the calls with the server's routes.
 */
export async function callsOfEveryRoute(server: TestServer, deleted = 'none'): Promise<Call[]> {
  const backup = (await server.request('GET', '/v1/admin/persistence/backup', { headers: asAdmin })).text;
  const restore = `{"confirm":"restore","truncate_audit":false,"backup":${backup}}`;
  const steps: Step[] = [
    ['PUT', '/v1/documents/shared', '{"mine":1}'],
    ['PATCH', '/v1/documents/shared', '{"mine":2}'],
    ['PATCH', '/v1/state', `{"${deleted}":null,"own":1}`],
    ['GET', '/v1/state'],
    ['GET', '/v1/documents'],
    ['GET', '/v1/documents/shared'],
    ['GET', '/v1/documents/shared/history'],
    ['GET', '/v1/audit?limit=1000'],
    ['GET', '/v1/audit/verify'],
    ['GET', '/v1/admin/status'],
    ['GET', '/v1/admin/persistence/schema'],
    ['GET', '/v1/admin/persistence/backup'],
    ['GET', '/v1/admin/backups'],
    ['POST', '/v1/admin/backups'],
    ['GET', '/v1/admin/backups/runs'],
    ['GET', `/v1/admin/backups/runs/${RUN_ID}`],
    ['GET', `/v1/admin/backups/${STORED_NAME}`],
    ['POST', `/v1/admin/backups/${STORED_NAME}/drill`],
    ['DELETE', `/v1/admin/backups/${STORED_NAME}`, '{"confirm":"delete"}'],
    ['GET', '/openapi.json'],
    ['GET', '/metrics'],
    ['GET', '/ready'],
    ['GET', '/live'],
    ['PUT', '/v1/state', '{"shared":1}'],
    ['DELETE', '/v1/documents/shared'],
    ['POST', '/v1/admin/persistence/restore', restore],
    ['POST', '/v1/admin/persistence/undo', '{"confirm":"undo"}'],
    ['POST', '/v1/admin/persistence/restore', restore.replace('{', '{"into_scratch":"trial",')],
    ['GET', '/v1/audit/verify?scratch=trial'],
    ['DELETE', '/v1/admin/persistence/scratch/trial'],
  ];
  return steps.map(([method, url, body]) => ({
    route: `${method} ${patternOf(url)}`,
    url,
    send: () => {
      const headers = { ...asAdmin, ...(method === 'PATCH' ? mergePatch : {}) };
      return server.request(method, url, { headers, ...(body === undefined ? {} : { body }) });
    },
  }));
}

function patternOf(url: string): string {
  return url
    .replace(/\?.*/, '')
    .replace('documents/shared', 'documents/:name')
    .replace('trial', ':state_key')
    .replace(RUN_ID, ':id')
    .replace(STORED_NAME, ':name');
}
