/** Facts of a Linux system below a root folder: what cannot be read has the errno's name in place of a value. */
import { closeSync, constants, openSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** A value, or the name of the errno with which reading it failed (ENOENT, EACCES, ...), or what its text lacks. */
export type Fact<T> = { value: T } | { errno: string };

/** What a folder entry is, as stat says. */
export interface NodeStat {
  character: boolean;
  major: number;
  minor: number;
  /** The rights alone: 0o660. */
  mode: number;
  uid: number;
  gid: number;
}

/** The system that is looked at: this one, or a tree of files that looks like one. */
export interface SystemFiles {
  /** Folder below which /proc, /sys, /dev, /etc and /usr are. */
  root: string;
  /** Follows links. Throws what the file system says. */
  stat(path: string): NodeStat;
  /** Opens for reading and writing and closes at once. Throws what the file system says. */
  tryOpen(path: string): void;
}

/** The errno's name of an error of the file system; every other error is thrown again. */
function errnoOf(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (typeof code !== 'string') throw error;
  return code;
}

/** What `read` gives, or the errno of the file system. */
export function factOf<T>(read: () => T): Fact<T> {
  try {
    return { value: read() };
  } catch (error) {
    return { errno: errnoOf(error) };
  }
}

/** The value, or null where there is none. */
export function known<T>(fact: Fact<T>): T | null {
  return 'value' in fact ? fact.value : null;
}

export function mapFact<T, U>(fact: Fact<T>, change: (value: T) => U): Fact<U> {
  return 'value' in fact ? { value: change(fact.value) } : fact;
}

/** Parts of a device number as Linux packs it. */
function deviceNumber(rdev: number): { major: number; minor: number } {
  return { major: (rdev >>> 8) & 0xfff, minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00) };
}

function statNode(path: string): NodeStat {
  const found = statSync(path);
  const { uid, gid } = found;
  return { character: found.isCharacterDevice(), ...deviceNumber(found.rdev), mode: found.mode & 0o777, uid, gid };
}

function openNode(path: string): void {
  closeSync(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
}

export function systemFiles(root = '/'): SystemFiles {
  return { root, stat: statNode, tryOpen: openNode };
}

export function readText(files: SystemFiles, path: string): Fact<string> {
  return factOf(() => readFileSync(join(files.root, path), 'latin1'));
}

export function readNames(files: SystemFiles, path: string): Fact<string[]> {
  return factOf(() => readdirSync(join(files.root, path)).sort());
}

export function readLink(files: SystemFiles, path: string): Fact<string> {
  return factOf(() => readlinkSync(join(files.root, path)));
}

export function statPath(files: SystemFiles, path: string): Fact<NodeStat> {
  return factOf(() => files.stat(join(files.root, path)));
}

/** Null when it can be opened for reading and writing, else the errno. */
export function openProblem(files: SystemFiles, path: string): string | null {
  const opened = factOf(() => files.tryOpen(join(files.root, path)));
  return 'errno' in opened ? opened.errno : null;
}

/** Ids of a process as its status file gives them. */
export interface Ids {
  real: number;
  effective: number;
  saved: number;
}

/** The lines of /proc/PID/status that decide who may look into whom. */
export interface ProcessStatus {
  /** The process that it is a thread of: itself, unless its number is that of a thread; null where it is not told. */
  group: number | null;
  uid: Ids;
  gid: Ids;
  /** Capabilities as the kernel writes them, in hex. */
  permitted: string;
  effective: string;
  /** 0 none, 1 strict, 2 a filter; null where the kernel does not say. */
  seccomp: number | null;
  /** The process that traces it, or 0. */
  tracer: number;
}

/** Lines of a status file by which it is decided; systems that imitate Linux (gVisor) leave some out. */
const STATUS_LINES: readonly (readonly [key: string, valid: RegExp])[] = [
  ['Uid', /^\d+\s+\d+\s+\d+\s+\d+$/],
  ['Gid', /^\d+\s+\d+\s+\d+\s+\d+$/],
  ['CapPrm', /^[0-9a-f]+$/],
  ['CapEff', /^[0-9a-f]+$/],
  ['TracerPid', /^\d+$/],
];

/** What a status file says; unknown as a whole when a line that decides is not in it. */
function parseStatus(text: string): Fact<ProcessStatus> {
  const line = (key: string): string => new RegExp(`^${key}:[ \\t]*(.*?)[ \\t]*$`, 'm').exec(text)?.[1] ?? '';
  const lacks = STATUS_LINES.find(([key, valid]) => !valid.test(line(key)));
  if (lacks !== undefined) return { errno: `no line ${lacks[0]}` };
  const ids = (key: string): Ids => {
    const [real, effective, saved] = line(key).split(/\s+/).map(Number);
    return { real, effective, saved };
  };
  const number = (key: string): number | null => (/^\d+$/.test(line(key)) ? Number(line(key)) : null);
  return {
    value: {
      group: number('Tgid'),
      uid: ids('Uid'),
      gid: ids('Gid'),
      permitted: line('CapPrm'),
      effective: line('CapEff'),
      seccomp: number('Seccomp'),
      tracer: Number(line('TracerPid')),
    },
  };
}

export function readStatus(files: SystemFiles, path: string): Fact<ProcessStatus> {
  const text = readText(files, path);
  return 'errno' in text ? text : parseStatus(text.value);
}

const CAP_SYS_PTRACE = 19n;

export function hasPtraceCapability(status: ProcessStatus): boolean {
  return ((BigInt(`0x${status.effective}`) >> CAP_SYS_PTRACE) & 1n) === 1n;
}

/** Whether all capabilities of `other` are among those of `mine`; both are the permitted ones. */
export function coversCapabilities(mine: ProcessStatus, other: ProcessStatus): boolean {
  return (BigInt(`0x${other.permitted}`) & ~BigInt(`0x${mine.permitted}`)) === 0n;
}
