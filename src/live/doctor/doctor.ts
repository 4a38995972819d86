/**
 * From the facts of a machine to what they mean for working with the real driver: what is there, what is missing, which
 * rule blocks it and what to do. Nothing is looked at here, so that a test can ask about any machine.
 */
import { posix } from 'node:path';
import { platformProblem } from '../../device/linux/ffi.ts';
import { driverFindings, inContainer } from './doctor_driver.ts';
import { processFindings, rightsFindings } from './doctor_rights.ts';
import { absent, type Finding, type Topic, unreadable } from './finding.ts';
import type { MachineFacts } from './machine_facts.ts';
import { known } from './system_files.ts';

/** What recording cannot do without; of the last two, one. */
const NEEDED: readonly Topic[] = ['platform', 'Node', 'koffi', 'driver', 'nvidia-uvm', 'device node', 'pidfd_getfd'];

/** Compares the first two numbers of a version: whether it is at least `major.minor`; null when it has none. */
function atLeast(version: string, major: number, minor: number): boolean | null {
  const match = /^v?(\d+)\.(\d+)/.exec(version);
  if (match === null) return null;
  return Number(match[1]) > major || (Number(match[1]) === major && Number(match[2]) >= minor);
}

function platformFinding({ platform, arch, kernel }: MachineFacts): Finding {
  const topic = 'platform';
  const problem = platformProblem(platform, arch);
  if (problem !== null) {
    const rule = 'the client speaks to the nvidia-uvm driver of Linux';
    return { topic, state: 'missing', what: `${platform} ${arch}: only the model works here`, rule };
  }
  if (/microsoft/i.test(known(kernel) ?? '')) {
    const rule = "Linux inside of Windows has Windows' driver, and no nvidia-uvm";
    return { topic, state: 'missing', what: 'Linux inside of Windows (WSL): only the model works here', rule };
  }
  if (arch === 'x64') return { topic, state: 'ok', what: 'Linux x86-64, which the client is written for' };
  return {
    topic,
    state: 'limited',
    what: "Linux arm64: the driver's layouts are the same as on x86-64, but nobody has verified it",
  };
}

function nodeFinding({ nodeVersion }: MachineFacts): Finding {
  const topic = 'Node';
  const enough = atLeast(nodeVersion, 20, 19);
  if (enough === null) return { topic, state: 'unknown', what: `Node ${nodeVersion}` };
  if (enough) return { topic, state: 'ok', what: `Node ${nodeVersion}` };
  return {
    topic,
    state: 'missing',
    what: `Node ${nodeVersion}`,
    rule: 'uvmlab needs 20.19',
    todo: 'install Node 20.19 or later',
  };
}

function ffiFinding({ ffiProblem }: MachineFacts): Finding {
  const topic = 'koffi';
  if (ffiProblem === null)
    return { topic, state: 'ok', what: 'the package koffi, which calls into Linux, can be loaded' };
  return { topic, state: 'missing', what: ffiProblem, todo: 'npm install koffi' };
}

function containerFinding(facts: MachineFacts): Finding {
  const topic = 'container';
  if (!inContainer(facts)) return { topic, state: 'ok', what: 'no sign of a container' };
  const signs = facts.containerSigns.join(', ');
  return { topic, state: 'ok', what: `a container (${signs}): whoever starts it decides about nodes and rights` };
}

function libcudaFinding({ libcuda }: MachineFacts): Finding {
  const topic = 'libcuda';
  const { found, aside, cacheErrno } = libcuda;
  if (found.length > 0) return { topic, state: 'ok', what: found.join(', ') };
  const where = 'in LD_LIBRARY_PATH and the usual folders';
  if (aside.length > 0) {
    return {
      topic,
      state: 'limited',
      what: `${aside.join(', ')}, which the loader may not find: it is in a folder of its own`,
      todo: `export LD_LIBRARY_PATH=${posix.dirname(aside[0])}`,
    };
  }
  if (cacheErrno !== null && cacheErrno !== 'ENOENT') {
    return {
      topic,
      state: 'unknown',
      what: `no libcuda.so.1 ${where}; /etc/ld.so.cache cannot be read (${cacheErrno})`,
    };
  }
  return {
    topic,
    state: 'missing',
    what: `no libcuda.so.1 ${where}, nor in the cache of the loader: CUDA programs need it`,
    todo: "install the driver's user part (libcuda1, or the NVIDIA container toolkit for a container)",
  };
}

