// Room `fuzz`: requests and backups made from their descriptions and spoiled, and the checks of the answers. It may
// import `backup`, `node` and `values`.

import { readFileSync } from 'node:fs';

/** Describes a value, as JSON Schema does. Only the members that the generator uses are listed. */
export interface Schema {
  $ref?: string;
  anyOf?: Schema[];
  const?: unknown;
  enum?: unknown[];
  type?: string;
  format?: string;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  items?: Schema;
  examples?: unknown[];
  default?: unknown;
}

export interface Parameter {
  name: string;
  in: 'path' | 'query' | 'header';
  schema: Schema;
}

/** Describes one method of one path. */
export interface Operation {
  method: string;
  /** With parameters in braces. */
  path: string;
  token: 'none' | 'client' | 'metrics' | 'admin';
  parameters: Parameter[];
  body?: { mediaTypes: string[]; schema: Schema; examples: unknown[] };
}

interface DescribedOperation {
  'x-loom-token': Operation['token'];
  parameters: (Parameter & { $ref?: string })[];
  requestBody?: { content: Record<string, { schema: Schema; examples: Record<string, { value: unknown }> }> };
}

interface Description {
  paths: Record<string, Record<string, DescribedOperation>>;
  components: { parameters: Record<string, Parameter>; schemas: Record<string, Schema> };
}

const description: Description = JSON.parse(
  readFileSync(new URL('../../../docs/openapi.json', import.meta.url), 'utf8'),
);

/** Lists all operations of docs/openapi.json. */
export const operations: readonly Operation[] = Object.entries(description.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, described]) => toOperation(path, method.toUpperCase(), described)),
);

function toOperation(path: string, method: string, described: DescribedOperation): Operation {
  const contents = Object.entries(described.requestBody?.content ?? {});
  const [, first] = contents[0] ?? [];
  const mediaTypes = contents.map(([type]) => type);
  return {
    method,
    path,
    token: described['x-loom-token'],
    parameters: described.parameters.map((one) => {
      const shared = one.$ref?.split('/').at(-1);
      return (shared === undefined ? one : description.components.parameters[shared]) ?? one;
    }),
    ...(first === undefined
      ? {}
      : {
          body: { mediaTypes, schema: first.schema, examples: Object.values(first.examples).map((one) => one.value) },
        }),
  };
}

/** Follows a reference. */
export function resolve(schema: Schema): Schema {
  const name = schema.$ref?.split('/').at(-1);
  return name === undefined ? schema : (description.components.schemas[name] ?? {});
}
