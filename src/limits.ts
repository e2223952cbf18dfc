import { backupRunLimits } from './limits/backup-runs.ts';
import { dataLimits } from './limits/data.ts';
import { databaseLimits } from './limits/database.ts';
import { httpLimits } from './limits/http.ts';
import { objectStoreLimits } from './limits/object-store.ts';
import { programLimits } from './limits/program.ts';
import { runLimits } from './limits/runs.ts';

/** Lists LOOM's bounds, each with its reason. Configuration variables can change some of them. */
export const limits = {
  ...backupRunLimits,
  ...dataLimits,
  ...databaseLimits,
  ...httpLimits,
  ...objectStoreLimits,
  ...programLimits,
  ...runLimits,
} as const;
