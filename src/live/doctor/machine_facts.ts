/**
 * What this machine has of all that working with the real driver needs, as plain facts: no judgement, nothing changed.
 * Device nodes are looked at and opened once, and closed again; nothing is asked of the driver.
 */
import { DeviceError } from '../../device/device.ts';
import { loadKoffi, UnavailableError } from '../../device/linux/ffi.ts';
import { loadLibc } from '../../device/linux/libc.ts';
import { DEVICE_PATH } from '../../device/linux/paths.ts';
import { type GpuInformation, parseDriverVersion, readGpus } from '../../device/linux/proc.ts';
import { gatherProcess, type ProcessFacts } from './process_facts.ts';
import {
  type Fact,
  known,
  mapFact,
  type NodeStat,
  openProblem,
  type ProcessStatus,
  readLink,
  readNames,
  readStatus,
  readText,
  type SystemFiles,
  statPath,
  systemFiles,
} from './system_files.ts';

export interface NodeFacts {
  path: string;
  stat: Fact<NodeStat>;
  /** The name of its group; null where it has none. */
  group: string | null;
  /** The errno with which opening it for reading and writing fails, or null. Not tried unless it is a device. */
  openErrno: string | null;
}

export interface LibraryFacts {
  /** Places of libcuda.so.1 that exist and that the loader looks at, in the order of its search. */
  found: string[];
  /** Places where it is, but the loader does not look. */
  aside: string[];
  /** Why the loader's cache could not be read, or null. */
  cacheErrno: string | null;
}

export interface MachineFacts {
  platform: string;
  arch: string;
  /** As 20.19.4. */
  nodeVersion: string;
  /** What hinders loading the package koffi, or null. */
  ffiProblem: string | null;
  /** Errno name of a pidfd_getfd of no descriptor: EBADF where the call is there and allowed; null: not tried. */
  pidfdGetfdErrno: string | null;
  kernel: Fact<string>;
  /** Of /proc/driver/nvidia/version; value null where the text has no version. */
  driver: Fact<string | null>;
  /** Whether /sys/module/nvidia_uvm is there. */
  uvmLoaded: Fact<boolean>;
  /** Of /sys/module/nvidia_uvm/version. */
  uvmVersion: Fact<string>;
  /** Major number of nvidia-uvm in /proc/devices; value null where it is not listed. */
  major: Fact<number | null>;
  nodes: { uvm: NodeFacts; tools: NodeFacts };
  parameters: Fact<Record<string, Fact<string>>>;
  gpus: Fact<GpuInformation[]>;
  libcuda: LibraryFacts;
  /** kernel.yama.ptrace_scope; ENOENT where the kernel has no Yama. */
  yama: Fact<number>;
  self: Fact<ProcessStatus>;
  /** The lines of /proc/self/uid_map, blanks made single. */
  uidMap: Fact<string[]>;
  userNamespace: Fact<string>;
  /** Signs that this is a container, as paths and what they say. */
  containerSigns: string[];
  /** The chosen word of /sys/kernel/mm/transparent_hugepage/enabled. */
  hugePages: Fact<string>;
  /** Bytes of a CPU page; value null where the auxiliary vector does not say. */
  cpuPage: Fact<number | null>;
  process: ProcessFacts | null;
}

/** The system that is looked at. What is left out is this machine's. */
export interface FactsFrom {
  root?: string;
  platform?: string;
  arch?: string;
  nodeVersion?: string;
  env?: Readonly<Record<string, string | undefined>>;
  files?: SystemFiles;
  /** What hinders loading koffi, or null. */
  ffi?: () => Promise<string | null>;
  /** Calls pidfd_getfd with descriptors that do not exist; gives the errno's name. Called where koffi loads. */
  pidfdGetfd?: () => Promise<string | null>;
  /** A process to look at as well. */
  pid?: number;
}

async function loadProblem(): Promise<string | null> {
  try {
    await loadKoffi();
    return null;
  } catch (error) {
    if (error instanceof UnavailableError) return error.message;
    throw error;
  }
}

/** Linux looks at the descriptors last: EBADF says that neither the kernel nor a seccomp filter refuses the call. */
async function callPidfdGetfd(): Promise<string | null> {
  try {
    (await loadLibc()).pidfdGetfd(-1, -1);
    return null;
  } catch (error) {
    if (error instanceof UnavailableError) return null;
    if (!(error instanceof DeviceError)) throw error;
    const names: Readonly<Record<number, string>> = { 1: 'EPERM', 9: 'EBADF', 13: 'EACCES', 38: 'ENOSYS' };
    return names[error.errno] ?? `errno ${error.errno}`;
  }
}

/** The major number of a character device in the text of /proc/devices, or null. */
function majorOf(text: string, name: string): number | null {
  const [characters] = text.split('Block devices:');
  for (const line of characters.split('\n')) {
    const [major, of] = line.trim().split(/\s+/);
    if (of === name) return Number(major);
  }
  return null;
}

function groupName(files: SystemFiles, gid: number): string | null {
  for (const line of (known(readText(files, '/etc/group')) ?? '').split('\n')) {
    const [name, , id] = line.split(':');
    if (id === String(gid)) return name;
  }
  return null;
}

function nodeFacts(files: SystemFiles, path: string): NodeFacts {
  const stat = statPath(files, path);
  const found = known(stat);
  return {
    path,
    stat,
    group: found === null ? null : groupName(files, found.gid),
    openErrno: found?.character === true ? openProblem(files, path) : null,
  };
}

function moduleParameters(files: SystemFiles): MachineFacts['parameters'] {
  const folder = '/sys/module/nvidia_uvm/parameters';
  return mapFact(readNames(files, folder), (names) =>
    Object.fromEntries(
      names.map((name) => [name, mapFact(readText(files, `${folder}/${name}`), (text) => text.trim())]),
    ),
  );
}

