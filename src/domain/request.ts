import { z } from 'zod';
import { limits } from '../limits.ts';

// These schemas define the members of a restore request and of an undo request. The types for the client and for the
// node are derived from them.

const revision = z.int().min(0);

/** A name of stars alone is written with twice as many, and a prefix with one more. */
const maxSelectedCharacters = 2 * limits.maxDocumentNameBytes + 1;

export const restoreMembersSchema = z.strictObject({
  replace_state: z.boolean().default(true).describe('Whether the documents become exactly those of the backup'),
  truncate_audit: z
    .boolean()
    .default(false)
    .describe('Whether to replace the audit trail by that of the backup, if the backup has a part of it'),
  dry_run: z.boolean().default(false).describe('Whether to answer what the request would do, without doing it'),
  expect_revision: revision.exactOptional().describe('The live revision that the request is for'),
  accept_state_key: z.string().exactOptional().describe("The backup's state key, if it differs from the node's"),
  accept_unverified: z.boolean().default(false).describe('Whether to accept a backup without a manifest'),
  into_scratch: z
    .string()
    .exactOptional()
    .describe('Restores into a new scratch state with this key, and leaves the live state unchanged'),
  from: z.string().exactOptional().describe('Restores the stored backup with this name. The body then has no "backup"'),
  documents: z
    .array(z.string().max(maxSelectedCharacters))
    .min(1)
    .max(limits.maxSelectedDocuments)
    .exactOptional()
    .describe(
      'Restores only the documents with these names, and leaves the others and the audit trail as they are. ' +
        'A name that ends in * is a prefix. At the end of a name, ** means a star',
    ),
});

/** Defines the members of a restore request other than `backup`. */
export const restoreRequestSchema = restoreMembersSchema.extend({ confirm: z.literal('restore') });

export const undoMembersSchema = z.strictObject({
  dry_run: z.boolean().default(false).describe('Whether to answer what the request would do, without doing it'),
  expect_revision: revision.exactOptional().describe('The live revision that the request is for'),
  event_id: z
    .uuid()
    .toLowerCase()
    .exactOptional()
    .describe('The restore or undo to undo, together with all later ones. It must have a record. Default: the newest'),
});

export const undoRequestSchema = undoMembersSchema.extend({ confirm: z.literal('undo') });

export const deleteRequestSchema = z.strictObject({ confirm: z.literal('delete') });

/** Describes the members of a restore body other than `confirm` and `backup`, as a client sends them. */
export type RestoreMembers = z.input<typeof restoreMembersSchema>;

/** Describes the members of an undo body other than `confirm`, as a client sends them. */
export type UndoMembers = z.input<typeof undoMembersSchema>;

/** Holds the checked members of a restore request, defaults included. */
export type RestoreOptions = Options<z.output<typeof restoreMembersSchema>>;

/** Holds the checked members of an undo request, defaults included. */
export type UndoOptions = Options<z.output<typeof undoMembersSchema>>;

/** Returns whether a restore body may have this member in addition to `backup`. */
export function isRestoreMember(name: string): boolean {
  return Object.hasOwn(restoreRequestSchema.shape, name);
}

type CamelCase<Name> = Name extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<CamelCase<Tail>>}` : Name;
type Options<Members> = { [Name in keyof Members as CamelCase<Name> & string]: Members[Name] };

/** Renames the members from the API's spelling to the code's: `dry_run` becomes `dryRun`. */
export function toOptions<Members extends object>(members: Members): Options<Members> {
  const options = Object.entries(members).map(([name, value]) => [
    name.replace(/_([a-z])/g, (_match, letter: string) => letter.toUpperCase()),
    value,
  ]);
  return Object.fromEntries(options) as Options<Members>;
}
