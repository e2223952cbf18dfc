import type { Runtime } from './containers.ts';

/** The part of an image's configuration that the tests read, with the names that Docker and OCI have in common. */
export interface ImageConfig {
  User: string;
  Env: string[];
  Entrypoint: string[];
  Cmd: string[];
  WorkingDir: string;
  Labels: Record<string, string>;
}

export interface BuiltImage {
  config: ImageConfig;
  /** Bytes of its layers without those of its base, as the files are on the disk. */
  bytesAboveBase: number;
  /** The reference of its base, by digest. */
  base: string;
  runtime: Runtime;
  /** Removes the image, and whatever the build and its containers left. */
  remove(): Promise<void>;
}

/** Builds the Dockerfile on its base, by digest, with these arguments. */
export type BuildImage = (buildArguments: Record<string, string>) => Promise<BuiltImage>;
