// Room `backup`: makes, rewrites and spoils backups without a database.

import { readdir, readFile } from 'node:fs/promises';
import type { ErrorCode, ErrorPlace } from '../../../src/errors.ts';

export const corpusFolder = new URL('../../fixtures/backups/', import.meta.url);

export interface GoodFile {
  /** Path from `test/fixtures/backups/`. */
  file: string;
  why: string;
  /** Whether the file has a manifest that proves its content. */
  verified: boolean;
  documents: number;
  entries: number;
}

export interface SpoiledFile {
  file: string;
  why: string;
  /** The verifier's error code. Null if the verifier accepts the file and only the node refuses it. */
  code: ErrorCode | null;
  /** Members that the error's place must have. Pointer and offset refer to the file. */
  place?: ErrorPlace;
  /** The error of a restore, if it differs from the verifier's. */
  restore?: { code: ErrorCode; place?: ErrorPlace };
  /** Whether the file is truncated, so that a request around it is not valid JSON. */
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

/** Lists the files of the corpus on disk, whether `corpus.json` names them or not. */
export async function corpusFiles(): Promise<string[]> {
  const folders = ['good', 'spoiled'];
  const names = await Promise.all(folders.map((folder) => readdir(new URL(folder, corpusFolder))));
  return names.flatMap((files, index) => files.map((file) => `${folders[index]}/${file}`));
}

/** Names the kind of a spoiled file: the codes of verify and of restore, and the form of the file. */
export function verdictKind({ file, code, restore }: SpoiledFile): string {
  return `${code} ${restore?.code ?? code} ${file.split('.').slice(1).join('.')}`;
}

export function isGzip(bytes: Buffer): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}
