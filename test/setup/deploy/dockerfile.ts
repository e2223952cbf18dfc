import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The context of a build. */
export const repositoryRoot = fileURLToPath(new URL('../../..', import.meta.url));

export const dockerfile = readFileSync(new URL('../../../Dockerfile', import.meta.url), 'utf8');

/** The base on which the Dockerfile builds, unless a build names another one. */
export const baseImage = /^ARG NODE_IMAGE=(\S+)$/m.exec(dockerfile)?.[1] ?? '';
