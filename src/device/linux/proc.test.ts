import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  driverVersion,
  parseManagedMappings,
  processAlive,
  processCommand,
  processOwner,
  readGpus,
  readManagedMappings,
  readUvmFds,
  uvmParameters,
} from './proc.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'uvmlab-proc-'));
});
afterEach(() => rmSync(root, { recursive: true }));

function put(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

const FIRST = '7fba32000000-7fba3a000000 rw-s 7fba32000000 00:06 144                        /dev/nvidia-uvm';
const MAPS = [
  '55d0c8a08000-55d0c8a0a000 r-xp 00002000 fe:00 260386                     /usr/bin/program',
  FIRST,
  '7fba3a000000-7fba3a200000 rw-s 7fba3a000000 00:06 144   /dev/nvidia-uvm',
  '7fba40000000-7fba40200000 rw-s 00000000 00:06 144       /dev/nvidia-uvm',
  '7fba42000000-7fba42200000 rw-s 7fba42001000 00:06 144   /dev/nvidia-uvm',
  '7fba44000000-7fba44200000 r--s 7fba44000000 00:06 144   /dev/nvidia-uvm',
  '7fba46000000-7fba46200000 rw-p 7fba46000000 00:06 144   /dev/nvidia-uvm',
  '7fba48000000-7fba48200000 rw-s 7fba48000000 00:06 144   /dev/nvidia-uvm (deleted)',
  '7fba4a000000-7fba4a200000 rw-s 7fba4a000000 00:06 145   /dev/nvidia-uvm-tools',
  '7fba4c000000-7fba4c200000 rw-s 7fba4c000000 00:06 146   /dev/nvidiactl',
  '7fba4e000000-7fba4e200000 rw-s 7fba4e000000 fe:00 147   /home/me/dev/nvidia-uvm',
  '7fff0a000000-7fff0a021000 rw-p 00000000 00:00 0         [stack]',
  '',
].join('\n');

describe('managed mappings', () => {
  const TWO = [
    { start: 0x7fba32000000n, end: 0x7fba3a000000n },
    { start: 0x7fba3a000000n, end: 0x7fba3a200000n },
  ];

  it('are the shared, writable ones of the device at an offset that is their address', () => {
    expect(parseManagedMappings(MAPS)).toEqual(TWO);
    expect(parseManagedMappings('')).toEqual([]);
  });

  it('have addresses of 64 bits', () => {
    const high = FIRST.replaceAll('7fba32000000', 'fffffffffffff000').replace('7fba3a000000', 'ffffffffffffffff');
    expect(parseManagedMappings(high)).toEqual([{ start: 0xfffffffffffff000n, end: 0xffffffffffffffffn }]);
  });

  it('are read from the process, whose other paths may be in any encoding', () => {
    mkdirSync(join(root, '12'));
    const odd = '7f0000000000-7f0000001000 r--p 00000000 fe:00 9 /tmp/';
    const other = Buffer.concat([Buffer.from(odd), Buffer.of(0xff, 10), Buffer.from(MAPS)]);
    writeFileSync(join(root, '12/maps'), other);
    expect(readManagedMappings(12, root)).toEqual(TWO);
    expect(() => readManagedMappings(13, root)).toThrow('ENOENT');
  });
});

describe('a process', () => {
  it('has its descriptors of the device in ascending order', () => {
    mkdirSync(join(root, '12/fd'), { recursive: true });
    const links: [string, string][] = [
      ['10', '/dev/nvidia-uvm'],
      ['9', '/dev/nvidia-uvm'],
      ['3', '/dev/nvidia-uvm-tools'],
      ['4', '/dev/nvidia-uvm (deleted)'],
      ['5', 'socket:[1234]'],
    ];
    for (const [name, target] of links) symlinkSync(target, join(root, '12/fd', name));
    // What was closed between the listing and the look is no link any more.
    put('12/fd/7', '');
    expect(readUvmFds(12, root)).toEqual([9, 10]);
    expect(() => readUvmFds(13, root)).toThrow('ENOENT');
  });

  it.each([
    ['12 (program) S 1 12', true],
    ['12 (a (b) Z c) R 1 12', true],
    ['12 (program) T 1 12', true],
    ['12 (program) Z 1 12', false],
    ['12 (x) S) Z 1 12', false],
    ['12 (program) X 0 0', false],
  ])('with stat %j is alive: %s', (stat, alive) => {
    put('12/stat', `${stat}\n`);
    expect(processAlive(12, root)).toBe(alive);
    expect(processAlive(13, root)).toBe(false);
  });

  it('has an owner while it is there', () => {
    put('12/stat', '');
    expect(processOwner(12, root)).toBe(process.getuid?.() ?? 0);
    expect(processOwner(13, root)).toBeNull();
  });

  it.each([
    ['python3\0train.py\0--name\0\0', ['python3', 'train.py', '--name', '']],
    ['./größe\0', ['./größe']],
    ['renamed by itself', ['renamed by itself']],
    ['', null],
  ])('has the command %j', (cmdline, command) => {
    put('12/cmdline', cmdline);
    expect(processCommand(12, root)).toEqual(command);
    expect(processCommand(13, root)).toBeNull();
  });
});

const VERSION = `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build  (root@host)
GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)
`;

describe('the driver', () => {
  it('has the version of its module, else the one that it prints', () => {
    expect(driverVersion(root)).toBeNull();
    put('proc/driver/nvidia/version', VERSION);
    expect(driverVersion(root)).toBe('580.105.08');
    put('sys/module/nvidia_uvm/version', '\n');
    expect(driverVersion(root)).toBe('580.105.08');
    put('sys/module/nvidia_uvm/version', '580.159.04\n');
    expect(driverVersion(root)).toBe('580.159.04');
  });

  it('has a version of two or three numbers, or none', () => {
    put('proc/driver/nvidia/version', 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  390.157  Wed Oct 12\n');
    expect(driverVersion(root)).toBe('390.157');
    put('proc/driver/nvidia/version', 'NVRM version: unknown\n');
    expect(driverVersion(root)).toBeNull();
  });

  it('has the parameters that can be read', () => {
    expect(uvmParameters(root)).toEqual({});
    put('sys/module/nvidia_uvm/parameters/uvm_perf_prefetch_enable', '1\n');
    put('sys/module/nvidia_uvm/parameters/uvm_channel_gpput_loc', 'auto\n');
    mkdirSync(join(root, 'sys/module/nvidia_uvm/parameters/unreadable'));
    const parameters = uvmParameters(root);
    expect(parameters).toEqual({ uvm_channel_gpput_loc: 'auto', uvm_perf_prefetch_enable: '1' });
    expect(Object.keys(parameters)).toEqual(['uvm_channel_gpput_loc', 'uvm_perf_prefetch_enable']);
  });

  it('lists its GPUs by bus address, with a uuid once they have one', () => {
    expect(readGpus(root)).toEqual([]);
    const about = (model: string, uuid: string) =>
      `Model: \t\t ${model}\nIRQ:   \t\t 42\nGPU UUID: \t ${uuid}\nVideo BIOS: \t 96.00.b7.00.02\n`;
    const gpus = 'proc/driver/nvidia/gpus';
    put(`${gpus}/0000:c1:00.0/information`, about('NVIDIA H200', 'GPU-????????-????-????-????-????????????'));
    put(`${gpus}/0000:41:00.0/information`, about('NVIDIA H200 ', 'GPU-01234567-89ab-cdef-0123-456789abcdef'));
    put(`${gpus}/0000:d1:00.0/information`, about('', ''));
    mkdirSync(join(root, gpus, '0000:e1:00.0'));
    expect(readGpus(root)).toEqual([
      { name: 'NVIDIA H200', uuid: '0123456789abcdef0123456789abcdef' },
      { name: 'NVIDIA H200', uuid: '' },
      { name: '', uuid: '' },
      { name: '', uuid: '' },
    ]);
  });
});
