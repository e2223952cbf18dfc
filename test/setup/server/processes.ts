import { readdir, readFile } from 'node:fs/promises';
import { runProgram } from '../../../src/dev/processes.ts';

/** Returns the pids of the children of a process. */
export async function childrenOf(pid: number): Promise<number[]> {
  if (process.platform !== 'linux') {
    const listed = await runProgram('ps', ['-A', '-o', 'pid=,ppid=']);
    const rows = listed.output.split('\n').map((row) => row.trim().split(/\s+/).map(Number));
    return rows.flatMap(([child, parent]) => (child !== undefined && parent === pid ? [child] : []));
  }
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const parents = await Promise.all(pids.map(parentOf));
  return pids.filter((_child, index) => parents[index] === pid);
}

async function parentOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The command in parentheses may contain anything. The parent is the second field after it.
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}
