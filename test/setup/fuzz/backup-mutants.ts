import { type ParsedBackup, relink, seal } from '../backup/chain.ts';
import { treeOf } from '../backup/json-tree.ts';
import { change, scalarsOf } from '../backup/spoil.ts';
import type { Random } from '../values/random.ts';
import { printFreely, spoilBytes, spoilTree } from './bodies.ts';
import { chance } from './odd-values.ts';

/** A backup that was changed, perhaps into something else. */
export interface Mutant {
  what: string;
  content: Buffer;
}

/**
 * Changes a backup at one to three places. Often recomputes its digests and hashes afterwards, as a forger would, so
 * that the change passes the first checks.
 */
export function mutateBackup(text: string, random: Random): Mutant {
  const kind = random.pick(['tree', 'tree', 'value', 'value', 'bytes']);
  if (kind === 'bytes') return { what: kind, content: spoilBytes(Buffer.from(text), random) };
  const spoiled = kind === 'tree' ? spoilTrees(text, random) : changeScalars(text, random);
  const forged = chance(random, 0.6) ? forge(spoiled, random) : undefined;
  return { what: forged === undefined ? kind : `${kind}, forged`, content: Buffer.from(forged ?? spoiled) };
}

function spoilTrees(text: string, random: Random): string {
  let tree = treeOf(JSON.parse(text));
  for (let count = random.integer(1, 3); count > 0; count -= 1) tree = spoilTree(tree, random);
  return printFreely(tree, random);
}

function changeScalars(text: string, random: Random): string {
  const backup: object = JSON.parse(text);
  const places = scalarsOf(backup, []);
  for (let count = random.integer(1, 2); count > 0; count -= 1) {
    const depth = random.integer(1, 5);
    const deep = places.filter((place) => place.length >= depth);
    change(backup, random.pick(deep.length === 0 ? places : deep));
  }
  return JSON.stringify(backup);
}

/** Makes digests and hashes fit, as far as the text is still a backup. Otherwise returns undefined. */
function forge(text: string, random: Random): string | undefined {
  try {
    const backup: ParsedBackup = JSON.parse(text);
    return JSON.stringify(chance(random, 0.6) ? relink(backup) : seal(backup));
  } catch {
    return undefined;
  }
}
