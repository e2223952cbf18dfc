import { parseSelectedName, type SelectedName } from '../../backup/check/selection.ts';
import type { StateHead } from '../../domain/state.ts';
import { LoomError, shortText } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Queries } from '../connection/connection.ts';
import { type DocumentsPlan, readStagedChanges } from './documents.ts';

interface SelectedElement extends SelectedName {
  /** Place in the request, from 0. */
  index: number;
}

/** Describes the documents that a restore selects. Only these are left in `loom_stage_document`. */
export interface StagedSelection {
  names: string[];
  /** In byte order. No prefix begins with another one. */
  prefixes: string[];
  /** The elements of the request that select no document of the backup. */
  absent: SelectedElement[];
}

/** Is above every name with a prefix, once appended to the prefix: a name has no more than these bytes. */
const LAST_NAME = `repeat(chr(${0x10ffff}), ${limits.maxDocumentNameBytes / 4})`;

/** Selects name and digest of the selected live documents, where `$2` has the names and `$3` the prefixes. */
const SELECTED_LIVE = `
  select name, sha256 from loom_document where state_key = $1 and name = any ($2::text[])
   union
  select d.name, d.sha256
    from unnest($3::text[]) p (prefix) cross join lateral (
           select name, sha256 from loom_document
            where state_key = $1 and name >= p.prefix and name <= p.prefix || ${LAST_NAME}) d`;

/**
 * Removes what the request does not select from the staged documents. Call it when the whole backup has been checked,
 * and before the state row is locked: it reads each document of the backup.
 */
export async function selectStaged(queries: Queries, elements: readonly string[]): Promise<StagedSelection> {
  const selected = elements.map((element, index) => ({ index, ...parseSelectedName(element) }));
  const names = selected.filter(({ isPrefix }) => !isPrefix).map(({ text }) => text);
  const prefixes = shortestPrefixes(selected.filter(({ isPrefix }) => isPrefix).map(({ text }) => text));
  // Only the last prefix that is not above a name can be one of it, because no prefix begins with another one.
  await queries.execute(
    `delete from loom_stage_document
      where (name = any ($1::text[]) or starts_with(name, ($2::text[])[width_bucket(name, $2::text[])])) is not true`,
    [names, prefixes],
  );
  await queries.execute('create index on loom_stage_document (name)');
  await queries.execute('analyze loom_stage_document (name)');
  return { names, prefixes, absent: await elementsWithout(queries, 'loom_stage_document', selected) };
}

/** Sorts the prefixes in byte order, without those that begin with another one. */
function shortestPrefixes(prefixes: string[]): string[] {
  const sorted = prefixes.map((prefix) => Buffer.from(prefix)).sort(Buffer.compare);
  const shortest: string[] = [];
  for (const prefix of sorted.map(String)) {
    const last = shortest.at(-1);
    if (last === undefined || !prefix.startsWith(last)) shortest.push(prefix);
  }
  return shortest;
}

/** Returns the elements that select none of the names in `rows`, an SQL table or subquery with an index on `name`. */
async function elementsWithout(
  queries: Queries,
  rows: string,
  elements: SelectedElement[],
): Promise<SelectedElement[]> {
  const found = await queries.rows<{ place: number }>(
    `select place from unnest($1::text[], $2::boolean[]) with ordinality e (text, is_prefix, place)
      where not case when is_prefix
                     then exists (select from ${rows} where name >= e.text and name <= e.text || ${LAST_NAME})
                     else exists (select from ${rows} where name = e.text) end
      order by place`,
    [elements.map(({ text }) => text), elements.map(({ isPrefix }) => isPrefix)],
  );
  const places = new Set(found.map(({ place }) => place - 1));
  return elements.filter((_element, place) => places.has(place));
}

/**
 * Plans changes as `planDocuments` does, but only of the selected documents. Throws `document_not_found` if an element
 * selects nothing in the backup and nothing in the live state: it is probably misspelled.
 */
export async function planSelected(
  queries: Queries,
  live: StateHead,
  { names, prefixes, absent }: StagedSelection,
): Promise<DocumentsPlan> {
  const parameters = [live.stateKey, names, prefixes];
  await queries.execute('truncate loom_stage_change');
  await queries.execute(
    `insert into loom_stage_change (name, kind)
     select name, case when l.name is null then 'added' when s.name is null then 'removed' else 'changed' end
       from (select name, sha256 from loom_stage_document) s
       full join (${SELECTED_LIVE}) l using (name)
      where l.sha256 is distinct from s.sha256`,
    parameters,
  );
  await assertSelects(queries, absent);
  const { counts, names: changed } = await readStagedChanges(queries, 0);
  return { counts: { ...counts, unchanged: live.documents - counts.changed - counts.removed }, names: changed };
}

/** Throws unless each element that the backup lacks selects a live document, which is then staged to be removed. */
async function assertSelects(queries: Queries, absent: SelectedElement[]): Promise<void> {
  if (absent.length === 0) return;
  const removed = `(select name from loom_stage_change where kind = 'removed') removed`;
  const [unmatched] = await elementsWithout(queries, removed, absent);
  if (unmatched === undefined) return;
  const { index, text, isPrefix } = unmatched;
  const shown = JSON.stringify(shortText(text));
  throw new LoomError(
    'document_not_found',
    isPrefix
      ? `Neither the backup nor the live state has a document whose name begins with ${shown}. ` +
          'Correct the prefix, or remove it from "documents".'
      : `Neither the backup nor the live state has a document ${shown}. Correct the name, or remove it from "documents".`,
    { pointer: `/documents/${index}`, ...(isPrefix ? {} : { document: text }) },
  );
}
