/** What the commands `peek` and `poke` do. */
import { readFileSync, statSync } from 'node:fs';
import { errnoName, statusText } from '../device/abi/status.ts';
import { createLinuxDevice, type LinuxDevice } from '../device/linux/linux_device.ts';
import { readManagedMappings } from '../device/linux/proc.ts';
import { readProcessMemory, writeProcessMemory } from '../device/process_memory.ts';
import { type KnownPlaces, knownPlaces } from '../live/memory/known_places.ts';
import { managedMappingOf } from '../live/memory/managed_range.ts';
import { pagePlaces } from '../live/memory/page_place.ts';
import { attachToProcess } from '../live/target.ts';
import { EXIT_FAILED, EXIT_OK, UsageError } from './command.ts';
import type { PeekFlags, PokeFlags } from './copy.ts';
import { addressOption, lengthOption, processId } from './run_copy.ts';
import { type Colors, colorsFor, counted } from './text.ts';

const PAGE = 4096n;
const LENGTH_DEFAULT = 256n;
const LENGTH_MAX = 2n ** 20n;
const ROW = 16;

/** What one ioctl of these came to, in words; null when it did all. */
function problem(result: { bytes: number; status: number; errno: number }, call: string): string | null {
  if (result.errno !== 0) return `${call}: ${errnoName(result.errno)}`;
  return result.status === 0 ? null : `${call}: ${statusText(result.status)} after ${counted(result.bytes, 'byte')}`;
}

/** Where a page lives, in the words of what is known. */
function placeText(index: number, byCpu: readonly string[], known: KnownPlaces | null): string {
  const moved = known?.places[index] ?? null;
  if (moved === null) return byCpu[index];
  const doubts = known?.doubts ?? [];
  return `known from events: moved to ${moved} last${doubts.length > 0 ? ` (${doubts.join('; ')})` : ''}`;
}

function rowText(bytes: Uint8Array, address: bigint, at: number, colors: Colors): string {
  const row = bytes.subarray(at, at + ROW);
  const digits = Array.from(row, (byte) => byte.toString(16).padStart(2, '0'));
  const groups = [digits.slice(0, 8).join(' '), digits.slice(8).join(' ')].join('  ').padEnd(ROW * 3);
  const text = Array.from(row, (byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '.')).join('');
  return `${colors.dim((address + BigInt(at)).toString(16).padStart(12, '0'))}  ${groups} ${text}\n`;
}

/** The bytes in rows, each page under a line that says where it lives. */
export function peekText(bytes: Uint8Array, address: bigint, place: (page: number) => string, colors: Colors): string {
  let text = '';
  let before = -1;
  for (let at = 0; at < bytes.length; at += ROW) {
    const page = Number((address + BigInt(at)) / PAGE - address / PAGE);
    if (page !== before) {
      const start = ((address / PAGE + BigInt(page)) * PAGE).toString(16);
      text += `${colors.bold(`page 0x${start}`)}: ${place(page)}\n`;
    }
    before = page;
    text += rowText(bytes, address, at, colors);
  }
  return text;
}

/** Attaches to a process for one call, and leaves nothing behind. */
async function withProcess<T>(
  pid: number,
  act: (device: LinuxDevice, uvm: Parameters<typeof readProcessMemory>[1]) => Promise<T>,
): Promise<T> {
  const device = await createLinuxDevice();
  const attachment = await attachToProcess(device, pid);
  try {
    return await act(device, attachment.uvm);
  } finally {
    await device.close(attachment.uvm);
  }
}

const roundUp = (length: number): number => Math.ceil(length / 4096) * 4096;

export async function runPeek(flags: PeekFlags): Promise<number> {
  const pid = processId(flags.pid);
  const address = addressOption('at', flags.at);
  const length = flags.length === undefined ? LENGTH_DEFAULT : lengthOption('length', flags.length, LENGTH_MAX);
  const known = flags.recording === undefined ? null : await knownPlaces(flags.recording, address, length);
  if (known !== null && known.pid !== pid) {
    throw new UsageError(`--recording ${flags.recording}: is of process ${known.pid}, not of ${pid}`);
  }
  return withProcess(pid, async (device, uvm) => {
    managedMappingOf(readManagedMappings(pid), address, length, pid);
    const memory = await device.allocate(roundUp(Number(length)));
    try {
      const places = pagePlaces(pid, address, length);
      const result = await readProcessMemory(device, uvm, address, memory, 0, Number(length));
      const bytes = memory.bytes().subarray(0, result.bytes);
      const colors = colorsFor(process.stdout);
      process.stdout.write(peekText(bytes, address, (page) => placeText(page, places, known), colors));
      const wrong = problem(result, 'ioctl 62 (UVM_TOOLS_READ_PROCESS_MEMORY)');
      if (wrong === null) return EXIT_OK;
      process.stderr.write(`${colorsFor(process.stderr).red('error:')} ${wrong}\n`);
      return EXIT_FAILED;
    } finally {
      await memory.close();
    }
  });
}

function pokeBytes(flags: PokeFlags): Uint8Array {
  if ((flags.hex === undefined) === (flags.file === undefined)) {
    throw new UsageError('give the bytes either with --hex or with --file');
  }
  if (flags.hex !== undefined) {
    const digits = flags.hex.replaceAll(/[\s_]/g, '');
    if (!/^([0-9a-f]{2})+$/i.test(digits)) {
      throw new UsageError(`--hex ${flags.hex}: expected two hexadecimal digits for each byte, such as 01ff`);
    }
    return new Uint8Array(Buffer.from(digits, 'hex'));
  }
  const path = flags.file as string;
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw new UsageError(`--file ${path}: no such file`);
  if (!stat.isFile()) throw new UsageError(`--file ${path}: is no file`);
  if (stat.size < 1 || stat.size > Number(LENGTH_MAX)) {
    throw new UsageError(`--file ${path}: has ${stat.size} bytes; expected 1 to ${LENGTH_MAX}`);
  }
  try {
    return new Uint8Array(readFileSync(path));
  } catch (error) {
    throw new UsageError(`--file ${path}: cannot be read: ${(error as Error).message}`);
  }
}

export async function runPoke(flags: PokeFlags): Promise<number> {
  const pid = processId(flags.pid);
  const address = addressOption('at', flags.at);
  const bytes = pokeBytes(flags);
  return withProcess(pid, async (device, uvm) => {
    managedMappingOf(readManagedMappings(pid), address, BigInt(bytes.length), pid);
    const memory = await device.allocate(roundUp(bytes.length));
    try {
      memory.bytes().set(bytes);
      const result = await writeProcessMemory(device, uvm, address, memory, 0, bytes.length);
      const wrong = problem(result, 'ioctl 63 (UVM_TOOLS_WRITE_PROCESS_MEMORY)');
      process.stdout.write(`${counted(result.bytes, 'byte')} written at 0x${address.toString(16)}\n`);
      process.stdout.write(
        'a read-duplicated page keeps one copy now, and a page that was nowhere is on the CPU; nothing else moved\n',
      );
      if (wrong === null) return EXIT_OK;
      process.stderr.write(`${colorsFor(process.stderr).red('error:')} ${wrong}\n`);
      return EXIT_FAILED;
    } finally {
      await memory.close();
    }
  });
}
