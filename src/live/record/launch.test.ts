import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { itOnLinux } from '../../../test/support/on_linux.ts';
import type { LinuxDevice } from '../../device/linux/linux_device.ts';
import { processAlive } from '../../device/linux/proc.ts';
import { attachAtStart, LaunchError, launch, type Program, processTree } from './launch.ts';

/** A device that nothing may be asked of. */
const UNTOUCHED = new Proxy({} as LinuxDevice, {
  get: (_, key) => {
    throw new Error(`the device was asked for ${String(key)}`);
  },
});

const started: Program[] = [];
async function start(...command: string[]): Promise<Program> {
  const program = await launch(command);
  started.push(program);
  return program;
}
afterEach(async () => {
  for (const program of started.splice(0)) {
    program.kill('SIGKILL');
    await program.ended;
  }
});

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
}

describe('launching', () => {
  itOnLinux('gives a running process and how it ends', async () => {
    const program = await start('sleep', '60');
    expect(processAlive(program.pid)).toBe(true);
    process.kill(program.pid, 'SIGTERM');
    expect(await program.ended).toEqual({ code: null, signal: 'SIGTERM' });
    expect(await (await start('sh', '-c', 'exit 3')).ended).toEqual({ code: 3, signal: null });
  });

  it.each([
    ['/no/such/program', '/no/such/program: cannot be started: there is no such program'],
    ['no-such-program-at-all', 'no-such-program-at-all: cannot be started: there is no such program'],
    ['/', '/: cannot be started: spawn / EACCES'],
    ['', 'the program to start has an empty name'],
  ])('%j fails', async (command, message) => {
    await expect(launch([command, 'x'])).rejects.toThrow(new LaunchError(message, null));
    await expect(launch([command, 'x'])).rejects.toMatchObject({ name: 'LaunchError', end: null });
  });
});

describe('the tree of a process', () => {
  itOnLinux('has its children and theirs, the process first', async () => {
    // Each shell waits for the one behind it, so none becomes its own child.
    const program = await start('sh', '-c', 'sh -c "sleep 60; true"; true');
    await until(() => processTree(program.pid).length === 3);
    const tree = processTree(program.pid);
    expect(tree[0]).toBe(program.pid);
    expect(new Set(tree).size).toBe(3);
    expect(tree.every((pid) => processAlive(pid))).toBe(true);
    expect(processTree(tree[1])).toEqual(tree.slice(1));
    for (const pid of tree) process.kill(pid, 'SIGKILL');
    await program.ended;
    expect(processTree(program.pid)).toEqual([program.pid]);
  });

  it('has the children of every thread, and passes over what has gone', () => {
    const proc = mkdtempSync(join(tmpdir(), 'uvmlab-tree-'));
    try {
      const put = (task: string, children: string): void => {
        mkdirSync(join(proc, task), { recursive: true });
        writeFileSync(join(proc, task, 'children'), children);
      };
      put('1/task/1', '2 ');
      put('1/task/9', '3 4 ');
      put('3/task/3', '5 ');
      put('5/task/5', '');
      expect(processTree(1, proc)).toEqual([1, 2, 3, 4, 5]);
    } finally {
      rmSync(proc, { recursive: true });
    }
  });
});

describe('attaching at the start', () => {
  itOnLinux('touches no driver for a program that starts no CUDA, and ends with it', async () => {
    const program = await start('sh', '-c', 'sh -c "sleep 0.05"; exit 3');
    const attached = attachAtStart(UNTOUCHED, program);
    await expect(attached).rejects.toThrow('the program ended without starting CUDA: there is nothing to record');
    await expect(attached).rejects.toMatchObject({ name: 'LaunchError', end: { code: 3, signal: null } });
  });

  itOnLinux('says which signal ended the program', async () => {
    const program = await start('sh', '-c', 'kill -9 $$');
    await expect(attachAtStart(UNTOUCHED, program)).rejects.toMatchObject({ end: { code: null, signal: 'SIGKILL' } });
  });
});
