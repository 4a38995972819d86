import { describe, expect, it } from 'vitest';
import {
  addressOfPage,
  decode,
  encode,
  encodeInto,
  field,
  layout,
  list,
  offsetOfAddress,
  pageOfAddress,
  structs,
} from './layout.ts';

const POINT = layout('Point', 8, { x: field('u16', 0), y: field('s32', 4) });
const ALL = layout('All', 80, {
  small: field('u8', 0),
  on: field('bool', 1),
  wide: field('u64', 8),
  signed: field('s64', 16),
  id: field('uuid', 24),
  ids: list('u32', 40, 3),
  points: structs(POINT, 52, 2),
});

describe('declaring', () => {
  it('refuses a field that ends beyond the structure, and takes one that ends with it', () => {
    expect(() => layout('Short', 7, { a: field('u64', 0) })).toThrow('Short.a ends at byte 8, beyond 7 bytes');
    expect(layout('Exact', 8, { a: field('u64', 0) }).size).toBe(8);
    expect(() => layout('Short', 15, { points: structs(POINT, 0, 2) })).toThrow('Short.points ends at byte 16');
  });

  it('refuses a field that lies on another one', () => {
    expect(() => layout('Twice', 8, { b: field('u32', 3), a: field('u32', 0) })).toThrow('Twice.b lies on a');
    expect(layout('Once', 8, { b: field('u32', 4), a: field('u32', 0) }).size).toBe(8);
  });
});

describe('encoding', () => {
  it('puts every kind at its offset, little-endian', () => {
    const bytes = encode(ALL, {
      small: 0xab,
      on: true,
      wide: 0x1122334455667788n,
      signed: -2n,
      id: Uint8Array.from({ length: 16 }, (_, i) => i + 1),
      ids: [0xdeadbeef, 1],
      points: [{ x: 0x0102 }, { y: -1 }],
    });
    const expected = new Uint8Array(80);
    expected.set([0xab, 1], 0);
    expected.set([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11], 8);
    expected.set([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 16);
    expected.set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], 24);
    expected.set([0xef, 0xbe, 0xad, 0xde, 1], 40);
    expected.set([0x02, 0x01], 52);
    expected.set([0xff, 0xff, 0xff, 0xff], 64);
    expect(bytes).toEqual(expected);
    expect(decode(ALL, bytes)).toEqual({
      small: 0xab,
      on: true,
      wide: 0x1122334455667788n,
      signed: -2n,
      id: Uint8Array.from({ length: 16 }, (_, i) => i + 1),
      ids: [0xdeadbeef, 1, 0],
      points: [
        { x: 0x0102, y: 0 },
        { x: 0, y: -1 },
      ],
    });
  });

  it('takes whole numbers for 64-bit fields where they are exact', () => {
    expect(decode(ALL, encode(ALL, { wide: 2 ** 53 - 1, signed: -5 }))).toMatchObject({
      wide: 2n ** 53n - 1n,
      signed: -5n,
    });
    expect(() => encode(ALL, { wide: 2 ** 53 })).toThrow('as a bigint where it is 2^53 or more');
  });

  it('leaves what is not given as it is when it encodes into bytes', () => {
    const bytes = new Uint8Array(90).fill(0x55);
    encodeInto(POINT, { y: 1 }, bytes.subarray(10));
    expect([...bytes.subarray(8, 20)]).toEqual([0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 1, 0, 0, 0, 0x55, 0x55]);
    expect(() => encodeInto(POINT, {}, new Uint8Array(7))).toThrow('Point: 7 bytes of 8');
    expect(() => decode(POINT, new Uint8Array(7))).toThrow('Point: 7 bytes of 8');
  });

  it('decodes from the middle of a buffer', () => {
    const buffer = new Uint8Array(20);
    buffer.set([3, 0, 0, 0, 9], 5);
    expect(decode(POINT, buffer.subarray(5))).toEqual({ x: 3, y: 9 });
  });
});

describe('a wrong value', () => {
  const cases: [Record<string, unknown>, string][] = [
    [{ small: 256 }, 'All.small: 256; expected a whole number from 0 to 255'],
    [{ small: -1 }, 'All.small: -1; expected a whole number from 0 to 255'],
    [{ small: 1.5 }, 'All.small: 1.5; expected a whole number from 0 to 255'],
    [{ small: '1' }, 'All.small: "1"; expected a whole number from 0 to 255'],
    [{ small: 1n }, 'All.small: 1; expected a whole number from 0 to 255'],
    [{ on: 1 }, 'All.on: 1; expected true or false'],
    [{ wide: -1n }, 'All.wide: -1; expected a whole number from 0 to 2^64 - 1'],
    [{ wide: 2n ** 64n }, 'All.wide: 18446744073709551616; expected a whole number from 0 to 2^64 - 1'],
    [{ signed: 2n ** 63n }, 'All.signed: 9223372036854775808; expected a whole number from -2^63 to 2^63 - 1'],
    [{ id: new Uint8Array(15) }, 'expected a Uint8Array of 16 bytes'],
    [{ ids: [1, 2, 3, 4] }, 'All.ids: "4 elements"; expected at most 3'],
    [{ ids: 1 }, 'All.ids: 1; expected a list of at most 3'],
    [{ ids: [1, 2 ** 32] }, 'All.ids[1]: 4294967296; expected a whole number from 0 to 4294967295'],
    [{ points: [{}, { x: 65536 }] }, 'All.points[1].x: 65536; expected a whole number from 0 to 65535'],
    [{ points: [{ z: 1 }] }, 'All.points[0].z: 1; expected one of the fields x, y'],
    [{ toString: 1 }, 'All.toString: 1; expected one of the fields small, on'],
  ];
  it.each(cases)('%o is refused with structure, field, value and range', (values, message) => {
    expect(() => encode(ALL, values as never)).toThrow(message);
  });

  it('is accepted at the ends of the range', () => {
    expect(() =>
      encode(ALL, { small: 255, wide: 2n ** 64n - 1n, signed: -(2n ** 63n), ids: [2 ** 32 - 1] }),
    ).not.toThrow();
  });
});

describe('addresses', () => {
  it('split into a page and a byte, and come together again, for any 64 bits', () => {
    for (const address of [0n, 1n, 4095n, 4096n, 0x7fff_ffff_f123n, (1n << 57n) - 1n, (1n << 64n) - 1n]) {
      const page = pageOfAddress(address);
      expect(Number.isSafeInteger(page)).toBe(true);
      expect(addressOfPage(page, offsetOfAddress(address))).toBe(address);
    }
    expect(pageOfAddress(0x12345678n)).toBe(0x12345);
    expect(offsetOfAddress(0x12345678n)).toBe(0x678);
  });
});
