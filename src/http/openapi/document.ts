import { z } from 'zod';
import { type ErrorCode, errorCodes } from '../../errors.ts';
import type { RegisteredRoute } from '../plugins/route-table.ts';
import { everyRoute, gatedRoute, servedRoute, tokenRoute } from './codes.ts';
import { components } from './components.ts';
import { type AnswerHeader, answerHeaders, everyAnswer, type RequestHeader, requestHeaders } from './headers.ts';
import type { Answer } from './operation.ts';

type Json = Record<string, unknown>;

const PROBLEM = 'application/problem+json';

const refTo = (kind: string, name: string): Json => ({ $ref: `#/components/${kind}/${name}` });

/**
 * Makes the OpenAPI document of the registered routes. It describes HEAD like GET, without the body. This takes some
 * milliseconds, so call it once.
 */
export function describeRoutes(routes: readonly RegisteredRoute[], version: string): Json {
  const schemas = convertComponents();
  const problems = createProblems();
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const path = route.url.replace(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: describeOperation(route, problems) };
  }
  return {
    openapi: '3.1.1',
    info: {
      title: 'LOOM',
      version,
      description:
        "Keeps an application's state in PostgreSQL: named JSON documents, a hash-chained audit trail, and a restore " +
        'that can be trusted. Later versions can add members to answers: ignore those that you do not know.',
    },
    servers: [{ url: '/', description: 'The node that serves this document' }],
    security: [],
    paths,
    components: {
      schemas,
      responses: problems.responses,
      headers: Object.fromEntries(
        Object.entries(answerHeaders).map(([name, schema]) => [name, describeHeader(name, schema)]),
      ),
      parameters: Object.fromEntries(
        Object.entries(requestHeaders).map(([name, schema]) => [name, parameter('header', name, schema)]),
      ),
      securitySchemes: {
        token: { type: 'apiKey', in: 'header', name: 'x-loom-admin-token', description: 'Carries any kind of token.' },
        bearer: { type: 'http', scheme: 'bearer', description: 'Carries any kind of token.' },
      },
    },
  };
}

function describeOperation(route: RegisteredRoute, problems: Problems): Json {
  const { method, operation, access } = route;
  const isHead = method === 'HEAD';
  const isPublic = access === 'none';
  const answers = Object.entries(operation.answers).map(([status, answer]) => [status, describeAnswer(answer, isHead)]);
  return {
    operationId: isHead ? `${operation.id}Head` : operation.id,
    summary: operation.summary,
    ...(operation.description === undefined ? {} : { description: operation.description }),
    security: isPublic ? [] : [{ token: [] }, { bearer: [] }],
    'x-loom-token': access,
    parameters: describeParameters(route),
    ...(operation.body === undefined ? {} : { requestBody: describeBody(operation.body) }),
    responses: { ...problems.refsTo(codesOf(route)), ...Object.fromEntries(answers) },
  };
}

function describeParameters({ operation, access }: RegisteredRoute): Json[] {
  const { path = {}, query = 'any', headers = [] } = operation;
  const common: RequestHeader[] = access === 'none' ? ['x-request-id'] : ['x-request-id', 'x-loom-actor'];
  return [
    ...Object.entries(path).map(([name, schema]) => parameter('path', name, schema)),
    ...(query === 'any' ? [] : Object.entries(query.shape)).map(([name, schema]) => parameter('query', name, schema)),
    ...[...headers, ...common].map((name) => refTo('parameters', name)),
  ];
}

/** A query parameter shows the type to which its schema converts the text. */
function parameter(place: 'path' | 'query' | 'header', name: string, schema: z.core.$ZodType): Json {
  const { schema: converted, ...more } = withDescription(convert(schema, 'output'));
  const required = !z.safeParse(schema, undefined).success;
  return { name, in: place, required: place === 'path' || (place === 'query' && required), ...more, schema: converted };
}

function describeBody({ mediaTypes, schema, examples }: NonNullable<RegisteredRoute['operation']['body']>): Json {
  const named = Object.entries(examples).map(([name, value]) => [name, { value }]);
  const content = { schema: componentOf(schema), examples: Object.fromEntries(named) };
  return { required: true, content: Object.fromEntries(mediaTypes.map((type) => [type, content])) };
}

function describeAnswer({ description, headers = [], content = {} }: Answer, isHead: boolean): Json {
  const types = Object.entries(content).map(([type, schema]) => [type, { schema: componentOf(schema) }]);
  return {
    description,
    headers: describeHeaders(headers),
    ...(isHead || types.length === 0 ? {} : { content: Object.fromEntries(types) }),
  };
}

