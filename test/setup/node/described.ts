import { readFileSync } from 'node:fs';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { completePrefix } from '../answers/prefix.ts';

/** Holds what a test received: a complete answer of a node. */
export interface Received {
  method: string;
  /** Path and query, as the node got them. */
  url: string;
  status: number;
  headers: Record<string, unknown>;
  text: string;
}

interface Described {
  $ref?: string;
  headers?: Record<string, unknown>;
  content?: Record<string, { schema: { allOf?: [object, { properties: { code: { enum: string[] } } }] } }>;
}

interface Document {
  paths: Record<string, Record<string, { operationId: string; responses: Record<string, Described> }>>;
  components: { headers: Record<string, { required: boolean }>; responses: Record<string, Described> };
}

const DOCUMENT = 'openapi.json';
/** The same schemas, for a value whose end is missing. */
const UNFINISHED = 'unfinished.json';
const PROBLEM = 'application/problem+json';
const NDJSON = 'application/x-ndjson';

const document: Document = JSON.parse(readFileSync(new URL('../../../docs/openapi.json', import.meta.url), 'utf8'));

/** Maps the paths to expressions. A path without a parameter comes first. */
const paths = Object.keys(document.paths)
  .toSorted((one, other) => one.split('{').length - other.split('{').length)
  .map((path) => ({ path, form: new RegExp(`^${path.replace(/[.]/g, '\\.').replace(/\{\w+\}/g, '[^/]+')}$`) }));

const ajv = new Ajv2020({ strict: false, validateSchema: false });
formats.default(ajv);
ajv.addSchema(closed(document) as object, DOCUMENT);
ajv.addSchema(withoutRequired(closed(document)) as object, UNFINISHED);

const validators = new Map<string, ValidateFunction>();

/**
 * Throws unless docs/openapi.json describes the answer: its status, its headers, and every member of its body. A client
 * ignores members that it does not know, but the tests find one that the document does not have.
 */
export function assertDescribed(answer: Received): void {
  const found = findDescribed(answer);
  if (found === undefined) assertProblem(answer);
  else assertBody(answer, found);
}

/** Checks the beginning of an answer whose rest was not sent or not recorded, as `assertDescribed` does. */
export function assertPartDescribed(answer: Received): void {
  const found = findDescribed(answer);
  if (found === undefined || answer.text === '' || answer.method === 'HEAD') return;
  const { schema, type } = schemaFor(answer, found);
  if (type === NDJSON) {
    for (const line of answer.text.split('\n').slice(0, -1)) assertValue(line, schema, found.where);
  } else if (type.endsWith('json')) {
    const fault = faultOf(schema, completePrefix(answer.text) ?? {}, UNFINISHED);
    if (fault !== undefined) throw new Error(`${found.where}: in the first ${answer.text.length} characters: ${fault}`);
  }
}

interface Found {
  described: Described;
  /** Place of the answer in the document. */
  at: string[];
  where: string;
}

/** Finds the answer in the document, and checks its headers. Returns undefined if no route has it. */
function findDescribed(answer: Received): Found | undefined {
  const { method, status } = answer;
  const path = pathOf(answer);
  const template = paths.find(({ form }) => form.test(path))?.path;
  const operation = template === undefined ? undefined : document.paths[template]?.[method.toLowerCase()];
  if (template === undefined || operation === undefined) return undefined;
  const where = `${method} ${template}, status ${status}`;
  const { $ref, ...own } = operation.responses[status] ?? {};
  const shared = $ref?.split('/').at(-1);
  const described = shared === undefined ? own : document.components.responses[shared];
  if (described?.headers === undefined) throw new Error(`${where}: the document does not have this status`);
  assertHeaders(answer.headers, described.headers, where);
  const at = ['paths', template, method.toLowerCase(), 'responses', String(status)];
  return { described, at: shared === undefined ? at : ['components', 'responses', shared], where };
}

