import { openBuildah, whyNoBuildah } from './buildah.ts';
import { dockerAnswers, openDocker } from './docker.ts';
import type { BuildImage } from './image.ts';

/** Returns the builder of this machine, with its name: Docker if it answers, else buildah; else the reason for none. */
export function findBuilder(): { name: string; build: BuildImage } | { missing: string } {
  if (dockerAnswers()) return { name: 'Docker', build: openDocker };
  const missing = whyNoBuildah();
  return missing === undefined ? { name: 'buildah and runc', build: openBuildah } : { missing };
}
