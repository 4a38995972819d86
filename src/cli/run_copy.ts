/** What the command `copy` does. */
import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs';
import type { Attachment } from '../device/attach.ts';
import { createLinuxDevice, type LinuxDevice } from '../device/linux/linux_device.ts';
import { readManagedMappings } from '../device/linux/proc.ts';
import { bestEffortText, createBestEffort } from '../live/best_effort.ts';
import { CopyError, createCopyTeam, IN_FLIGHT_DEFAULT, IN_FLIGHT_MAX } from '../live/copy_out.ts';
import { copyByRoutine, readCopyAbi } from '../live/copy_routine_client.ts';
import { managedMappingOf, parseAddress, parseBytes } from '../live/managed_range.ts';
import { attachToProcess } from '../live/target.ts';
import { EXIT_FAILED, EXIT_OK, UsageError } from './command.ts';
import type { CopyFlags } from './copy.ts';
import { bytes, colorsFor, duration } from './text.ts';

export function processId(text: string): number {
  const pid = /^\d{1,10}$/.test(text) ? Number(text) : 0;
  if (pid < 1 || pid > 2 ** 31 - 1) throw new UsageError(`--pid ${text}: expected a number from 1 to 2147483647`);
  return pid;
}

export function addressOption(option: string, text: string): bigint {
  const address = parseAddress(text);
  if (address === null) throw new UsageError(`--${option} ${text}: expected an address, 0x... or decimal`);
  return address;
}

export function lengthOption(option: string, text: string, most: bigint): bigint {
  const length = parseBytes(text);
  if (length === null || length < 1n || length > most) {
    throw new UsageError(`--${option} ${text}: expected bytes from 1 to ${most}, also as 4K, 64M, 1G`);
  }
  return length;
}

function wholeOption(option: string, text: string | undefined, fallback: number, most: number): number {
  if (text === undefined) return fallback;
  const number = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (number < 1 || number > most)
    throw new UsageError(`--${option} ${text}: expected a whole number from 1 to ${most}`);
  return number;
}

/** The file of a copy; one that nothing was written to is taken away again. */
interface Target {
  write(bytes: Uint8Array): void;
  close(keep: boolean): void;
}

function openTarget(path: string, overwrite: boolean): Target {
  let file: number;
  try {
    file = openSync(path, overwrite ? 'w' : 'wx');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'EEXIST' ? 'exists already; name another file, or add --overwrite' : message;
    throw new UsageError(`--to ${path}: ${why}`);
  }
  return {
    write: (data) => {
      for (let done = 0; done < data.length; ) done += writeSync(file, data, done);
    },
    close: (keep) => {
      closeSync(file);
      if (!keep) unlinkSync(path);
    },
  };
}

interface Session {
  device: LinuxDevice;
  attachment: Attachment;
  pid: number;
  flags: CopyFlags;
}

function rangeOf({ pid, flags }: Session): { from: bigint; length: bigint } {
  if (flags.from === undefined) throw new UsageError('--from: missing; where to copy from (0x... or decimal)');
  if (flags.length === undefined) throw new UsageError('--length: missing; how many bytes (also 4K, 64M, 1G)');
  const from = addressOption('from', flags.from);
  const length = lengthOption('length', flags.length, 2n ** 48n);
  managedMappingOf(readManagedMappings(pid), from, length, pid);
  return { from, length };
}

/** A copy by ioctl 62, several pieces side by side. */
async function copyRange(session: Session): Promise<number> {
  const { device, attachment, flags } = session;
  const { from, length } = rangeOf(session);
  const inFlight = wholeOption('in-flight', flags.inFlight, IN_FLIGHT_DEFAULT, IN_FLIGHT_MAX);
  const target = openTarget(flags.to, flags.overwrite ?? false);
  const team = await createCopyTeam(device, attachment.uvm, inFlight);
  let copied = 0;
  try {
    const nanoseconds = await team.copy(from, length, (piece) => {
      target.write(piece);
      copied += piece.length;
    });
    const rate = `${bytes(Number(length) / (nanoseconds / 1e9))}/s`;
    process.stdout.write(
      `${flags.to}: ${bytes(copied)} from 0x${from.toString(16)} in ${duration(nanoseconds / 1000)}, ${rate}, ` +
        `${inFlight} in flight; by ioctl 62, nothing moved\n`,
    );
    return EXIT_OK;
  } catch (error) {
    if (!(error instanceof CopyError)) throw error;
    process.stderr.write(`${colorsFor(process.stderr).red('error:')} ${error.message}\n`);
    if (copied > 0) process.stderr.write(`${flags.to} holds the first ${bytes(copied)}\n`);
    return EXIT_FAILED;
  } finally {
    await team.close();
    target.close(copied > 0);
  }
}

const TIMEOUT_DEFAULT = 60;

/** The page of the next fault, as well as a stock driver lets it be had. */
async function copyAtFault(session: Session): Promise<number> {
  const { device, attachment, pid, flags } = session;
  if (flags.armed !== 'best-effort') {
    throw new UsageError(
      `--armed ${flags.armed}: a stock driver has no armed copy (NV_ERR_NOT_SUPPORTED); valid: best-effort`,
    );
  }
  const seconds = wholeOption('timeout', flags.timeout, TIMEOUT_DEFAULT, 86_400);
  const address = flags.from === undefined ? null : addressOption('from', flags.from);
  if (address !== null) managedMappingOf(readManagedMappings(pid), address, 1n, pid);
  const target = openTarget(flags.to, flags.overwrite ?? false);
  let copied = false;
  try {
    const armed = await createBestEffort(device, attachment.uvm);
    try {
      const copy = armed.wait(address, seconds * 1000);
      if (copy === null) {
        const where = address === null ? 'managed memory' : `the page of 0x${address.toString(16)}`;
        process.stderr.write(`no GPU fault on ${where} within ${seconds} s; nothing copied\n`);
        return EXIT_FAILED;
      }
      if (copy.status === 0) {
        target.write(copy.bytes);
        copied = true;
      }
      process.stdout.write(`${flags.to}: ${bestEffortText(copy)}\n`);
      return copied ? EXIT_OK : EXIT_FAILED;
    } finally {
      await armed.close();
    }
  } finally {
    target.close(copied);
  }
}

/** A copy by the process's own driver, checked against ioctl 62. */
async function copyByOwnDriver(session: Session, path: string): Promise<number> {
  const { device, attachment, flags } = session;
  const abi = readCopyAbi(path);
  const { from, length } = rangeOf(session);
  const target = openTarget(flags.to, flags.overwrite ?? false);
  let copied = 0;
  try {
    const result = await copyByRoutine(device, attachment.uvm, abi, from, length, (piece) => {
      target.write(piece);
      copied += piece.length;
    });
    const check = result.differs === null ? 'ioctl 62 reads the same' : colorsFor(process.stdout).red(result.differs);
    process.stdout.write(`${flags.to}: ${bytes(copied)} by the copy routine of ${path}; ${check}\n`);
    return result.differs === null ? EXIT_OK : EXIT_FAILED;
  } finally {
    target.close(copied > 0);
  }
}

export async function runCopy(flags: CopyFlags): Promise<number> {
  const pid = processId(flags.pid);
  const device = await createLinuxDevice();
  const attachment = await attachToProcess(device, pid);
  try {
    const session: Session = { device, attachment, pid, flags };
    if (flags.armed !== undefined) return await copyAtFault(session);
    if (flags.copyAbi !== undefined) return await copyByOwnDriver(session, flags.copyAbi);
    return await copyRange(session);
  } finally {
    await device.close(attachment.uvm);
  }
}
