import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { deployPath, readDeployFile, replaceEach } from '../setup/deploy/files.ts';
import { manifestFaults } from '../setup/deploy/manifests.ts';
import { runTool, testWithTool, writeFiles } from '../setup/deploy/tools.ts';

// `proxies.test.ts` runs nginx and HAProxy, and `e2e/service/pooler.test.ts` runs PgBouncer.
describe('the programs that read the files of docs/deploy accept them:', () => {
  testWithTool('nginx', 'nginx', () => {
    const directory = writeFiles({});
    const own = ['-p', directory, '-e', join(directory, 'error.log'), '-g', `pid ${directory}/nginx.pid;`];
    expect(runTool('nginx', ['-t', '-c', deployPath('nginx.conf'), ...own])).toMatch(/test is successful/);
  });

  testWithTool('haproxy', 'HAProxy, without a warning', () => {
    const output = runTool('haproxy', ['-c', '-dW', '-f', deployPath('haproxy.cfg')]);
    expect(output).toBe('Configuration file is valid\n');
  });

  testWithTool('systemd-analyze', 'systemd, and the service has few rights', () => {
    const text = replaceEach(readDeployFile('loom@.service'), { '/usr/bin/node': process.execPath });
    const path = join(writeFiles({ 'loom@8787.service': text }), 'loom@8787.service');
    expect(runTool('systemd-analyze', ['verify', path])).toBe('');
    // 20 stands for 2.0 of 10: the score of a service that only needs the network.
    expect(runTool('systemd-analyze', ['security', '--offline=true', '--threshold=20', path])).toContain('OK');
  });

  testWithTool('promtool', 'Prometheus', () => {
    expect(runTool('promtool', ['check', 'rules', deployPath('prometheus/loom.rules.yml')])).toMatch(
      /SUCCESS: 22 rules found/,
    );
    expect(
      runTool('promtool', ['check', 'config', '--syntax-only', deployPath('prometheus/prometheus.yml')]),
    ).toContain('is valid prometheus config file syntax');
  });

  testWithTool('promtool', 'each alarm fires when it should, and not before', () => {
    const alarms = new URL('alarms.yml', import.meta.url).pathname;
    expect(existsSync(alarms)).toBe(true);
    expect(runTool('promtool', ['test', 'rules', alarms])).toContain('SUCCESS');
  });

  testWithTool('kubectl', 'Kustomize', () => {
    const documents = parseAllDocuments(runTool('kubectl', ['kustomize', deployPath('kubernetes')]));
    expect(documents.map((one) => manifestFaults(one.toJS()))).toEqual(documents.map(() => []));
    expect(documents.length).toBeGreaterThanOrEqual(5);
  });
});