/** Returns the path as the node routes it: decoded, neither `.` nor `..` is resolved, and `#` ends it. */
function pathOf({ url }: Received): string {
  const path = url.replace(/^https?:\/\/[^/?]*/i, '').split(/[?#]/, 1)[0] ?? '';
  try {
    return decodeURI(path);
  } catch {
    return path;
  }
}

/** Throws unless an answer without a route is a problem. */
function assertProblem(answer: Received): void {
  const { method, status, headers, text } = answer;
  const where = `${method} ${pathOf(answer)}, status ${status}`;
  if (status < 400) throw new Error(`${where}: the document does not have this route`);
  if (method === 'HEAD') return;
  if (mediaTypeOf(headers) !== PROBLEM) throw new Error(`${where}: the answer is not a problem`);
  assertProblemText(text, where);
}

/** Throws unless the text is a problem, of whatever route. */
export function assertProblemText(text: string, where = 'a problem'): void {
  assertValue(text, ['components', 'schemas', 'Problem'], where);
}

/** Throws unless one of the operations can send the code. No client gets `client_gone`. */
export function assertCodeDescribed(operationIds: string[], code: string): void {
  if (code === 'client_gone' || operationIds.some((id) => codesOf(id).has(code))) return;
  throw new Error(`${operationIds.join(', ')}: the document does not have the code ${code}`);
}

function codesOf(operationId: string): Set<string> {
  const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods));
  const responses = operations.find((one) => one.operationId === operationId)?.responses ?? {};
  const problems = Object.values(responses).map((one) => sharedBy(one)?.content?.[PROBLEM]?.schema.allOf?.[1]);
  return new Set(problems.flatMap((one) => one?.properties.code.enum ?? []));
}

/** Returns the answer to which an operation refers; undefined for an answer of its own. */
function sharedBy({ $ref }: Described): Described | undefined {
  return document.components.responses[$ref?.split('/').at(-1) ?? ''];
}

function assertHeaders(headers: Received['headers'], described: Record<string, unknown>, where: string): void {
  for (const [name, { required }] of Object.entries(document.components.headers)) {
    const value = headers[name];
    if (value === undefined && required) throw new Error(`${where}: the answer has no header ${name}`);
    if (value === undefined) continue;
    if (!Object.hasOwn(described, name)) throw new Error(`${where}: the document does not have the header ${name}`);
    const fault = faultOf(['components', 'headers', name, 'schema'], String(value));
    if (fault !== undefined) throw new Error(`${where}: header ${name}: ${fault}`);
  }
}

function assertBody(answer: Received, found: Found): void {
  const { method, text } = answer;
  if (found.described.content === undefined || method === 'HEAD') {
    if (text !== '') throw new Error(`${found.where}: the answer has a body`);
    return;
  }
  const { schema, type } = schemaFor(answer, found);
  if (type === NDJSON) for (const line of text.split('\n').filter(Boolean)) assertValue(line, schema, found.where);
  else if (type.endsWith('json')) assertValue(text, schema, found.where);
}

/** Returns the media type of an answer with a body, and the place of its schema. */
function schemaFor({ headers }: Received, { described, at, where }: Found): { schema: string[]; type: string } {
  const type = mediaTypeOf(headers);
  if (described.content === undefined) throw new Error(`${where}: the answer has a body`);
  if (!Object.hasOwn(described.content, type)) {
    throw new Error(`${where}: the document does not have the type "${type}"`);
  }
  return { schema: [...at, 'content', type, 'schema'], type };
}

function assertValue(text: string, schema: string[], where: string): void {
  const fault = faultOf(schema, JSON.parse(text));
  if (fault !== undefined) throw new Error(`${where}: ${fault}`);
}

/** Returns the first fault of a value, with its place in it. */
function faultOf(schema: string[], value: unknown, document = DOCUMENT): string | undefined {
  const place = schema.map((part) => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/');
  const pointer = `${document}#/${place}`;
  const validate = validators.get(pointer) ?? ajv.compile({ $ref: pointer });
  validators.set(pointer, validate);
  if (validate(value)) return undefined;
  const [{ instancePath, message, params } = { instancePath: '', message: '', params: {} }] = validate.errors ?? [];
  return `at "${instancePath}": ${message} ${JSON.stringify(params)}`;
}

function mediaTypeOf(headers: Received['headers']): string {
  return String(headers['content-type'] ?? '').split(';', 1)[0] ?? '';
}

/** Copies the document. Objects with named members have no others in the copy. */
function closed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(closed);
  if (typeof value !== 'object' || value === null) return value;
  const copy: Record<string, unknown> = Object.fromEntries(
    Object.entries(value).map(([name, one]) => [name, closed(one)]),
  );
  const isOpen = copy.type === 'object' && 'properties' in copy && !('additionalProperties' in copy);
  return isOpen ? { ...copy, additionalProperties: false } : copy;
}

/** Copies schemas, without the names of required members. */
function withoutRequired(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutRequired);
  if (typeof value !== 'object' || value === null) return value;
  const members = Object.entries(value).filter(([name, one]) => name !== 'required' || !Array.isArray(one));
  return Object.fromEntries(members.map(([name, one]) => [name, withoutRequired(one)]));
}
