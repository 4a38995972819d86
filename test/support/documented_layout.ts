/**
 * Layouts written down as the driver's documentation has them, apart from the code under test: one line of text for each
 * structure, `field kind@offset` one after another and `=size` at its end. A list is `kind[count]`. Kinds are u8, u16,
 * u32, u64, s32, s64, bool, uuid and st, a status.
 */
import { expect } from 'vitest';
import { type AnyLayout, decode, encode } from '../../src/device/abi/layout.ts';

interface Documented {
  field: string;
  kind: string;
  count: number;
  offset: number;
}

const BYTES: Record<string, number> = { u8: 1, bool: 1, u16: 2, u32: 4, s32: 4, st: 4, u64: 8, s64: 8, uuid: 16 };

function parse(line: string): { fields: Documented[]; size: number } {
  const size = /=(\d+)$/.exec(line);
  if (size === null) throw new Error(`no size: ${line}`);
  const fields: Documented[] = [];
  for (const m of line.matchAll(/([A-Za-z]\w*) (\w+)(?:\[(\d+)\])?@(\d+)/g)) {
    fields.push({ field: m[1], kind: m[2], count: Number(m[3] ?? 1), offset: Number(m[4]) });
  }
  return { fields, size: Number(size[1]) };
}

/** Splits a table: each entry is a name, words, and a layout, and ends with its size. */
export function documentedLines(table: string): { name: string; words: string[]; rest: string }[] {
  return [...table.replace(/\s+/g, ' ').matchAll(/\s*(.*?=\d+)/g)].map(([, entry]) => {
    const [name, ...others] = entry.split(' ');
    const first = others.findIndex((word, i) => word.startsWith('=') || /@\d+$/.test(others[i + 1] ?? ''));
    return { name, words: others.slice(0, first), rest: others.slice(first).join(' ') };
  });
}

/** A value that no other element has in the same place of its bytes, with the bytes it must become. */
function pattern(kind: string, seed: number): { value: unknown; bytes: number[] } {
  const length = BYTES[kind];
  if (kind === 'bool') return { value: true, bytes: [1] };
  const bytes = Array.from({ length }, (_, i) => (seed * 37 + i * 11 + 129) % 256);
  if (kind === 'uuid') return { value: Uint8Array.from(bytes), bytes };
  let value = 0n;
  for (let i = length - 1; i >= 0; i--) value = value * 256n + BigInt(bytes[i]);
  if (kind === 's64') return { value: value >= 2n ** 63n ? value - 2n ** 64n : value, bytes };
  if (kind === 'u64') return { value, bytes };
  const small = Number(value);
  return { value: kind === 's32' && small >= 2 ** 31 ? small - 2 ** 32 : small, bytes };
}

/** A field whose bytes are all ff is the greatest number of its kind, or -1 where the kind has a sign. */
function expectAllOnes(layout: AnyLayout, field: string, kind: string, count: number, offset: number): void {
  if (kind === 'bool' || kind === 'uuid') return;
  const bytes = new Uint8Array(layout.size).fill(0xff, offset, offset + count * BYTES[kind]);
  const wide = kind.endsWith('64');
  const value = kind.startsWith('s') && kind !== 'st' ? -1n : 2n ** BigInt(8 * BYTES[kind]) - 1n;
  const one = wide ? value : Number(value);
  const all = count === 1 ? one : new Array(count).fill(one);
  expect((decode(layout, bytes) as Record<string, unknown>)[field], `${layout.name}.${field}`).toEqual(all);
  expect(encode(layout, { [field]: all } as never), `${layout.name}.${field}`).toEqual(bytes);
}

/**
 * Holds a layout to its line: the same fields and size; every field alone and all of them together give exactly the
 * bytes at the documented places and no others; and decoding gives the values back.
 */
export function expectDocumented(layout: AnyLayout, line: string): void {
  const { fields, size } = parse(line);
  expect(layout.size).toBe(size);
  expect(Object.keys(layout.fields).sort()).toEqual(fields.map((f) => f.field).sort());
  const whole = new Uint8Array(size);
  const values: Record<string, unknown> = {};
  fields.forEach(({ field, kind, count, offset }, i) => {
    const alone = new Uint8Array(size);
    const parts = Array.from({ length: count }, (_, j) => pattern(kind, i * 5 + j));
    parts.forEach((part, j) => {
      alone.set(part.bytes, offset + j * BYTES[kind]);
      whole.set(part.bytes, offset + j * BYTES[kind]);
    });
    values[field] = count === 1 ? parts[0].value : parts.map((part) => part.value);
    expect(encode(layout, { [field]: values[field] } as never), `${layout.name}.${field}`).toEqual(alone);
  });
  for (const { field, kind, count, offset } of fields) expectAllOnes(layout, field, kind, count, offset);
  const bytes = encode(layout, values as never);
  expect(bytes).toEqual(whole);
  expect(decode(layout, bytes)).toEqual(values);
}
