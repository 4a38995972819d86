import { describe, expect, it } from 'vitest';
import { hex, ManagedRangeError, managedMappingOf, parseAddress, parseBytes } from './managed_range.ts';

const A = { start: 0x7f0000000000n, end: 0x7f0000200000n };
const B = { start: 0x7f0000200000n, end: 0x7f0000400000n };
const C = { start: 0x7f1000000000n, end: 0x7f1000001000n };

const errorOf = (address: bigint, length: bigint, mappings = [A, B, C]): string => {
  try {
    managedMappingOf(mappings, address, length, 12);
  } catch (error) {
    if (error instanceof ManagedRangeError) return error.message;
    throw error;
  }
  return 'no error';
};

describe('a range of managed memory', () => {
  it('lies in one allocation, to its last byte', () => {
    expect(managedMappingOf([A, B, C], A.start, 0x200000n, 12)).toBe(A);
    expect(managedMappingOf([A, B, C], A.end - 1n, 1n, 12)).toBe(A);
    expect(managedMappingOf([A, B, C], A.end, 1n, 12)).toBe(B);
    expect(managedMappingOf([A, B, C], C.start + 1n, 0xfffn, 12)).toBe(C);
  });

  it('is not empty', () => {
    expect(errorOf(A.start, 0n)).toBe('length 0: expected at least 1 byte');
    expect(errorOf(A.start, -1n)).toBe('length -1: expected at least 1 byte');
  });

  it('does not begin elsewhere', () => {
    const all = '0x7f0000000000-0x7f0000200000, 0x7f0000200000-0x7f0000400000, 0x7f1000000000-0x7f1000001000';
    for (const address of [A.start - 1n, B.end, C.end]) {
      expect(errorOf(address, 1n)).toBe(
        `address ${hex(address)} is outside of the managed memory of process 12: it has ${all}`,
      );
    }
    expect(errorOf(0n, 1n, [])).toBe('address 0x0 is outside of the managed memory of process 12: it has none');
  });

  it('does not leave its allocation, be it for another one', () => {
    expect(errorOf(A.end - 2n, 3n)).toBe(
      'length 3 from 0x7f00001ffffe crosses from its allocation 0x7f0000000000-0x7f0000200000 into another one, ' +
        '0x7f0000200000-0x7f0000400000; at most 2 bytes here',
    );
    expect(errorOf(C.start, 0x1001n)).toBe(
      'length 4097 from 0x7f1000000000 ends outside of its allocation 0x7f1000000000-0x7f1000001000; ' +
        'at most 4096 bytes here',
    );
  });

  it('is told with eight allocations of many', () => {
    const many = (n: number) =>
      Array.from({ length: n }, (_, i) => ({ start: BigInt(i * 16), end: BigInt(i * 16 + 1) }));
    expect(errorOf(8n, 1n, many(8))).toMatch(/, 0x70-0x71$/);
    expect(errorOf(8n, 1n, many(9))).toMatch(/, 0x70-0x71 and 1 more$/);
  });
});

it.each([
  ['0', 0n],
  ['4096', 4096n],
  ['0x7fba32000000', 0x7fba32000000n],
  ['0X7FBA32000000', 0x7fba32000000n],
  ['0xffffffffffffffff', 2n ** 64n - 1n],
  ['18446744073709551615', 2n ** 64n - 1n],
  ['18446744073709551616', null],
  ['0x10000000000000000', null],
  ['0x', null],
  ['7fba32000000', null],
  ['-1', null],
  ['1.5', null],
  ['', null],
  [' 1', null],
])('address %j', (text, address) => {
  expect(parseAddress(text)).toBe(address);
});

it.each([
  ['0', 0n],
  ['1', 1n],
  ['0x1000', 4096n],
  ['4K', 4096n],
  ['4k', 4096n],
  ['64KiB', 65536n],
  ['2M', 2n ** 21n],
  ['2mib', 2n ** 21n],
  ['1G', 2n ** 30n],
  ['1GIB', 2n ** 30n],
  ['999999999999999999', 999999999999999999n],
  ['1000000000000000000', null],
  ['4KB', null],
  ['4T', null],
  ['K', null],
  ['1.5M', null],
  ['-1', null],
  ['', null],
])('bytes %j', (text, bytes) => {
  expect(parseBytes(text)).toBe(bytes);
});
