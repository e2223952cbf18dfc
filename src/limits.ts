import { backupRunLimits } from './limits/backup-runs.ts';
import { dataLimits } from './limits/data.ts';
import { databaseLimits } from './limits/database.ts';
import { httpLimits } from './limits/http.ts';
import { programLimits } from './limits/program.ts';

/** Lists LOOM's bounds, each with its reason. Configuration variables can change some of them. */
export const limits = {
  ...backupRunLimits,
  ...dataLimits,
  ...databaseLimits,
  ...httpLimits,
  ...programLimits,
} as const;
