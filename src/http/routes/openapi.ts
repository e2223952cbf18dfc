import type { FastifyInstance } from 'fastify';
import { openApiSchema } from '../openapi/components.ts';
import { describeRoutes } from '../openapi/document.ts';
import { jsonAnswer, type Operation } from '../openapi/operation.ts';
import type { RouteTable } from '../plugins/route-table.ts';
import { sendJsonText } from '../reply/json.ts';
import { operatorRoute } from '../route-config.ts';

const readOpenApi = {
  id: 'readOpenApi',
  summary: 'Returns this document',
  answers: jsonAnswer(openApiSchema, 'The OpenAPI document of this node.'),
} satisfies Operation;

/**
 * Registers the route of the OpenAPI document. It needs a token: the document is a thousand times as large as a
 * request, and says which version the node has. Public routes tell neither.
 */
export function registerOpenApi(
  app: FastifyInstance,
  { routes, version }: { routes: RouteTable['routes']; version: string },
): void {
  let text: string | undefined;
  app.get('/openapi.json', operatorRoute('client', readOpenApi), (_request, reply) => {
    text ??= JSON.stringify(describeRoutes(routes(), version));
    return sendJsonText(reply, text);
  });
}
