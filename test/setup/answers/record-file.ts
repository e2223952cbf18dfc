import { appendFileSync } from 'node:fs';
import { recordAnswers } from './recorder.ts';

// A process of a node loads this file before the program, and appends each answer to the file that the URL names. The
// program itself refuses variables that it does not know.

const MAX_BYTES = 64 * 2 ** 10;

const file = new URL(import.meta.url).searchParams.get('file');
if (file === null) throw new Error('the URL names no file');
recordAnswers(({ body, ...answer }) => {
  appendFileSync(file, `${JSON.stringify({ ...answer, body: body.toString('base64') })}\n`);
}, MAX_BYTES);
