import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { afterEach, describe, expect } from 'vitest';
import { itOnLinux } from '../../../test/support/on_linux.ts';
import { ERRNO } from '../abi/status.ts';
import { AttachError, attachVaSpace } from '../attach.ts';
import { DeviceError } from '../device.ts';
import { UnavailableError } from './ffi.ts';
import { loadLibc, MAP_ANONYMOUS, MAP_PRIVATE, POLLIN, PROT_READ, PROT_WRITE } from './libc.ts';
import { createLinuxDevice } from './linux_device.ts';

let child: ChildProcess | null = null;

afterEach(() => {
  child?.kill('SIGKILL');
  child = null;
});

/** A process that holds /dev/null open as descriptor 0, in the place of a driver's file. */
async function standIn(): Promise<number> {
  child = spawn('sleep', ['60'], { stdio: 'ignore' });
  await new Promise((resolve) => child?.once('spawn', resolve));
  return child.pid ?? 0;
}

const openFds = (): number => readdirSync('/proc/self/fd').length;
const mappings = (): number => readFileSync('/proc/self/maps', 'latin1').split('\n').length;

describe('the calls of Linux', () => {
  itOnLinux('maps memory that JavaScript and the kernel see alike', async () => {
    const libc = await loadLibc();
    const at = libc.mmap(0n, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0n);
    const [one, two] = [new Uint8Array(libc.view(at, 8192)), new Uint8Array(libc.view(at + 4096n, 4096))];
    one[4096] = 77;
    expect(two[0]).toBe(77);
    libc.munmap(at, 8192);
    expect(() => libc.mmap(0n, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0n)).toThrow(DeviceError);
  });

  itOnLinux('gives an ioctl that is not known as an errno, and everything else as an error', async () => {
    const libc = await loadLibc();
    const fd = libc.open('/dev/null');
    expect(libc.ioctl(fd, 77, new Uint8Array(16))).toBe(25);
    libc.close(fd);
    expect(libc.ioctl(fd, 77, new Uint8Array(16))).toBe(ERRNO.EBADF);
    expect(() => libc.close(fd)).toThrow('EBADF');
    expect(() => libc.open('/dev/no-such-node')).toThrow('errno 2');
    expect(() => libc.pidfdOpen(2 ** 30)).toThrow('ESRCH');
  });

  itOnLinux('polls, at once and on a thread of its own', async () => {
    const libc = await loadLibc();
    const fd = libc.open('/dev/zero');
    expect(libc.poll(fd, 1000) & POLLIN).toBe(POLLIN);
    expect((await libc.pollLater(fd, 1000)) & POLLIN).toBe(POLLIN);
    libc.close(fd);
  });

  itOnLinux('has a clock of nanoseconds that goes on', async () => {
    const libc = await loadLibc();
    const before = libc.clockRaw();
    libc.sleepMicroseconds(2000);
    expect(libc.clockRaw() - before).toBeGreaterThanOrEqual(2_000_000);
  });
});

describe('the device over Linux', () => {
  itOnLinux('takes a descriptor of a child process over: both are the same open file', async () => {
    const device = await createLinuxDevice();
    const pid = await standIn();
    const file = await device.adopt(pid, 0);
    expect(readlinkSync(`/proc/self/fd/${file.fd}`)).toBe('/dev/null');
    expect(device.holds().files).toBe(1);
    await device.close(file);
    expect(device.holds().files).toBe(0);
    await expect(device.close(file)).rejects.toThrow('EBADF');
    await expect(device.adopt(pid, 99)).rejects.toMatchObject({ errno: ERRNO.EBADF });
    await expect(device.adopt(2 ** 30, 0)).rejects.toMatchObject({ errno: ERRNO.ESRCH });
  });

  itOnLinux('leaves no descriptor and no mapping after a thousand attaches to what is no driver', async () => {
    const device = await createLinuxDevice();
    const pid = await standIn();
    const attach = async () => {
      await expect(attachVaSpace(device, pid, [0])).rejects.toThrow(AttachError);
    };
    for (let i = 0; i < 20; i++) await attach();
    const [fds, maps] = [openFds(), mappings()];
    for (let i = 0; i < 1000; i++) await attach();
    expect(device.holds()).toEqual({ files: 0, memory: 0, managed: 0 });
    expect(openFds()).toBe(fds);
    // The heap grows by some, more on a busy machine; a thousand tables of processors would be a thousand.
    expect(mappings() - maps).toBeLessThan(500);
  });

  itOnLinux('gives memory that is zero, and takes it back once', async () => {
    const device = await createLinuxDevice();
    const memory = await device.allocate(8192);
    expect(memory.address % 4096n).toBe(0n);
    expect(memory.bytes().every((byte) => byte === 0)).toBe(true);
    await memory.close();
    await memory.close();
    expect(() => memory.bytes()).toThrow('given back');
    expect(device.holds().memory).toBe(0);
    await expect(device.allocate(100)).rejects.toThrow('EINVAL');
  });

  itOnLinux('says what is missing where there is no driver', async () => {
    const device = await createLinuxDevice();
    const hasDriver = readdirSync('/dev').includes('nvidia-uvm');
    if (hasDriver) await device.close(await device.open('uvm'));
    else await expect(device.open('uvm')).rejects.toThrow(UnavailableError);
    expect(device.holds().files).toBe(0);
  });
});
