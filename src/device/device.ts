/**
 * The contract between a program and the driver: open files of the two devices, ioctls, memory, polling. One program
 * text runs over the model (src/device/model/model_device.ts) and over a driver of Linux.
 *
 * All calls are asynchronous. Over the model they take virtual time: a call runs the model until the driver would
 * return. Over Linux they take real time. Calls on one device are carried out in the order in which they were made.
 *
 * What comes back how: the driver's answer to an ioctl, `rmStatus`, is a value; so is the errno of an ioctl, which says
 * that it did not reach the driver's routine. Every other call that fails throws DeviceError with the errno.
 */
import type { Ioctl, IoctlDevice } from './abi/ioctls.ts';
import { type AnyLayout, decode, encode, type InputOf, type ParamsOf } from './abi/layout.ts';
import { errnoName, NV_OK, statusText } from './abi/status.ts';

/** An open file. `fd` is its number in the device's process: what `uvmFd` parameters take. */
export interface DeviceFile {
  readonly device: IoctlDevice;
  readonly fd: number;
}

/** Page-aligned, zeroed memory of the program that the driver can write to. */
export interface CallerMemory {
  readonly address: bigint;
  readonly length: number;
  /** The memory itself, no copy. Throws when the memory has been given back. */
  bytes(): Uint8Array;
  close(): Promise<void>;
}

/** How managed memory is mapped. */
export interface MapRequest {
  /** Bytes, whole pages. */
  length: number;
  /** Where, page aligned; chosen on a 2 MiB boundary when it is left out. */
  address?: bigint;
  /** The driver takes none but the address itself, which is the default. */
  offset?: bigint;
  /** The driver takes none but shared and writable mappings, which are the default. */
  shared?: boolean;
  writable?: boolean;
}

export interface PollResult {
  /** As many entries wait as the notification threshold says. */
  readable: boolean;
  /** The driver has failed, or the file is no event queue. */
  error: boolean;
}

/** The driver as one process sees it. */
export interface Device {
  readonly pid: number;
  /** Opens /dev/nvidia-uvm or /dev/nvidia-uvm-tools. */
  open(device: IoctlDevice): Promise<DeviceFile>;
  /**
   * A file of this process for file `fd` of another one (pidfd_getfd): both are the same open file. ESRCH without such
   * a process, EBADF without such a file.
   */
  adopt(pid: number, fd: number): Promise<DeviceFile>;
  /** Closes it; the last close of an open file is the driver's release. EBADF when it is closed already. */
  close(file: DeviceFile): Promise<void>;
  /** An ioctl byte for byte: `params` is read and written in place. Returns 0 or an errno. */
  ioctlBytes(file: DeviceFile, number: number, params: Uint8Array): Promise<number>;
  /**
   * Maps managed memory (mmap of /dev/nvidia-uvm) and returns its address. EEXIST where something is mapped already;
   * else what the driver says: EBADFD, EOPNOTSUPP, EINVAL.
   */
  mapManaged(file: DeviceFile, request: MapRequest): Promise<bigint>;
  /** Unmaps managed memory, also a part of a mapping: that is how it is freed. */
  unmapManaged(address: bigint, length: number): Promise<void>;
  /** Memory for parameters that are addresses: rings, control buffers, tables. */
  allocate(length: number): Promise<CallerMemory>;
  /** Waits until a tools file is readable or `milliseconds` have passed. */
  poll(file: DeviceFile, milliseconds: number): Promise<PollResult>;
}

/** A call that failed: open, mmap and others, but never an ioctl. */
export class DeviceError extends Error {
  override name = 'DeviceError';
  readonly errno: number;
  constructor(call: string, errno: number) {
    super(`${call}: ${errnoName(errno)}`);
    this.errno = errno;
  }
}

/** An ioctl that the driver refused (`status`), or that did not reach its routine (`errno`). */
export class IoctlError extends Error {
  override name = 'IoctlError';
  readonly errno: number;
  /** NV_OK when the errno says it all. */
  readonly status: number;
  constructor(call: Ioctl, errno: number, status: number) {
    const why = errno !== 0 ? errnoName(errno) : statusText(status);
    super(`${call.name} (ioctl ${call.number}): ${why}`);
    this.errno = errno;
    this.status = status;
  }
}

/** What an ioctl came to. */
export interface IoctlResult<L> {
  /** 0 when the driver's routine answered; otherwise `params` are as they went in. */
  errno: number;
  /** `rmStatus` of the parameters. */
  status: number;
  params: ParamsOf<L>;
}

/** Makes an ioctl and gives its parameters as the driver left them, whatever it said. */
export async function ioctlResult<L extends AnyLayout>(
  device: Device,
  file: DeviceFile,
  call: Ioctl<L>,
  input: InputOf<L>,
): Promise<IoctlResult<L>> {
  const bytes = encode(call.params, input);
  const errno = await device.ioctlBytes(file, call.number, bytes);
  const params = decode(call.params, bytes);
  return { errno, status: (params as unknown as { rmStatus: number }).rmStatus, params };
}

/** Makes an ioctl and gives its parameters; IoctlError for an errno or any status but NV_OK. */
export async function ioctl<L extends AnyLayout>(
  device: Device,
  file: DeviceFile,
  call: Ioctl<L>,
  input: InputOf<L>,
): Promise<ParamsOf<L>> {
  const { errno, status, params } = await ioctlResult(device, file, call, input);
  if (errno !== 0 || status !== NV_OK) throw new IoctlError(call, errno, status);
  return params;
}
