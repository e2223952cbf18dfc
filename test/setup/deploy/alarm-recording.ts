import { join } from 'node:path';
import { readDeployFile, replaceEach } from './files.ts';
import { runToolToEnd, writeFiles } from './tools.ts';

/** Labels of an alarm that fires, without its severity. */
type Labels = Record<string, string>;

/** Names the alarms that fire at a time, and no others of the watched ones. */
export interface ExpectedAlarms {
  atMs: number;
  firing: Record<string, readonly Labels[]>;
}

/** Samples of the metrics of nodes, for the alarms of `docs/deploy`. */
export interface AlarmRecording {
  /** Adds what a node answered at this time; undefined if the scrape failed. Times grow by whole steps. */
  add(atMs: number, instance: string, text: string | undefined): void;
  /** Feeds the samples to the alarms. Rejects if other alarms than expected fire at any of the times. */
  expectAlarms(watched: readonly string[], expected: readonly ExpectedAlarms[]): Promise<void>;
}

/** Prometheus takes a sample as the current one for five minutes. */
const STEP_MS = 300_000;

/** A backup can be this much older than the first sample. */
const LEAD_MS = 2 * 24 * 3_600_000;

/** Begins a recording. `replacements` change the text of the rules, as an operator does. */
export function recordForAlarms(replacements: Record<string, string> = {}): AlarmRecording {
  /** The tests of Prometheus begin at 1970: this time becomes 0. It is so early that every time stays above 0. */
  let originMs = 0;
  const series = new Map<string, Map<number, string>>();
  const instances = new Map<string, Map<number, boolean>>();
  const stepOf = (ms: number): number => Math.round((ms - originMs) / STEP_MS);
  let lastStep = 0;

  function toValues(samples: ReadonlyMap<number, string>, instance: string): string {
    const values: string[] = [];
    const scraped = instances.get(instance);
    let current = '_';
    for (let step = 0; step <= lastStep; step += 1) {
      const was = scraped?.get(step);
      // A failed scrape, or one without the series, ends it.
      if (was !== undefined) current = samples.get(step) ?? (current === '_' ? '_' : 'stale');
      values.push(current);
    }
    return values.join(' ');
  }

  return {
    add: (atMs, instance, text) => {
      if (originMs === 0) originMs = atMs - LEAD_MS;
      const step = stepOf(atMs);
      lastStep = Math.max(lastStep, step);
      const scraped = instances.get(instance) ?? new Map<number, boolean>();
      instances.set(instance, scraped.set(step, text !== undefined));
      for (const [name, value] of readSamples(text ?? '', instance, originMs)) {
        const samples = series.get(name) ?? new Map<number, string>();
        series.set(name, samples.set(step, value));
      }
    },
    expectAlarms: async (watched, expected) => {
      const rules = replaceEach(readDeployFile('prometheus/loom.rules.yml'), replacements);
      const course = {
        rule_files: ['rules.yml'],
        evaluation_interval: '5m',
        tests: [
          {
            interval: '5m',
            input_series: [...series].map(([name, samples]) => ({
              series: name,
              values: toValues(samples, /instance="(\w+)"/.exec(name)?.[1] ?? ''),
            })),
            alert_rule_test: expected.flatMap(({ atMs, firing }) =>
              watched.map((alertname) => ({
                eval_time: `${stepOf(atMs) * (STEP_MS / 1000)}s`,
                alertname,
                exp_alerts: (firing[alertname] ?? []).map((labels) => ({
                  exp_labels: { ...labels, severity: severityOf(rules, alertname) },
                  exp_annotations: { summary: summaryOf(rules, alertname, labels) },
                })),
              })),
            ),
          },
        ],
      };
      // JSON is YAML, too.
      const folder = writeFiles({ 'rules.yml': rules, 'course.yml': JSON.stringify(course) });
      await runToolToEnd('promtool', ['test', 'rules', join(folder, 'course.yml')]);
    },
  };
}

/** Reads the series of a scrape that alarms on stored backups use, with the label of the node. */
function readSamples(text: string, instance: string, originMs: number): [series: string, value: string][] {
  const lines = text.matchAll(/^(loom_ready|loom_backup_\w+)(?:\{(.*)\})? (\S+)$/gm);
  return [...lines].map(([, name = '', labels, value = '']) => {
    const all = [`instance="${instance}"`, ...(labels === undefined ? [] : [labels])];
    const isTime = name.endsWith('_timestamp_seconds') && Number(value) > 0;
    return [`${name}{${all.join(',')}}`, isTime ? String(Number(value) - originMs / 1000) : toNumber(value)];
  });
}

function toNumber(value: string): string {
  return value === 'Nan' ? 'NaN' : value;
}

function ruleText(rules: string, alertname: string): string {
  const text = rules.split('- alert: ').find((rule) => rule.startsWith(`${alertname}\n`));
  if (text === undefined) throw new Error(`there is no alarm ${alertname}`);
  return text;
}

function severityOf(rules: string, alertname: string): string {
  return /severity: (\w+)/.exec(ruleText(rules, alertname))?.[1] ?? '';
}

function summaryOf(rules: string, alertname: string, labels: Labels): string {
  const summary = /summary: '(.*)' \}/.exec(ruleText(rules, alertname))?.[1] ?? '';
  return summary.replaceAll(/\{\{ \$labels\.(\w+) \}\}/g, (_, name: string) => labels[name] ?? '');
}
