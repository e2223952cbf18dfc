import { documentNameFault } from '../../domain/document.ts';

/** One element of `documents` in a restore request: the name of a document, or the beginning of names. */
export interface SelectedName {
  text: string;
  isPrefix: boolean;
}

/**
 * Parses an element of `documents`. Only the stars at its end have a meaning: each two are one star of the name, and a
 * single one after them makes it a prefix. So `a**` is the document `a*`, and `a***` is the prefix `a*`.
 */
export function parseSelectedName(element: string): SelectedName {
  let end = element.length;
  while (element[end - 1] === '*') end -= 1;
  const stars = element.length - end;
  return { text: element.slice(0, end) + '*'.repeat(Math.floor(stars / 2)), isPrefix: stars % 2 === 1 };
}

/** Returns the fault of an element as a predicate, as `documentNameFault` does. A prefix may be empty, or only dots. */
export function selectedNameFault(element: string): string | undefined {
  const { text, isPrefix } = parseSelectedName(element);
  return isPrefix && ['', '.', '..'].includes(text) ? undefined : documentNameFault(text);
}
