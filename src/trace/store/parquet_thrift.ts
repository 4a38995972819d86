/**
 * Reading Thrift's compact protocol, in which Parquet writes its footers and page headers: generic values by number of
 * field. Whatever the bytes are, it ends, and makes no more than a few values for each of them: lengths are held
 * against what is left before anything is made.
 */

export type Thrift = number | boolean | Uint8Array | Thrift[] | ThriftStruct;
/** Values by number of field. */
export type ThriftStruct = Map<number, Thrift>;

/** Bytes that are not what they should be; `offset` is where, counted from the start of the file. */
export class MalformedError extends Error {
  override name = 'MalformedError';
  readonly offset: number;
  constructor(offset: number, message: string) {
    super(message);
    this.offset = offset;
  }
}

interface Reader {
  readonly bytes: Uint8Array;
  at: number;
  /** Where the first byte lies in the file. */
  readonly base: number;
  /** Values that may still be made. */
  left: number;
}

/** Deeper than any structure of Parquet. */
const DEPTH_MAX = 16;
const VARINT_BYTES_MAX = 10;
/** Values of a structure, at most: what the footer of some 900 million rows has, and few where there are few bytes. */
const VALUES_MAX = 2 ** 21;
const VALUES_OF_ANY = 64;
const BYTES_OF_A_VALUE = 2;

const STOP = 0;
const TRUE = 1;
const FALSE = 2;
const BYTE = 3;
const I16 = 4;
const I32 = 5;
const I64 = 6;
const DOUBLE = 7;
const BINARY = 8;
const LIST = 9;
const STRUCT = 12;

function malformed(r: Reader, what: string): never {
  throw new MalformedError(r.base + r.at, what);
}

function byte(r: Reader): number {
  if (r.at >= r.bytes.length) malformed(r, 'a structure goes beyond its end');
  return r.bytes[r.at++];
}

/** As a plain number: exact up to 2^53, about right above. */
function varint(r: Reader): number {
  let value = 0;
  let unit = 1;
  for (let n = 0; n < VARINT_BYTES_MAX; n++) {
    const b = byte(r);
    value += (b & 127) * unit;
    if (b < 128) return value;
    unit *= 128;
  }
  return malformed(r, `a number of more than ${VARINT_BYTES_MAX} bytes`);
}

function zigzag(r: Reader): number {
  const value = varint(r);
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

function take(r: Reader, length: number): Uint8Array {
  if (length > r.bytes.length - r.at) {
    malformed(r, `${length} bytes, of which only ${r.bytes.length - r.at} are there`);
  }
  r.at += length;
  return r.bytes.subarray(r.at - length, r.at);
}

function list(r: Reader, depth: number): Thrift[] {
  const head = byte(r);
  const type = head & 15;
  const length = head >> 4 === 15 ? varint(r) : head >> 4;
  // Each element takes a byte at least.
  if (length > r.bytes.length - r.at) malformed(r, `a list of ${length} in ${r.bytes.length - r.at} bytes`);
  const values: Thrift[] = [];
  for (let i = 0; i < length; i++) {
    // A list of truth values has bytes.
    values.push(type === TRUE || type === FALSE ? byte(r) === 1 : element(r, type, depth));
  }
  return values;
}

function element(r: Reader, type: number, depth: number): Thrift {
  if (--r.left < 0) malformed(r, 'more values than such a structure has');
  switch (type) {
    case TRUE:
      return true;
    case FALSE:
      return false;
    case BYTE:
      return (byte(r) << 24) >> 24;
    case I16:
    case I32:
    case I64:
      return zigzag(r);
    case DOUBLE: {
      const bytes = take(r, 8);
      return new DataView(bytes.buffer, bytes.byteOffset, 8).getFloat64(0, true);
    }
    case BINARY:
      return take(r, varint(r));
    case LIST:
      return list(r, depth);
    case STRUCT:
      return struct(r, depth + 1);
    default:
      return malformed(r, `a value of type ${type}, which Parquet does not use`);
  }
}

function struct(r: Reader, depth: number): ThriftStruct {
  if (depth > DEPTH_MAX) malformed(r, `structures within structures, more than ${DEPTH_MAX} deep`);
  const fields: ThriftStruct = new Map();
  let field = 0;
  for (;;) {
    const head = byte(r);
    const type = head & 15;
    if (type === STOP) return fields;
    field = head >> 4 === 0 ? zigzag(r) : field + (head >> 4);
    fields.set(field, element(r, type, depth));
  }
}

/**
 * The structure that begins at index `at` of `bytes`, and the index behind it. `base` is where the first of the bytes
 * lies in the file, for the message of the MalformedError that it throws.
 */
export function readThrift(bytes: Uint8Array, at: number, base: number): { fields: ThriftStruct; end: number } {
  const left = Math.min(VALUES_MAX, VALUES_OF_ANY + (bytes.length - at) / BYTES_OF_A_VALUE);
  const r: Reader = { bytes, at, base, left };
  const fields = struct(r, 0);
  return { fields, end: r.at };
}

/** A field that is a number; NaN where it is absent or something else. */
export function numberOf(fields: ThriftStruct, field: number): number {
  const value = fields.get(field);
  return typeof value === 'number' ? value : Number.NaN;
}

/** A field that is a structure, or null. */
export function structOf(fields: ThriftStruct, field: number): ThriftStruct | null {
  const value = fields.get(field);
  return value instanceof Map ? value : null;
}

/** A field that is a list of structures; those of its elements that are none are left out. */
export function structsOf(fields: ThriftStruct, field: number): ThriftStruct[] {
  const value = fields.get(field);
  return Array.isArray(value) ? value.filter((one) => one instanceof Map) : [];
}

const UTF8 = new TextDecoder('utf-8', { fatal: true });

/** UTF-8 as text, or null where it is none. */
export function textOf(value: Thrift | undefined): string | null {
  if (!(value instanceof Uint8Array)) return null;
  try {
    return UTF8.decode(value);
  } catch {
    return null;
  }
}
