/** What the command `copy` does. */
import { closeSync, existsSync, openSync, unlinkSync, writeSync } from 'node:fs';
import type { Attachment } from '../device/attach.ts';
import { createLinuxDevice, type LinuxDevice } from '../device/linux/linux_device.ts';
import { readManagedMappings } from '../device/linux/proc.ts';
import { bestEffortText, createBestEffort } from '../live/memory/best_effort.ts';
import { CopyError, createCopyTeam, IN_FLIGHT_DEFAULT, IN_FLIGHT_MAX } from '../live/memory/copy_out.ts';
import { copyByRoutine, readCopyAbi } from '../live/memory/copy_routine_client.ts';
import { managedMappingOf, parseAddress, parseBytes } from '../live/memory/managed_range.ts';
import { attachToProcess } from '../live/target.ts';
import { EXIT_FAILED, EXIT_OK, UsageError, wholeNumber } from './command.ts';
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

const TAKEN = 'exists already; name another file, or add --overwrite';

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
    const why = code === 'EEXIST' ? TAKEN : message;
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

const LENGTH_MAX = 2n ** 48n;
const TIMEOUT_DEFAULT = 60;

/** What is asked for, checked before the process is looked for. */
interface Wanted {
  pid: number;
  flags: CopyFlags;
  /** Null where an armed copy takes the next fault anywhere. */
  from: bigint | null;
  length: bigint;
  inFlight: number;
  /** How long an armed copy waits, seconds. */
  timeout: number;
}

function wanted(flags: CopyFlags): Wanted {
  const pid = processId(flags.pid);
  const { armed, from, length, to, overwrite = false } = flags;
  if (armed !== undefined && armed !== 'best-effort') {
    throw new UsageError(
      `--armed ${armed}: a stock driver has no armed copy (NV_ERR_NOT_SUPPORTED); valid: best-effort`,
    );
  }
  for (const option of ['length', 'copyAbi', 'inFlight'] as const) {
    if (armed === undefined || flags[option] === undefined) continue;
    const name = { length: 'length', copyAbi: 'copy-abi', inFlight: 'in-flight' }[option];
    throw new UsageError(`--${name} beside --armed: an armed copy is of one page, made by ioctl 62`);
  }
  if (armed === undefined && from === undefined) {
    throw new UsageError('--from: missing; where to copy from (0x... or decimal)');
  }
  if (armed === undefined && length === undefined) {
    throw new UsageError('--length: missing; how many bytes (also 4K, 64M, 1G)');
  }
  const want: Wanted = {
    pid,
    flags,
    from: from === undefined ? null : addressOption('from', from),
    length: length === undefined ? 1n : lengthOption('length', length, LENGTH_MAX),
    inFlight: wholeNumber('in-flight', flags.inFlight, 1, IN_FLIGHT_MAX) ?? IN_FLIGHT_DEFAULT,
    timeout: wholeNumber('timeout', flags.timeout, 1, 86_400) ?? TIMEOUT_DEFAULT,
  };
  if (!overwrite && existsSync(to)) throw new UsageError(`--to ${to}: ${TAKEN}`);
  return want;
}

interface Session extends Wanted {
  device: LinuxDevice;
  attachment: Attachment;
}

/** The range of a copy that is not armed, which has a place to begin at. */
function rangeOf({ pid, from: place, length }: Session): { from: bigint; length: bigint } {
  const from = place ?? 0n;
  managedMappingOf(readManagedMappings(pid), from, length, pid);
  return { from, length };
}

/** A copy by ioctl 62, several pieces side by side. */
async function copyRange(session: Session): Promise<number> {
  const { device, attachment, flags, inFlight } = session;
  const { from, length } = rangeOf(session);
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

/** The page of the next fault, as well as a stock driver lets it be had. */
async function copyAtFault(session: Session): Promise<number> {
  const { device, attachment, pid, flags, from: address, timeout: seconds } = session;
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
  const want = wanted(flags);
  const device = await createLinuxDevice();
  const attachment = await attachToProcess(device, want.pid);
  try {
    const session: Session = { ...want, device, attachment };
    if (flags.armed !== undefined) return await copyAtFault(session);
    if (flags.copyAbi !== undefined) return await copyByOwnDriver(session, flags.copyAbi);
    return await copyRange(session);
  } finally {
    await device.close(attachment.uvm);
  }
}
