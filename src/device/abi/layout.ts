/**
 * Layouts of the driver's structures: a table of fields at byte offsets, and from it an encoder, a decoder and the
 * TypeScript types. All integers are little-endian.
 *
 * One rule for 64-bit fields: they come out as bigint, all of them, and go in as bigint or as a whole number that is
 * exact. Addresses have 57 bits, and a program must be able to pass any value, wrong ones too. Nothing here is for a
 * hot path: streams of events are decoded into columns of plain numbers (event_columns.ts).
 */

/** What a field holds: integers by sign and bits, a byte that is true or false, or the 16 bytes of a uuid. */
export type FieldKind = 'u8' | 'bool' | 'u16' | 'u32' | 's32' | 'u64' | 's64' | 'uuid';

export interface Field<K extends FieldKind = FieldKind, N extends number = number> {
  readonly kind: K;
  readonly offset: number;
  /** Elements; 1 is a plain value, anything else a list. */
  readonly count: N;
  /** Bytes from one element to the next. */
  readonly step: number;
}

/** Structures inside of a structure, one after another. */
export interface Nested<L extends AnyLayout = AnyLayout> {
  readonly kind: 'struct';
  readonly offset: number;
  readonly count: number;
  readonly layout: L;
}

export interface Layout<F extends Fields = Fields> {
  /** The driver's name of the structure. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly fields: F;
}

type Fields = Readonly<Record<string, Field | Nested>>;
// biome-ignore lint/suspicious/noExplicitAny: a layout of any fields, as a constraint
export type AnyLayout = Layout<any>;

type Plain<K extends FieldKind> = K extends 'u64' | 's64'
  ? bigint
  : K extends 'bool'
    ? boolean
    : K extends 'uuid'
      ? Uint8Array
      : number;
type Value<F> =
  F extends Field<infer K, infer N>
    ? N extends 1
      ? Plain<K>
      : Plain<K>[]
    : F extends Nested<infer L>
      ? ParamsOf<L>[]
      : never;
type PlainInput<K extends FieldKind> = K extends 'u64' | 's64' ? bigint | number : Plain<K>;
type InputValue<F> =
  F extends Field<infer K, infer N>
    ? N extends 1
      ? PlainInput<K>
      : readonly PlainInput<K>[]
    : F extends Nested<infer L>
      ? readonly InputOf<L>[]
      : never;

/** The values of a structure, by field. */
export type ParamsOf<L> = L extends Layout<infer F> ? { -readonly [K in keyof F]: Value<F[K]> } : never;
/** What can be encoded: fields that are left out are zero, and so are the ends of shorter lists. */
export type InputOf<L> = L extends Layout<infer F> ? { readonly [K in keyof F]?: InputValue<F[K]> } : never;

const BYTES: Readonly<Record<FieldKind, number>> = { u8: 1, bool: 1, u16: 2, u32: 4, s32: 4, u64: 8, s64: 8, uuid: 16 };
const RANGES: Readonly<Partial<Record<FieldKind, readonly [number, number]>>> = {
  u8: [0, 0xff],
  u16: [0, 0xffff],
  u32: [0, 0xffffffff],
  s32: [-0x80000000, 0x7fffffff],
};
const UUID_BYTES = 16;

/** A field of one value. */
export function field<K extends FieldKind>(kind: K, offset: number): Field<K, 1> {
  return { kind, offset, count: 1, step: BYTES[kind] };
}

/** A field that is a list of `count` values. */
export function list<K extends FieldKind>(kind: K, offset: number, count: number): Field<K> {
  return { kind, offset, count, step: BYTES[kind] };
}

/** A list of structures. */
export function structs<L extends AnyLayout>(layout: L, offset: number, count: number): Nested<L> {
  return { kind: 'struct', offset, count, layout };
}

/** Declares a structure. Throws RangeError when a field ends beyond it or lies on another one. */
export function layout<const F extends Fields>(name: string, size: number, fields: F): Layout<F> {
  let end = 0;
  let last = '';
  const ordered = Object.entries(fields).sort((a, b) => a[1].offset - b[1].offset);
  for (const [key, item] of ordered) {
    if (item.offset < end) throw new RangeError(`${name}.${key} lies on ${last}`);
    end = item.offset + (item.kind === 'struct' ? item.layout.size : item.step) * item.count;
    if (end > size) throw new RangeError(`${name}.${key} ends at byte ${end}, beyond ${size} bytes`);
    last = key;
  }
  return { name, size, fields };
}

function refuse(where: string, value: unknown, expected: string): never {
  const shown = typeof value === 'bigint' ? `${value}` : (JSON.stringify(value) ?? String(value));
  throw new RangeError(`${where}: ${shown}; expected ${expected}`);
}

function writeWord(view: DataView, at: number, kind: 'u64' | 's64', value: unknown, where: string): void {
  const expected = kind === 'u64' ? 'a whole number from 0 to 2^64 - 1' : 'a whole number from -2^63 to 2^63 - 1';
  if (typeof value !== 'bigint' && !(typeof value === 'number' && Number.isSafeInteger(value))) {
    refuse(where, value, `${expected}, as a bigint where it is 2^53 or more`);
  }
  const wide = BigInt(value);
  if ((kind === 'u64' ? BigInt.asUintN(64, wide) : BigInt.asIntN(64, wide)) !== wide) refuse(where, value, expected);
  if (kind === 'u64') view.setBigUint64(at, wide, true);
  else view.setBigInt64(at, wide, true);
}

function write(view: DataView, at: number, kind: FieldKind, value: unknown, where: string): void {
  if (kind === 'u64' || kind === 's64') {
    writeWord(view, at, kind, value, where);
  } else if (kind === 'bool') {
    if (typeof value !== 'boolean') refuse(where, value, 'true or false');
    view.setUint8(at, value ? 1 : 0);
  } else if (kind === 'uuid') {
    if (!(value instanceof Uint8Array) || value.length !== UUID_BYTES) refuse(where, value, 'a Uint8Array of 16 bytes');
    new Uint8Array(view.buffer, view.byteOffset + at, UUID_BYTES).set(value);
  } else {
    const [low, high] = RANGES[kind] as readonly [number, number];
    if (typeof value !== 'number' || !Number.isInteger(value) || value < low || value > high) {
      refuse(where, value, `a whole number from ${low} to ${high}`);
    }
    if (kind === 'u8') view.setUint8(at, value);
    else if (kind === 'u16') view.setUint16(at, value, true);
    else if (kind === 'u32') view.setUint32(at, value, true);
    else view.setInt32(at, value, true);
  }
}

function read(view: DataView, at: number, kind: FieldKind): number | bigint | boolean | Uint8Array {
  switch (kind) {
    case 'u8':
      return view.getUint8(at);
    case 'bool':
      return view.getUint8(at) !== 0;
    case 'u16':
      return view.getUint16(at, true);
    case 'u32':
      return view.getUint32(at, true);
    case 's32':
      return view.getInt32(at, true);
    case 'u64':
      return view.getBigUint64(at, true);
    case 's64':
      return view.getBigInt64(at, true);
    case 'uuid':
      return new Uint8Array(view.buffer, view.byteOffset + at, UUID_BYTES).slice();
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function writeAll(view: DataView, base: number, target: AnyLayout, values: unknown, path: string): void {
  if (typeof values !== 'object' || values === null) refuse(path, values, 'an object of fields');
  const given = values as Record<string, unknown>;
  for (const key of Object.keys(given)) {
    if (!Object.hasOwn(target.fields, key)) {
      refuse(`${path}.${key}`, given[key], `one of the fields ${Object.keys(target.fields).join(', ')}`);
    }
  }
  for (const [key, item] of Object.entries(target.fields as Fields)) {
    const value = given[key];
    const where = `${path}.${key}`;
    if (value === undefined) continue;
    if (item.kind !== 'struct' && item.count === 1) {
      write(view, base + item.offset, item.kind, value, where);
      continue;
    }
    if (!Array.isArray(value)) refuse(where, value, `a list of at most ${item.count}`);
    if (value.length > item.count) refuse(where, `${value.length} elements`, `at most ${item.count}`);
    for (const [i, element] of value.entries()) {
      if (item.kind === 'struct') {
        writeAll(view, base + item.offset + i * item.layout.size, item.layout, element, `${where}[${i}]`);
      } else write(view, base + item.offset + i * item.step, item.kind, element, `${where}[${i}]`);
    }
  }
}

/** Puts values over the bytes of a structure; what is not given, and what lies between fields, stays as it is. */
export function encodeInto<L extends AnyLayout>(target: L, values: InputOf<L>, bytes: Uint8Array): void {
  if (bytes.length < target.size) throw new RangeError(`${target.name}: ${bytes.length} bytes of ${target.size}`);
  writeAll(viewOf(bytes), 0, target, values, target.name);
}

/**
 * The bytes of a structure; fields that are left out are zero. Throws RangeError naming structure, field, value and
 * what is valid for a value that does not fit.
 */
export function encode<L extends AnyLayout>(target: L, values: InputOf<L>): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(target.size);
  encodeInto(target, values, bytes);
  return bytes;
}

function readAll(view: DataView, base: number, source: AnyLayout): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(source.fields as Fields)) {
    const at = base + item.offset;
    if (item.kind === 'struct') {
      values[key] = Array.from({ length: item.count }, (_, i) => readAll(view, at + i * item.layout.size, item.layout));
    } else if (item.count === 1) values[key] = read(view, at, item.kind);
    else values[key] = Array.from({ length: item.count }, (_, i) => read(view, at + i * item.step, item.kind));
  }
  return values;
}

/** The values of a structure, copied out. Throws RangeError for too few bytes. */
export function decode<L extends AnyLayout>(source: L, bytes: Uint8Array): ParamsOf<L> {
  if (bytes.length < source.size) throw new RangeError(`${source.name}: ${bytes.length} bytes of ${source.size}`);
  return readAll(viewOf(bytes), 0, source) as ParamsOf<L>;
}

const PAGE_BITS = 12n;
const OFFSET_MASK = 4095n;

/** The 4 KiB page of a byte address: a plain number for any 64-bit address. */
export function pageOfAddress(address: bigint): number {
  return Number(address >> PAGE_BITS);
}

/** The byte in the page. */
export function offsetOfAddress(address: bigint): number {
  return Number(address & OFFSET_MASK);
}

/** The byte address of a page number, plus an offset in bytes. */
export function addressOfPage(page: number, offset = 0): bigint {
  return (BigInt(page) << PAGE_BITS) + BigInt(offset);
}
