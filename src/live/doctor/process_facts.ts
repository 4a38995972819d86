/** What /proc tells of one process that somebody wants to record. */
import { join } from 'node:path';
import { DEVICE_PATH } from '../../device/linux/paths.ts';
import { processAlive, processCommand } from '../../device/linux/proc.ts';
import {
  type Fact,
  mapFact,
  type ProcessStatus,
  readLink,
  readNames,
  readStatus,
  type SystemFiles,
  statPath,
} from './system_files.ts';

export interface ProcessFacts {
  pid: number;
  /** Whether /proc shows it and it is no zombie. */
  alive: boolean;
  /** Its program; null where it has no arguments to read. */
  program: string | null;
  status: Fact<ProcessStatus>;
  /** Who owns /proc/PID/fd: its effective user while it is dumpable, else root. */
  fdOwner: Fact<number>;
  /** Descriptors that are open files of /dev/nvidia-uvm. */
  uvmFds: Fact<number[]>;
  userNamespace: Fact<string>;
}

/** A link that may not be read makes the list unknown; one that has gone meanwhile does not. */
function uvmDescriptors(files: SystemFiles, folder: string): Fact<number[]> {
  const names = readNames(files, folder);
  if ('errno' in names) return names;
  const fds: number[] = [];
  for (const name of names.value) {
    const target = readLink(files, `${folder}/${name}`);
    if ('errno' in target) {
      if (target.errno !== 'ENOENT') return target;
    } else if (target.value === DEVICE_PATH.uvm) {
      fds.push(Number(name));
    }
  }
  return { value: fds.sort((a, b) => a - b) };
}

export function gatherProcess(files: SystemFiles, pid: number): ProcessFacts {
  const folder = `/proc/${pid}`;
  const proc = join(files.root, 'proc');
  return {
    pid,
    alive: processAlive(pid, proc),
    program: processCommand(pid, proc)?.[0] ?? null,
    status: readStatus(files, `${folder}/status`),
    fdOwner: mapFact(statPath(files, `${folder}/fd`), ({ uid }) => uid),
    uvmFds: uvmDescriptors(files, `${folder}/fd`),
    userNamespace: readLink(files, `${folder}/ns/user`),
  };
}
