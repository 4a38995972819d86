/** Ranges of a process's managed memory as users name them, checked against its mappings. */
import type { ManagedMapping } from '../../device/linux/proc.ts';

/** A range that is not managed memory of one allocation; the message says where it leaves it. */
export class ManagedRangeError extends Error {
  override name = 'ManagedRangeError';
}

export const hex = (address: bigint): string => `0x${address.toString(16)}`;

const SHOWN = 8;

function mappingsText(mappings: readonly ManagedMapping[]): string {
  if (mappings.length === 0) return 'it has none';
  const shown = mappings.slice(0, SHOWN).map(({ start, end }) => `${hex(start)}-${hex(end)}`);
  const rest = mappings.length - shown.length;
  return `it has ${shown.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

/**
 * The mapping that holds [address, address + length). Throws ManagedRangeError when the range is empty, begins outside
 * of managed memory, or leaves its allocation.
 */
export function managedMappingOf(
  mappings: readonly ManagedMapping[],
  address: bigint,
  length: bigint,
  pid: number,
): ManagedMapping {
  if (length <= 0n) throw new ManagedRangeError(`length ${length}: expected at least 1 byte`);
  const found = mappings.find(({ start, end }) => address >= start && address < end);
  if (found === undefined) {
    throw new ManagedRangeError(
      `address ${hex(address)} is outside of the managed memory of process ${pid}: ${mappingsText(mappings)}`,
    );
  }
  const left = found.end - address;
  if (length <= left) return found;
  const next = mappings.find(({ start }) => start === found.end);
  const where =
    next === undefined
      ? `ends outside of its allocation ${hex(found.start)}-${hex(found.end)}`
      : `crosses from its allocation ${hex(found.start)}-${hex(found.end)} into another one, ` +
        `${hex(next.start)}-${hex(next.end)}`;
  throw new ManagedRangeError(`length ${length} from ${hex(address)} ${where}; at most ${left} bytes here`);
}

/** An address in hexadecimal (0x...) or decimal; null when it is none. */
export function parseAddress(text: string): bigint | null {
  if (!/^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text)) return null;
  const value = BigInt(text.toLowerCase());
  return value < 2n ** 64n ? value : null;
}

const UNITS: Readonly<Record<string, bigint>> = { '': 1n, k: 2n ** 10n, m: 2n ** 20n, g: 2n ** 30n };

/** A number of bytes: decimal or 0x..., or with a unit, 4K, 64KiB, 2M, 1GiB; null when it is none. */
export function parseBytes(text: string): bigint | null {
  const match = /^(0x[0-9a-f]{1,16}|\d{1,18})(?:([kmg])(?:ib)?)?$/i.exec(text);
  if (match === null) return null;
  return BigInt(match[1].toLowerCase()) * UNITS[(match[2] ?? '').toLowerCase()];
}
