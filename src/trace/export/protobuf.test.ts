import { describe, expect, it } from 'vitest';
import { createPrng, prngBelow } from '../../base/prng.ts';
import {
  createProtoBuffer,
  type ProtoBuffer,
  putDoubleField,
  putFixedField,
  putInt64,
  putMessageField,
  putNumberField,
  putSum,
  putTextField,
  putVarint,
  varintSize,
} from './protobuf.ts';

function written(put: (b: ProtoBuffer) => void): number[] {
  const b = createProtoBuffer(1);
  put(b);
  return [...b.bytes.subarray(0, b.at)];
}

/** The wire format by its description: seven bits a byte, from the least. */
function varint(value: bigint): number[] {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    bytes.push(Number(rest & 127n) | (rest > 127n ? 128 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return bytes;
}

const EDGES = [0, 1, 127, 128, 2 ** 14 - 1, 2 ** 14, 2 ** 21, 2 ** 28 - 1, 2 ** 28, 2 ** 31, 2 ** 32 - 1, 2 ** 32];
const LARGE = [2 ** 53 - 1, 2 ** 53, 2 ** 56 + 2 ** 4, 2 ** 62, 2 ** 63 - 1024, 2 ** 63, 2 ** 64 - 2048];

describe('numbers', () => {
  it('are exact up to 64 bits', () => {
    for (const value of [...EDGES, ...LARGE]) {
      expect(
        written((b) => putVarint(b, value)),
        `${value}`,
      ).toEqual(varint(BigInt(value)));
    }
    expect(written((b) => putVarint(b, 150))).toEqual([0x96, 1]);
  });

  it('are exact below zero', () => {
    for (const value of [...EDGES, ...LARGE].filter((one) => one <= 2 ** 63)) {
      expect(
        written((b) => putInt64(b, -value)),
        `${-value}`,
      ).toEqual(varint(-BigInt(value)));
    }
    expect(written((b) => putInt64(b, -1))).toEqual([255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
  });

  it('are exact as sums that no double holds', () => {
    const p = createPrng(3);
    for (let n = 0; n < 5000; n++) {
      const value = (prngBelow(p, 2 ** 32) - 2 ** 30) * 2 ** prngBelow(p, 31) + prngBelow(p, 1000);
      const more = Math.max(0, -value) + prngBelow(p, 2 ** 32) * 2 ** prngBelow(p, 21);
      if (!Number.isInteger(value) || !Number.isInteger(more)) continue;
      const sum = BigInt(value) + BigInt(more);
      if (sum < 0n) continue;
      expect(
        written((b) => putSum(b, value, more)),
        `${value} + ${more}`,
      ).toEqual(varint(sum));
    }
    expect(written((b) => putSum(b, 2 ** 60, 2 ** 53 - 1))).toEqual(varint(2n ** 60n + 2n ** 53n - 1n));
  });

  it('have the size that is said', () => {
    for (const value of EDGES.filter((one) => one < 2 ** 28)) {
      expect(varintSize(value)).toBe(written((b) => putVarint(b, value)).length);
    }
  });
});

describe('fields', () => {
  it('are what the description of the format has', () => {
    expect(written((b) => putNumberField(b, 1, 150))).toEqual([8, 0x96, 1]);
    expect(written((b) => putTextField(b, 2, 'testing'))).toEqual([0x12, 7, ...Buffer.from('testing')]);
    expect(written((b) => putMessageField(b, 3, (inner) => putNumberField(inner, 1, 150)))).toEqual([
      0x1a, 3, 8, 0x96, 1,
    ]);
    expect(written((b) => putDoubleField(b, 1, 1.5))).toEqual([9, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f]);
    expect(written((b) => putFixedField(b, 16, 2 ** 32 + 3))).toEqual([0x81, 1, 3, 0, 0, 0, 1, 0, 0, 0]);
  });

  it('hold texts of any length and sign', () => {
    const text = 'ö日本😀'.repeat(300);
    const encoded = Buffer.from(text);
    expect(written((b) => putTextField(b, 1, text))).toEqual([10, ...varint(BigInt(encoded.length)), ...encoded]);
    expect(written((b) => putTextField(b, 1, '\ud800'))).toEqual([10, 3, 0xef, 0xbf, 0xbd]);
  });
});