const LIBRARY_FOLDERS = [
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/lib/x86_64-linux-gnu',
  '/lib/aarch64-linux-gnu',
  '/usr/lib64',
  '/lib64',
  '/usr/lib',
];
/** Where containers, CUDA and other systems have it; the loader looks there when it is told to. */
const OTHER_FOLDERS = ['/usr/local/nvidia/lib64', '/usr/local/cuda/compat', '/run/opengl-driver/lib'];
const CUDA_LIBRARY = 'libcuda.so.1';

/** Where the loader would look: LD_LIBRARY_PATH, its cache, the usual folders. Nothing is loaded. */
function libraryFacts(files: SystemFiles, env: FactsFrom['env']): LibraryFacts {
  const cache = readText(files, '/etc/ld.so.cache');
  // The cache is a table of strings that end in a zero byte; a path stands in it whole.
  const cached = (known(cache) ?? '').split('\0').filter((text) => text.endsWith(`/${CUDA_LIBRARY}`));
  const folders = [...(env?.LD_LIBRARY_PATH ?? '').split(':').filter((one) => one.startsWith('/')), ...LIBRARY_FOLDERS];
  const places = [
    ...folders.map((folder) => `${folder}/${CUDA_LIBRARY}`),
    ...cached.map((text) => text.slice(text.indexOf('/'))),
  ];
  const there = (paths: string[]) => [...new Set(paths)].filter((path) => known(statPath(files, path)) !== null);
  const found = there(places);
  const others = there(OTHER_FOLDERS.map((folder) => `${folder}/${CUDA_LIBRARY}`));
  return {
    found,
    aside: others.filter((path) => !found.includes(path)),
    cacheErrno: 'errno' in cache ? cache.errno : null,
  };
}

const CONTAINER_CGROUP = /docker|kubepods|containerd|libpod|lxc|crio/;

function containerSigns(files: SystemFiles): string[] {
  const signs = ['/.dockerenv', '/run/.containerenv'].filter((path) => known(statPath(files, path)) !== null);
  const line = (known(readText(files, '/proc/self/cgroup')) ?? '')
    .split('\n')
    .find((one) => CONTAINER_CGROUP.test(one));
  return line === undefined ? signs : [...signs, `/proc/self/cgroup says ${line}`];
}

/** AT_PAGESZ of the auxiliary vector, whose entries are two 64-bit words. */
function pageSize(text: string): number | null {
  const bytes = Buffer.from(text, 'latin1');
  for (let at = 0; at + 16 <= bytes.length; at += 16) {
    if (bytes.readBigUInt64LE(at) === 6n) return Number(bytes.readBigUInt64LE(at + 8));
  }
  return null;
}

function versionFacts(
  files: SystemFiles,
): Pick<MachineFacts, 'kernel' | 'driver' | 'uvmLoaded' | 'uvmVersion' | 'major'> {
  const trimmed = (path: string): Fact<string> => mapFact(readText(files, path), (text) => text.trim());
  const module = statPath(files, '/sys/module/nvidia_uvm');
  return {
    kernel: trimmed('/proc/sys/kernel/osrelease'),
    driver: mapFact(readText(files, '/proc/driver/nvidia/version'), parseDriverVersion),
    uvmLoaded: 'errno' in module && module.errno === 'ENOENT' ? { value: false } : mapFact(module, () => true),
    uvmVersion: trimmed('/sys/module/nvidia_uvm/version'),
    major: mapFact(readText(files, '/proc/devices'), (text) => majorOf(text, 'nvidia-uvm')),
  };
}

function rightsFacts(files: SystemFiles): Pick<MachineFacts, 'yama' | 'self' | 'uidMap' | 'userNamespace'> {
  return {
    yama: mapFact(readText(files, '/proc/sys/kernel/yama/ptrace_scope'), (text) => Number(text)),
    self: readStatus(files, '/proc/self/status'),
    uidMap: mapFact(readText(files, '/proc/self/uid_map'), (text) =>
      text
        .split('\n')
        .map((line) => line.trim().replace(/\s+/g, ' '))
        .filter((line) => line !== ''),
    ),
    userNamespace: readLink(files, '/proc/self/ns/user'),
  };
}

/** Looks at a system. Throws nothing of the file system's: what cannot be read is a fact with its errno. */
export async function gatherFacts(from: FactsFrom = {}): Promise<MachineFacts> {
  const { root = '/', pid, ffi = loadProblem, pidfdGetfd = callPidfdGetfd } = from;
  const { platform = process.platform, arch = process.arch, nodeVersion = process.versions.node } = from;
  const files = from.files ?? systemFiles(root);
  const ffiProblem = await ffi();
  return {
    platform,
    arch,
    nodeVersion,
    ffiProblem,
    pidfdGetfdErrno: ffiProblem === null ? await pidfdGetfd() : null,
    ...versionFacts(files),
    nodes: { uvm: nodeFacts(files, DEVICE_PATH.uvm), tools: nodeFacts(files, DEVICE_PATH.tools) },
    parameters: moduleParameters(files),
    gpus: mapFact(readNames(files, '/proc/driver/nvidia/gpus'), () => readGpus(files.root)),
    libcuda: libraryFacts(files, from.env ?? process.env),
    ...rightsFacts(files),
    containerSigns: containerSigns(files),
    hugePages: mapFact(readText(files, '/sys/kernel/mm/transparent_hugepage/enabled'), (text) => {
      return /\[(\w+)\]/.exec(text)?.[1] ?? text.trim();
    }),
    cpuPage: mapFact(readText(files, '/proc/self/auxv'), pageSize),
    process: pid === undefined ? null : gatherProcess(files, pid),
  };
}
