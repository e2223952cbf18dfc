import { z } from 'zod';

const storeMarkerSchema = z.object({ loom_backup_store: z.literal(1), id: z.uuid() });

/** Returns the text of the object that says which store this is. */
export function writeStoreMarker(id: string): string {
  return `${JSON.stringify(storeMarkerSchema.parse({ loom_backup_store: 1, id }))}\n`;
}

/** Returns the id of the store; undefined if the text is not that of a marker. */
export function parseStoreMarker(text: string): string | undefined {
  try {
    return storeMarkerSchema.parse(JSON.parse(text)).id.toLowerCase();
  } catch {
    return undefined;
  }
}

/** Returns the text of the object with which a database claims the store. Programs read only its name. */
export function writeStoreClaim(id: string): string {
  return `${JSON.stringify({ loom_backup_claim: 1, id })}\n`;
}
