import { backup } from './backup.ts';
import { backups } from './backups.ts';
import type { Command } from './command.ts';
import { migrate } from './database/migrate.ts';
import { reindex } from './database/reindex.ts';
import { drill } from './drill.ts';
import { healthcheck } from './healthcheck.ts';
import { inspect } from './inspect.ts';
import { dev, version } from './loaders.ts';
import { restore } from './restore.ts';
import { serve } from './serve.ts';
import { status } from './status.ts';
import { undo } from './undo.ts';
import { verify } from './verify.ts';

/** Lists the commands in the order in which the help shows them. Only the help loads all of them. */
export const commands: readonly Command[] = [
  serve,
  migrate,
  reindex,
  backup,
  backups,
  restore,
  undo,
  status,
  drill,
  verify,
  inspect,
  healthcheck,
  dev,
  version,
];