function describeHeader(name: string, schema: z.ZodType): Json {
  return { required: everyAnswer.some((one) => one === name), ...withDescription(convert(schema)) };
}

function describeHeaders(headers: readonly AnswerHeader[]): Json {
  return Object.fromEntries([...everyAnswer, ...headers].map((name) => [name, refTo('headers', name)]));
}

function codesOf({ access, gated, operation }: RegisteredRoute): Set<ErrorCode> {
  return new Set<ErrorCode>([
    ...everyRoute,
    ...(access === 'none' ? [] : [...servedRoute, ...tokenRoute]),
    ...(gated ? gatedRoute : []),
    ...(operation.codes ?? []),
  ]);
}

/** Collects the problems of all operations. Operations with the same codes of a status share one. */
interface Problems {
  /** Maps names such as `Problem400` to answers. */
  responses: Record<string, Json>;
  /** Returns one reference for each status that the codes have. */
  refsTo(codes: ReadonlySet<ErrorCode>): Json;
}

function createProblems(): Problems {
  const responses: Record<string, Json> = {};
  const names = new Map<string, string>();
  const catalogue = errorCodes();

  function nameOf(status: number, codes: ErrorCode[]): string {
    const key = codes.join();
    const others = [...names.values()].filter((name) => name.startsWith(`Problem${status}`)).length;
    const name = names.get(key) ?? (others === 0 ? `Problem${status}` : `Problem${status}_${others + 1}`);
    names.set(key, name);
    return name;
  }

  return {
    responses,
    refsTo: (codes) => {
      const found = catalogue.filter(({ code }) => codes.has(code));
      const refs = [...new Set(found.map((one) => one.status))].map((status) => {
        const ofStatus = found.filter((one) => one.status === status);
        const name = nameOf(
          status,
          ofStatus.map(({ code }) => code),
        );
        responses[name] ??= describeProblem(status, ofStatus);
        return [status, refTo('responses', name)];
      });
      return Object.fromEntries(refs);
    },
  };
}

function describeProblem(status: number, found: { code: ErrorCode; title: string }[]): Json {
  const only = { properties: { status: { const: status }, code: { enum: found.map(({ code }) => code) } } };
  return {
    description: found.map(({ code, title }) => `\`${code}\`: ${title}.`).join(' '),
    headers: describeHeaders(headersOfProblem[status] ?? []),
    content: { [PROBLEM]: { schema: { allOf: [refTo('schemas', 'Problem'), only] } } },
  };
}

const headersOfProblem: Readonly<Record<number, readonly AnswerHeader[]>> = {
  401: ['www-authenticate'],
  409: ['retry-after'],
  412: ['etag'],
  429: ['retry-after'],
  503: ['retry-after'],
};

const namesOfComponents: ReadonlyMap<unknown, string> = new Map(
  Object.entries(components).map(([name, schema]) => [schema, name]),
);

function componentOf(schema: z.ZodType): Json {
  const name = namesOfComponents.get(schema);
  if (name === undefined) throw new Error('the schema of a body or answer is not in components.ts');
  return refTo('schemas', name);
}

/** Converts the schemas as clients send and receive them: defaults may be missing, and unknown members may come. */
function convertComponents(): Json {
  const registry = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(components)) registry.add(schema, { id });
  const uri = (id: string): string => `#/components/schemas/${id}`;
  const { schemas } = z.toJSONSchema(registry, { io: 'input', uri, override: simplify });
  return Object.fromEntries(Object.entries(schemas).map(([id, schema]) => [id, withoutIds(schema)]));
}

function convert(schema: z.core.$ZodType, io: 'input' | 'output' = 'input'): Json {
  return withoutIds(z.toJSONSchema(schema, { io, override: simplify }));
}

function withoutIds({ $schema: _, $id: __, ...schema }: Json): Json {
  return schema;
}

/** OpenAPI has the description of a parameter or header beside its schema. */
function withDescription({ description, ...schema }: Json): Json {
  return { ...(description === undefined ? {} : { description }), schema };
}

/** Removes what says nothing: the bounds of safe integers, and long patterns of formats that have a name. */
function simplify({ jsonSchema }: { jsonSchema: z.core.JSONSchema.BaseSchema }): void {
  if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
  if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
  if (jsonSchema.format === 'date-time' || jsonSchema.format === 'uuid') delete jsonSchema.pattern;
}
