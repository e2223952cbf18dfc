import { readdir, readFile } from 'node:fs/promises';
import type { ErrorCode, ErrorPlace } from '../../../src/errors.ts';

export const corpusFolder = new URL('../../fixtures/backups/', import.meta.url);

export interface GoodFile {
  /** Path from `test/fixtures/backups/`. */
  file: string;
  why: string;
  /** Whether it has a manifest that proves it. */
  verified: boolean;
  documents: number;
  entries: number;
}

export interface SpoiledFile {
  file: string;
  why: string;
  /** What a verifier says; null when the file holds, and only the node that is to take it has a reason not to. */
  code: ErrorCode | null;
  /** What its place must have at least. Pointer and offset are those in the file. */
  place?: ErrorPlace;
  /** What a restore says when it is not the same. */
  restore?: { code: ErrorCode; place?: ErrorPlace };
  /** Whether it ends too early: a request around it cannot be closed then. */
  cut?: true;
}

export interface Corpus {
  good: GoodFile[];
  spoiled: SpoiledFile[];
}

export async function readCorpus(): Promise<Corpus> {
  return JSON.parse(await readFile(new URL('corpus.json', corpusFolder), 'utf8')) as Corpus;
}

export function readCorpusFile(file: string): Promise<Buffer> {
  return readFile(new URL(file, corpusFolder));
}

/** The files that are there, whether the corpus names them or not. */
export async function corpusFiles(): Promise<string[]> {
  const folders = ['good', 'spoiled'];
  const names = await Promise.all(folders.map((folder) => readdir(new URL(folder, corpusFolder))));
  return names.flatMap((files, index) => files.map((file) => `${folders[index]}/${file}`));
}

/** Names what becomes of a spoiled file: the codes of verify and of restore. */
export function verdictKind({ code, restore }: SpoiledFile): string {
  return `${code} ${restore?.code ?? code}`;
}

export function isGzip(bytes: Buffer): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}
