/** What /proc tells about a process that uses the driver; the folder can be another one, for tests. */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DEVICE_PATH } from './paths.ts';

/** A range of managed memory: a shared, writable mapping of /dev/nvidia-uvm. */
export interface ManagedMapping {
  start: bigint;
  end: bigint;
}

const MAP_LINE = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ \d+\s+(.*)$/;

/**
 * The mappings of /dev/nvidia-uvm in the text of /proc/PID/maps, ascending. Managed memory is mapped readable, writable
 * and shared at an offset that equals its address; the driver's semaphore pools are mapped the same way and cannot be
 * told apart here.
 */
export function parseManagedMappings(maps: string): ManagedMapping[] {
  const out: ManagedMapping[] = [];
  for (const line of maps.split('\n')) {
    if (!line.endsWith(DEVICE_PATH.uvm)) continue;
    const match = MAP_LINE.exec(line);
    if (match === null) continue;
    const [, start, end, rights, offset, path] = match;
    if (path !== DEVICE_PATH.uvm || rights !== 'rw-s' || BigInt(`0x${offset}`) !== BigInt(`0x${start}`)) continue;
    out.push({ start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) });
  }
  return out;
}

export function readManagedMappings(pid: number, proc = '/proc'): ManagedMapping[] {
  return parseManagedMappings(readFileSync(join(proc, String(pid), 'maps'), 'latin1'));
}

/** Descriptors of a process that are open files of /dev/nvidia-uvm, ascending. Throws what the file system says. */
export function readUvmFds(pid: number, proc = '/proc'): number[] {
  const folder = join(proc, String(pid), 'fd');
  const fds: number[] = [];
  for (const name of readdirSync(folder)) {
    try {
      if (readlinkSync(join(folder, name)) === DEVICE_PATH.uvm) fds.push(Number(name));
    } catch {
      // Closed between the two calls.
    }
  }
  return fds.sort((a, b) => a - b);
}

/** Whether there is such a process, a zombie not counted. */
export function processAlive(pid: number, proc = '/proc'): boolean {
  try {
    const stat = readFileSync(join(proc, String(pid), 'stat'), 'latin1');
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

/** The user id that a process's files belong to, or null when there is no such process. */
export function processOwner(pid: number, proc = '/proc'): number | null {
  return statSync(join(proc, String(pid)), { throwIfNoEntry: false })?.uid ?? null;
}

function textOf(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

export function processCommand(pid: number, proc = '/proc'): string[] | null {
  const text = textOf(join(proc, String(pid), 'cmdline'));
  return text === null || text === '' ? null : text.replace(/\0$/, '').split('\0');
}

/** The version in the text of /proc/driver/nvidia/version, or null. */
export function parseDriverVersion(text: string): string | null {
  return /\s(\d+\.\d+(?:\.\d+)?)\s/.exec(text)?.[1] ?? null;
}

/** The version of the loaded driver, such as 580.159.04; null when none is loaded or it does not say. */
export function driverVersion(root = '/'): string | null {
  const module = textOf(join(root, 'sys/module/nvidia_uvm/version'))?.trim();
  if (module) return module;
  return parseDriverVersion(textOf(join(root, 'proc/driver/nvidia/version')) ?? '');
}

/** The module parameters of nvidia-uvm by name; empty when they cannot be read. */
export function uvmParameters(root = '/'): Record<string, string> {
  const folder = join(root, 'sys/module/nvidia_uvm/parameters');
  const out: Record<string, string> = {};
  let names: string[] = [];
  try {
    names = readdirSync(folder).sort();
  } catch {
    return out;
  }
  for (const name of names) {
    const value = textOf(join(folder, name));
    if (value !== null) out[name] = value.trim();
  }
  return out;
}

/** A GPU as /proc/driver/nvidia lists it. */
export interface GpuInformation {
  name: string;
  /** As 16 bytes in hex, without dashes. */
  uuid: string;
}

/** GPUs in the order of their bus addresses; uuid '' where it is not told (before the GPU's first use). */
export function readGpus(root = '/'): GpuInformation[] {
  const folder = join(root, 'proc/driver/nvidia/gpus');
  let names: string[] = [];
  try {
    names = readdirSync(folder).sort();
  } catch {
    return [];
  }
  return names.map((name) => {
    const text = textOf(join(folder, name, 'information')) ?? '';
    const field = (key: string) => new RegExp(`^${key}:[ \\t]*(\\S.*?)[ \\t]*$`, 'm').exec(text)?.[1] ?? '';
    const uuid = field('GPU UUID').replace(/^GPU-/, '').replaceAll('-', '');
    return { name: field('Model'), uuid: /^[0-9a-f]{32}$/.test(uuid) ? uuid : '' };
  });
}
