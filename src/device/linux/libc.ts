/**
 * The calls of Linux that the client needs. Each gives its result or throws DeviceError with the errno, but for ioctl,
 * whose errno is a value.
 */
import { DeviceError } from '../device.ts';
import { type Koffi, type Library, loadKoffi, UnavailableError, viewMemory } from './ffi.ts';

export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 1;
export const MAP_PRIVATE = 2;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_FIXED_NOREPLACE = 0x100000;

const MAP_FAILED = 2n ** 64n - 1n;
const O_RDWR = 2;
const O_CLOEXEC = 0o2000000;
/** Numbers of the system calls that C libraries do not wrap; the same on x86-64 and arm64. */
const SYS_PIDFD_OPEN = 434;
const SYS_PIDFD_GETFD = 438;
export const POLLIN = 1;
export const POLLERR = 8;

export interface Libc {
  open(path: string): number;
  close(fd: number): void;
  /** 0 or the errno; `params` is read and written in place, and may be an address. */
  ioctl(fd: number, request: number, params: Uint8Array | bigint): number;
  mmap(address: bigint, length: number, protection: number, flags: number, fd: number, offset: bigint): bigint;
  munmap(address: bigint, length: number): void;
  pidfdOpen(pid: number): number;
  pidfdGetfd(pidfd: number, fd: number): number;
  /** The events of one descriptor (POLLIN, POLLERR), 0 when the time is over. Blocks the thread. */
  poll(fd: number, milliseconds: number): number;
  /** The same, on a thread of its own. */
  pollLater(fd: number, milliseconds: number): Promise<number>;
  sleepMicroseconds(microseconds: number): void;
  /** CLOCK_MONOTONIC_RAW in nanoseconds, the clock of the driver's events; exact below 2^53. */
  clockRaw(): number;
  view(address: bigint, length: number): ArrayBuffer;
}

/** fd, events and revents of a struct pollfd. */
function pollfd(fd: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, fd, true);
  view.setInt16(4, POLLIN, true);
  return bytes;
}

const revents = (bytes: Uint8Array): number => new DataView(bytes.buffer).getInt16(6, true);

const CLOCK_MONOTONIC_RAW = 4;

function bind(koffi: Koffi, lib: Library): Libc {
  const openC = lib.func('int open(const char *path, int flags)');
  const closeC = lib.func('int close(int fd)');
  const ioctlC = lib.func('int ioctl(int fd, unsigned long request, void *params)');
  const mmapC = lib.func<number | bigint>(
    'uintptr_t mmap(uintptr_t addr, size_t n, int prot, int flags, int fd, int64_t off)',
  );
  const munmapC = lib.func('int munmap(uintptr_t addr, size_t n)');
  const syscallC = lib.func<number | bigint>('long syscall(long number, long a, long b, long c)');
  const pollC = lib.func('int poll(_Inout_ void *fds, unsigned long n, int timeout)');
  const usleepC = lib.func('int usleep(unsigned int us)');
  const clockC = lib.func('int clock_gettime(int clock, void *time)');
  const check = (call: string, result: number): number => {
    if (result < 0) throw new DeviceError(call, koffi.errno());
    return result;
  };
  const time = new Uint8Array(16);
  const timeView = new DataView(time.buffer);
  const raw = (value: number | bigint): bigint => BigInt.asUintN(64, BigInt(value));
  return {
    open: (path) => check(`open ${path}`, openC(path, O_RDWR | O_CLOEXEC)),
    close: (fd) => void check(`close ${fd}`, closeC(fd)),
    ioctl: (fd, request, params) => (ioctlC(fd, request, params) < 0 ? koffi.errno() : 0),
    mmap: (address, length, protection, flags, fd, offset) => {
      const at = raw(mmapC(address, length, protection, flags, fd, offset));
      if (at === MAP_FAILED) throw new DeviceError(`mmap of ${length} bytes`, koffi.errno());
      return at;
    },
    munmap: (address, length) => void check(`munmap of ${length} bytes`, munmapC(address, length)),
    pidfdOpen: (pid) => check(`pidfd_open ${pid}`, Number(syscallC(SYS_PIDFD_OPEN, pid, 0, 0))),
    pidfdGetfd: (pidfd, fd) => check(`pidfd_getfd ${fd}`, Number(syscallC(SYS_PIDFD_GETFD, pidfd, fd, 0))),
    poll: (fd, milliseconds) => {
      const fds = pollfd(fd);
      check(`poll ${fd}`, pollC(fds, 1, milliseconds));
      return revents(fds);
    },
    pollLater: (fd, milliseconds) =>
      new Promise((resolve, reject) => {
        const fds = pollfd(fd);
        pollC.async(fds, 1, milliseconds, (error: Error | null, result: number) => {
          if (error !== null) reject(error);
          else if (result < 0) reject(new DeviceError(`poll ${fd}`, koffi.errno()));
          else resolve(revents(fds));
        });
      }),
    sleepMicroseconds: (microseconds) => void usleepC(microseconds),
    clockRaw: () => {
      check('clock_gettime', clockC(CLOCK_MONOTONIC_RAW, time));
      return (
        timeView.getUint32(0, true) * 1e9 + timeView.getUint32(4, true) * 2 ** 32 * 1e9 + timeView.getUint32(8, true)
      );
    },
    view: (address, length) => viewMemory(koffi, address, length),
  };
}

let libc: Libc | null = null;

/** Throws UnavailableError where this system has no such calls. */
export async function loadLibc(): Promise<Libc> {
  if (libc !== null) return libc;
  const koffi = await loadKoffi();
  // glibc and musl, in this order; a name that is not there throws.
  const problems: string[] = [];
  for (const name of ['libc.so.6', 'libc.musl-x86_64.so.1', 'libc.musl-aarch64.so.1']) {
    try {
      libc = bind(koffi, koffi.load(name));
      return libc;
    } catch (error) {
      problems.push((error as Error).message);
    }
  }
  throw new UnavailableError(`the C library cannot be loaded: ${problems[0]}`);
}
