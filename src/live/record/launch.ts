/**
 * Starting a program and attaching to it before it allocates managed memory: it, or the first of its descendants that
 * registers a GPU with the driver, is stopped as soon as it has, attached to, and let go on. CUDA registers GPUs when
 * it starts, before a program can allocate. A process that only asks what there is (profilers do) has a VA space and
 * never a GPU in it.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Attachment } from '../../device/attach.ts';
import type { LinuxDevice } from '../../device/linux/linux_device.ts';
import { processAlive, readManagedMappings, readUvmFds } from '../../device/linux/proc.ts';
import { tryAttach } from '../target.ts';

/** How the program ended. */
export interface ProgramEnd {
  /** Its exit status, or null when a signal ended it. */
  code: number | null;
  signal: string | null;
}

export interface Program {
  readonly pid: number;
  /** Sends it a signal, such as SIGINT. */
  kill(signal: string): void;
  /** Rejects when it cannot be started. */
  readonly ended: Promise<ProgramEnd>;
}

/** The program could not be started, or ended before it did what was waited for. */
export class LaunchError extends Error {
  override name = 'LaunchError';
  readonly end: ProgramEnd | null;
  constructor(message: string, end: ProgramEnd | null) {
    super(message);
    this.end = end;
  }
}

/** Starts a command with this process's standard streams. Throws LaunchError. */
export async function launch(command: readonly string[]): Promise<Program> {
  if (command[0] === '') throw new LaunchError('the program to start has an empty name', null);
  const child = spawn(command[0], command.slice(1), { stdio: 'inherit' });
  const ended = new Promise<ProgramEnd>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'ENOENT' ? 'there is no such program' : error.message;
      reject(new LaunchError(`${command[0]}: cannot be started: ${why}`, null));
    });
  });
  return { pid: child.pid ?? 0, kill: (signal) => void child.kill(signal as NodeJS.Signals), ended };
}

/** A process and its descendants; those of threads too. Processes that have gone meanwhile are passed over. */
export function processTree(pid: number, proc = '/proc'): number[] {
  const out = [pid];
  for (let i = 0; i < out.length; i++) {
    const tasks = `${proc}/${out[i]}/task`;
    try {
      for (const task of readdirSync(tasks)) {
        const children = readFileSync(`${tasks}/${task}/children`, 'latin1').split(' ');
        for (const child of children) if (child !== '') out.push(Number(child));
      }
    } catch {
      // It has ended, or the kernel does not list children: then the program itself is looked at alone.
    }
  }
  return out;
}

export interface Attached {
  pid: number;
  attachment: Attachment;
  /** Whether no managed memory was there yet. */
  early: boolean;
  /** Lets the process go on. */
  resume(): void;
}

const LOOK_MILLISECONDS = 1;

/** Whether the process has a VA space with a GPU by now; false too when it has ended meanwhile. Does not stop it. */
async function hasGpu(device: LinuxDevice, pid: number): Promise<boolean> {
  let attachment: Attachment | null;
  try {
    attachment = await tryAttach(device, pid);
  } catch (error) {
    if (!processAlive(pid)) return false;
    throw error;
  }
  if (attachment === null) return false;
  await device.close(attachment.uvm);
  return attachment.processors.some(({ word }) => word !== 'cpu');
}

/** Stops the process, and attaches to it if it has a VA space by now; null too when it has ended meanwhile. */
async function stopAndAttach(device: LinuxDevice, pid: number): Promise<Attached | null> {
  try {
    process.kill(pid, 'SIGSTOP');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return null;
    throw error;
  }
  const resume = (): void => {
    try {
      process.kill(pid, 'SIGCONT');
    } catch {
      // It was killed while it stood.
    }
  };
  let attachment: Attachment | null = null;
  try {
    attachment = await tryAttach(device, pid);
    if (attachment === null) return null;
    return { pid, attachment, early: readManagedMappings(pid).length === 0, resume };
  } catch (error) {
    if (attachment === null && !processAlive(pid)) return null;
    throw error;
  } finally {
    if (attachment === null) resume();
  }
}

/**
 * Waits until the program, or a descendant, has a VA space with a GPU, and stops it there. Throws LaunchError when the
 * program ends before that, AttachError when it may not be attached to.
 */
export async function attachAtStart(device: LinuxDevice, program: Program): Promise<Attached> {
  let end: ProgramEnd | null = null;
  void program.ended.then((how) => {
    end = how;
  });
  for (;;) {
    for (const pid of processTree(program.pid)) {
      let open = 0;
      try {
        open = readUvmFds(pid).length;
      } catch {
        // It has ended, or runs as another user: attaching to it would be refused.
      }
      if (open === 0 || !(await hasGpu(device, pid))) continue;
      const attached = await stopAndAttach(device, pid);
      if (attached !== null) return attached;
    }
    if (end !== null) {
      throw new LaunchError('the program ended without starting CUDA: there is nothing to record', end);
    }
    await sleep(LOOK_MILLISECONDS);
  }
}
