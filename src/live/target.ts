/**
 * Attaching to another process on Linux, with the rule that forbids it where it is forbidden. How the file is found:
 * device/attach.ts.
 */
import { ERRNO } from '../device/abi/status.ts';
import { AttachError, type Attachment, attachVaSpace } from '../device/attach.ts';
import { DeviceError } from '../device/device.ts';
import type { LinuxDevice } from '../device/linux/linux_device.ts';
import { processAlive, processCommand, readUvmFds } from '../device/linux/proc.ts';

/** A process as messages name it: its number and program. */
function named(pid: number): string {
  const program = processCommand(pid)?.[0];
  return program === undefined ? `process ${pid}` : `process ${pid} (${program})`;
}

function refused(pid: number, call: string): AttachError {
  return new AttachError(
    `${named(pid)}: this user may not take its descriptors (${call}): Linux allows that to its parent where ` +
      'kernel.yama.ptrace_scope is 0 or 1, and to others of the same user where it is 0, or with CAP_SYS_PTRACE; ' +
      `uvmlab doctor --pid ${pid} says which rule it is`,
  );
}

function descriptors(pid: number): number[] {
  try {
    return readUvmFds(pid);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') throw refused(pid, `/proc/${pid}/fd cannot be read`);
    throw gone(pid);
  }
}

function gone(pid: number): AttachError {
  return new AttachError(`process ${pid}: there is no such process (any more)`);
}

/**
 * The VA space of process `pid`, or null when it has none yet. Throws AttachError when there is no such process, when
 * it may not be touched, or when the driver's answers are unknown.
 */
export async function tryAttach(device: LinuxDevice, pid: number): Promise<Attachment | null> {
  if (!Number.isSafeInteger(pid) || pid <= 0 || pid > 2 ** 31 - 1) {
    throw new AttachError(`process ${pid}: expected a number from 1 to 2147483647`);
  }
  if (!processAlive(pid)) throw gone(pid);
  const fds = descriptors(pid);
  if (fds.length === 0) return null;
  try {
    return await attachVaSpace(device, pid, fds);
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    if (error.errno === ERRNO.EPERM) throw refused(pid, 'pidfd_getfd');
    if (error.errno === ERRNO.ESRCH) throw gone(pid);
    if (error.errno === ERRNO.ENOSYS) {
      throw new AttachError(`${named(pid)}: this kernel has no pidfd_getfd; Linux 5.6 and later have it`);
    }
    throw error;
  }
}

/** As tryAttach, for a process that is expected to have a VA space. */
export async function attachToProcess(device: LinuxDevice, pid: number): Promise<Attachment> {
  const attachment = await tryAttach(device, pid);
  if (attachment !== null) return attachment;
  const open = readUvmFds(pid).length;
  throw new AttachError(
    open === 0
      ? `${named(pid)} has no open /dev/nvidia-uvm: it is no CUDA program, or has not started CUDA yet`
      : `${named(pid)} has /dev/nvidia-uvm open, but no VA space behind it: CUDA has not started yet, or has ended`,
  );
}
