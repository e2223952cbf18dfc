import { z } from 'zod';

// These schemas define the members of a restore request and of an undo request. The types for the client and for the
// node are derived from them.

const revision = z.int().min(0);

export const restoreMembersSchema = z.strictObject({
  replace_state: z.boolean().default(true),
  truncate_audit: z.boolean().default(false),
  dry_run: z.boolean().default(false),
  expect_revision: revision.exactOptional(),
  /** The backup's state key, if it differs from the node's. */
  accept_state_key: z.string().exactOptional(),
  accept_unverified: z.boolean().default(false),
  /** Restores into a new scratch state with this key, and leaves the live state unchanged. */
  into_scratch: z.string().exactOptional(),
});

export const undoMembersSchema = z.strictObject({
  dry_run: z.boolean().default(false),
  expect_revision: revision.exactOptional(),
  /** The restore or undo to undo, together with all later ones. It must have an undo record. Default: the newest. */
  event_id: z.uuid().toLowerCase().exactOptional(),
});

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
  return name === 'confirm' || Object.hasOwn(restoreMembersSchema.shape, name);
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
