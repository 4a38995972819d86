/**
 * The device contract over a driver of Linux: this process talks to /dev/nvidia-uvm and /dev/nvidia-uvm-tools. What it
 * holds (descriptors, mappings) is counted, so that a program, or a test, can see that nothing is left.
 */
import { ERRNO } from '../abi/status.ts';
import { type CallerMemory, type Device, DeviceError, type DeviceFile, type MapRequest } from '../device.ts';
import { UnavailableError } from './ffi.ts';
import {
  type Libc,
  loadLibc,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  POLLERR,
  POLLIN,
  PROT_READ,
  PROT_WRITE,
} from './libc.ts';
import { DEVICE_PATH } from './paths.ts';

const PAGE = 4096;
const BLOCK = 2 ** 21;

export interface LinuxDevice extends Device {
  readonly libc: Libc;
  /** What is open or mapped through this device now. */
  holds(): { files: number; memory: number; managed: number };
}

function deviceProblem(path: string, error: unknown): unknown {
  if (!(error instanceof DeviceError)) return error;
  const why: Readonly<Record<number, string>> = {
    2: 'there is no such node: the module nvidia-uvm is not loaded, or this container was not given it',
    6: 'the node is there, but no driver is behind it',
    [ERRNO.EPERM]: 'this process may not open it',
    [ERRNO.EACCES]: "this user may not open it: see the node's mode and group",
    [ERRNO.ENODEV]: 'no driver is behind it',
  };
  const text = why[error.errno];
  return text === undefined ? error : new UnavailableError(`${path}: ${text}; uvmlab doctor says more`);
}

function wholePages(call: string, length: number): void {
  if (!Number.isSafeInteger(length) || length <= 0 || length % PAGE !== 0) throw new DeviceError(call, ERRNO.EINVAL);
}

/** An address on a 2 MiB boundary with room for a range: reserved, then given back, since the driver maps it itself. */
function freePlace(libc: Libc, length: number): bigint {
  const room = length + BLOCK;
  const at = libc.mmap(0n, room, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0n);
  libc.munmap(at, room);
  return (at + BigInt(BLOCK - 1)) & ~BigInt(BLOCK - 1);
}

/** Throws UnavailableError where there is no Linux or no way to call it; nodes are opened by `open` alone. */
export async function createLinuxDevice(): Promise<LinuxDevice> {
  const libc = await loadLibc();
  const files = new Set<number>();
  const managed = new Map<bigint, number>();
  let memory = 0;
  const opened = (device: DeviceFile['device'], fd: number): DeviceFile => {
    files.add(fd);
    return { device, fd };
  };
  const mapManaged = (file: DeviceFile, request: MapRequest): bigint => {
    const { length, shared = true, writable = true } = request;
    wholePages('mmap of managed memory', length);
    const address = request.address ?? freePlace(libc, length);
    const rights = PROT_READ | (writable ? PROT_WRITE : 0);
    const flags = (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED;
    const at = libc.mmap(address, length, rights, flags, file.fd, request.offset ?? address);
    managed.set(at, length);
    return at;
  };
  const allocate = (length: number): CallerMemory => {
    wholePages(`mmap of ${length} bytes`, length);
    const address = libc.mmap(0n, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0n);
    let bytes: Uint8Array | null = new Uint8Array(libc.view(address, length));
    memory++;
    return {
      address,
      length,
      bytes: () => {
        if (bytes === null) throw new Error('the memory was given back');
        return bytes;
      },
      close: async () => {
        if (bytes === null) return;
        bytes = null;
        memory--;
        libc.munmap(address, length);
      },
    };
  };
  return {
    pid: process.pid,
    libc,
    holds: () => ({ files: files.size, memory, managed: managed.size }),
    open: async (device) => {
      try {
        return opened(device, libc.open(DEVICE_PATH[device]));
      } catch (error) {
        throw deviceProblem(DEVICE_PATH[device], error);
      }
    },
    adopt: async (pid, fd) => {
      const pidfd = libc.pidfdOpen(pid);
      try {
        return opened('uvm', libc.pidfdGetfd(pidfd, fd));
      } finally {
        libc.close(pidfd);
      }
    },
    close: async (file) => {
      if (!files.delete(file.fd)) throw new DeviceError(`close ${file.fd}`, ERRNO.EBADF);
      libc.close(file.fd);
    },
    ioctlBytes: async (file, number, params) => libc.ioctl(file.fd, number, params),
    mapManaged: async (file, request) => mapManaged(file, request),
    unmapManaged: async (address, length) => {
      libc.munmap(address, length);
      managed.delete(address);
    },
    allocate: async (length) => allocate(length),
    poll: async (file, milliseconds) => {
      const events = await libc.pollLater(file.fd, milliseconds);
      return { readable: (events & POLLIN) !== 0, error: (events & POLLERR) !== 0 };
    },
  };
}