function memoryFindings({ cpuPage, hugePages }: MachineFacts): Finding[] {
  const topic = 'CPU memory';
  const out: Finding[] = [];
  const size = known(cpuPage);
  if (size === null) {
    const unread = unreadable(topic, '/proc/self/auxv', cpuPage);
    out.push(unread ?? { topic, state: 'unknown', what: '/proc/self/auxv does not say the size of a page' });
  } else if (size !== 4096) {
    const rule = 'the client, the model and its events count in pages of 4 KiB';
    out.push({ topic, state: 'limited', what: `CPU pages of ${size} bytes: not verified`, rule });
  } else {
    out.push({ topic, state: 'ok', what: 'CPU pages of 4 KiB' });
  }
  const path = '/sys/kernel/mm/transparent_hugepage/enabled';
  if (absent(hugePages)) out.push({ topic, state: 'ok', what: 'this kernel has no transparent huge pages' });
  else if ('errno' in hugePages)
    out.push({ topic, state: 'unknown', what: `${path} cannot be read (${hugePages.errno})` });
  else out.push({ topic, state: 'ok', what: `transparent huge pages: ${hugePages.value}` });
  return out;
}

const FILTER_TODO =
  'start the container with --cap-add SYS_PTRACE, with which the filter of Docker allows it, or with ' +
  '--security-opt seccomp=unconfined';

/** The call by which descriptors are taken over: the kernel has it from 5.6 on, and a seccomp filter may refuse it. */
function callFinding(facts: MachineFacts): Finding {
  const topic = 'pidfd_getfd';
  const { kernel, pidfdGetfdErrno } = facts;
  const release = known(kernel);
  const newEnough = release === null ? null : atLeast(release, 5, 6);
  const seccomp = known(facts.self)?.seccomp ?? null;
  const linux = `Linux ${release ?? '(release unknown)'}`;
  if (newEnough === false) {
    const rule = 'the call that takes over descriptors came with Linux 5.6';
    return { topic, state: 'missing', what: `${linux} has no pidfd_getfd`, rule, todo: 'use a newer kernel' };
  }
  if (pidfdGetfdErrno === 'EBADF') {
    const filter = seccomp === 2 ? '; the seccomp filter in force lets it through' : '';
    return { topic, state: 'ok', what: `${linux} answers the call${filter}` };
  }
  if (pidfdGetfdErrno === 'ENOSYS' || pidfdGetfdErrno === 'EPERM' || pidfdGetfdErrno === 'EACCES') {
    const what = `${linux} refuses the call: ${pidfdGetfdErrno}`;
    if (pidfdGetfdErrno === 'ENOSYS' && (newEnough === null || seccomp === 0)) return { topic, state: 'missing', what };
    const rule = `a filter of system calls${seccomp === 2 ? ' (seccomp, mode 2)' : ''}, as containers have it`;
    return { topic, state: 'missing', what, rule, todo: FILTER_TODO };
  }
  if (pidfdGetfdErrno !== null) {
    return { topic, state: 'unknown', what: `${linux} answers the call with ${pidfdGetfdErrno}` };
  }
  const unread = unreadable(topic, '/proc/sys/kernel/osrelease', kernel);
  if (unread !== null) return unread;
  if (newEnough === null)
    return { topic, state: 'unknown', what: `${linux}: no release that can be compared with 5.6` };
  if (seccomp === 0) return { topic, state: 'ok', what: `${linux} has it, and no seccomp filter is in force` };
  const rule = 'a seccomp filter may refuse it';
  const filter = seccomp === null ? 'whether there is a filter is not known' : 'a filter is in force';
  const what = `${linux} has it; ${filter}`;
  return { topic, state: 'unknown', what: `${what}, and the call could not be tried`, rule, todo: FILTER_TODO };
}

/** All findings, in the order in which they are shown. Elsewhere than on Linux, Linux is not asked about. */
export function diagnose(facts: MachineFacts): Finding[] {
  const out = [platformFinding(facts), nodeFinding(facts)];
  if (facts.platform !== 'linux') return out;
  out.push(ffiFinding(facts), containerFinding(facts), ...driverFindings(facts));
  out.push(libcudaFinding(facts), ...memoryFindings(facts), callFinding(facts), ...rightsFindings(facts));
  if (facts.process !== null) out.push(...processFindings(facts, facts.process));
  return out;
}

/** The findings that hinder recording: of the process where one was asked about, else of a program to be started. */
export function hindrances(findings: readonly Finding[]): Finding[] {
  const last: Topic = findings.some(({ topic }) => topic === 'process') ? 'process' : 'record -- COMMAND';
  const bad = ({ state }: Finding) => state === 'missing' || state === 'unknown';
  return findings.filter((one) => bad(one) && (NEEDED.includes(one.topic) || one.topic === last));
}
