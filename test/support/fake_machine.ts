/** Trees of files that look like machines: /proc, /sys, /dev, /etc and /usr of one in a temporary folder. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach } from 'vitest';
import type { FactsFrom } from '../../src/live/doctor/machine_facts.ts';
import { type NodeStat, type SystemFiles, systemFiles } from '../../src/live/doctor/system_files.ts';

/** A device node, which only root could make, or the owner of a file. `open`: the errno of opening it. */
export interface FakeNode extends Partial<NodeStat> {
  open?: string;
}

export interface FakeMachine {
  /** Contents by path; null takes a file of the base away. */
  files?: Record<string, string | null>;
  links?: Record<string, string>;
  nodes?: Record<string, FakeNode | null>;
  from?: Omit<FactsFrom, 'root' | 'files'>;
}

const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function systemError(code: string): Error {
  return Object.assign(new Error(code), { code });
}

function fakeFiles(root: string, nodes: Record<string, FakeNode | null>): SystemFiles {
  const real = systemFiles(root);
  const nodeAt = (path: string): FakeNode | null => nodes[path.slice(root.length)] ?? null;
  return {
    root,
    stat: (path) => {
      const node = nodeAt(path);
      if (node?.character !== true) return { ...real.stat(path), ...node };
      return { major: 0, minor: 0, mode: 0o666, uid: 0, gid: 0, ...node, character: true };
    },
    tryOpen: (path) => {
      const node = nodeAt(path);
      if (node === null) real.tryOpen(path);
      else if (node.open !== undefined) throw systemError(node.open);
    },
  };
}

export interface StatusLines {
  ids?: string;
  gids?: string;
  permitted?: string;
  effective?: string;
  seccomp?: number;
  tracer?: number;
}

/** The lines of a status file; ids are "real effective saved fs". */
export function statusText({
  ids = '1000 1000 1000 1000',
  gids = ids,
  permitted = '0',
  effective = permitted,
  seccomp = 0,
  tracer = 0,
}: StatusLines = {}): string {
  const lines = ['Name:\tx', `TracerPid:\t${tracer}`, `Uid:\t${ids}`, `Gid:\t${gids}`];
  return `${[...lines, `CapPrm:\t${permitted}`, `CapEff:\t${effective}`, `Seccomp:\t${seccomp}`].join('\n')}\n`;
}

/** The auxiliary vector of a process whose pages have `size` bytes. */
function auxv(size: number): string {
  const words = new BigUint64Array([16n, 1n, 6n, BigInt(size), 0n, 0n]);
  return Buffer.from(words.buffer).toString('latin1');
}

/** All capabilities of Linux, and those that Docker gives root: without CAP_SYS_PTRACE. */
export const ALL_CAPABILITIES = '000001ffffffffff';
export const DOCKER_CAPABILITIES = '00000000a80425fb';

/** A desktop of a user 1000: driver 580, Yama scope 1, koffi installed. */
const DESKTOP: Required<FakeMachine> = {
  files: {
    '/proc/sys/kernel/osrelease': '6.8.0-60-generic\n',
    '/proc/sys/kernel/yama/ptrace_scope': '1\n',
    '/proc/driver/nvidia/version':
      'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build  (x@y)\nGCC version: 13\n',
    '/proc/driver/nvidia/gpus/0000:01:00.0/information':
      'Model: \t\t NVIDIA H200\nIRQ:   \t\t 66\nGPU UUID: \t GPU-00112233-4455-6677-8899-aabbccddeeff\n',
    '/proc/devices': 'Character devices:\n  1 mem\n195 nvidia\n510 nvidia-uvm\n\nBlock devices:\n  8 sd\n',
    '/proc/self/status': statusText(),
    '/proc/self/uid_map': '         0          0 4294967295\n',
    '/proc/self/cgroup': '0::/user.slice/user-1000.slice\n',
    '/proc/self/auxv': auxv(4096),
    '/sys/module/nvidia_uvm/version': '580.105.08\n',
    '/sys/module/nvidia_uvm/parameters/uvm_enable_builtin_tests': '0\n',
    '/sys/module/nvidia_uvm/parameters/uvm_enable_va_space_mm': '1\n',
    '/sys/module/nvidia_uvm/parameters/uvm_perf_prefetch_threshold': '51\n',
    '/sys/module/nvidia_uvm/parameters/uvm_disable_hmm': 'N\n',
    '/sys/kernel/mm/transparent_hugepage/enabled': 'always [madvise] never\n',
    '/usr/lib/x86_64-linux-gnu/libcuda.so.1': '',
    '/etc/ld.so.cache': 'glibc-ld.so.cache1.1\0libc.so.6\0/usr/lib/libc.so.6\0',
    '/etc/group': 'root:x:0:\nvideo:x:44:somebody\n',
  },
  links: { '/proc/self/ns/user': 'user:[4026531837]' },
  nodes: {
    '/dev/nvidia-uvm': { character: true, major: 510, minor: 0 },
    '/dev/nvidia-uvm-tools': { character: true, major: 510, minor: 1 },
  },
  from: {
    platform: 'linux',
    arch: 'x64',
    nodeVersion: '20.19.4',
    env: {},
    ffi: async () => null,
    pidfdGetfd: async () => 'EBADF',
  },
};

function write(path: string, make: (path: string) => void): void {
  mkdirSync(dirname(path), { recursive: true });
  make(path);
}

/** The desktop with changes, as what gatherFacts takes. The folder goes with the test. */
export function fakeMachine(change: FakeMachine = {}): FactsFrom {
  const root = mkdtempSync(join(tmpdir(), 'machine-'));
  folders.push(root);
  for (const [path, text] of Object.entries({ ...DESKTOP.files, ...change.files })) {
    if (text !== null) write(join(root, path), (at) => writeFileSync(at, text, 'latin1'));
  }
  for (const [path, target] of Object.entries({ ...DESKTOP.links, ...change.links })) {
    write(join(root, path), (at) => symlinkSync(target, at));
  }
  const nodes = { ...DESKTOP.nodes, ...change.nodes };
  return { ...DESKTOP.from, ...change.from, root, files: fakeFiles(root, nodes) };
}

/** Paths of the driver, to be taken away. */
export const NO_DRIVER: NonNullable<FakeMachine['files']> = Object.fromEntries(
  Object.keys(DESKTOP.files)
    .filter((path) => path.includes('nvidia'))
    .map((path) => [path, null]),
);

/** A running CUDA program of user 1000; `change` replaces files and owners. */
export function cudaProgram(pid: number, change: FakeMachine = {}): FakeMachine {
  const folder = `/proc/${pid}`;
  return {
    ...change,
    files: {
      [`${folder}/stat`]: `${pid} (python3) S 1 1 1\n`,
      [`${folder}/cmdline`]: 'python3\0train.py\0',
      [`${folder}/status`]: statusText(),
      ...change.files,
    },
    links: {
      [`${folder}/fd/0`]: '/dev/null',
      [`${folder}/fd/7`]: '/dev/nvidia-uvm',
      [`${folder}/ns/user`]: 'user:[4026531837]',
      ...change.links,
    },
    nodes: { [`${folder}/fd`]: { uid: 1000 }, ...change.nodes },
    from: { ...change.from, pid },
  };
}
