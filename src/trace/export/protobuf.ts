/**
 * Writing protobuf's wire format (https://protobuf.dev/programming-guides/encoding): varints, fixed numbers, texts and
 * messages into a growing array of bytes. Numbers are doubles that are whole, and are written exactly however large
 * they are; a package that does this has an object for each message, or BigInt, and takes four to seven times as long.
 */
export interface ProtoBuffer {
  bytes: Uint8Array;
  view: DataView;
  /** Bytes that hold. */
  at: number;
}

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const TWO_28 = 2 ** 28;
const TWO_32 = 2 ** 32;
const encoder = new TextEncoder();

export function createProtoBuffer(size: number): ProtoBuffer {
  const bytes = new Uint8Array(size);
  return { bytes, view: new DataView(bytes.buffer), at: 0 };
}

/** Makes room for `more` bytes. */
export function reserveBytes(b: ProtoBuffer, more: number): void {
  if (b.at + more <= b.bytes.length) return;
  const grown = new Uint8Array(Math.max(b.at + more, b.bytes.length * 2));
  grown.set(b.bytes.subarray(0, b.at));
  b.bytes = grown;
  b.view = new DataView(grown.buffer);
}

/** A whole number from 0 to below 2^64, exactly. */
export function putVarint(b: ProtoBuffer, value: number): void {
  reserveBytes(b, 10);
  const { bytes } = b;
  let at = b.at;
  let rest = value;
  while (rest >= TWO_28) {
    const high = Math.floor(rest / TWO_28);
    const low = rest - high * TWO_28;
    bytes[at] = low | 0x80;
    bytes[at + 1] = (low >>> 7) | 0x80;
    bytes[at + 2] = (low >>> 14) | 0x80;
    bytes[at + 3] = (low >>> 21) | 0x80;
    at += 4;
    rest = high;
  }
  while (rest >= 0x80) {
    bytes[at++] = rest | 0x80;
    rest >>>= 7;
  }
  bytes[at++] = rest;
  b.at = at;
}

/** Bytes that putVarint takes for a number below 2^28. */
export function varintSize(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : 4;
}

/** The number `high` * 2^32 + `low`, of two halves from 0 to below 2^32. */
function putHalves(b: ProtoBuffer, high: number, low: number): void {
  if (high < 2 ** 21) {
    putVarint(b, high * TWO_32 + low);
    return;
  }
  const at28 = low % TWO_28;
  putVarint(b, TWO_28 + at28);
  // The last of the five bytes was that of 2^28: the rest of the number takes its place.
  b.at--;
  putVarint(b, high * 16 + (low - at28) / TWO_28);
}

/** A whole number from -2^63 to below 2^63 as an int64: a negative one as its two's complement. */
export function putInt64(b: ProtoBuffer, value: number): void {
  if (value >= 0) {
    putVarint(b, value);
    return;
  }
  const high = Math.floor(value / TWO_32);
  putHalves(b, high + TWO_32, value - high * TWO_32);
}

/** The sum of two whole numbers, which is from 0 to below 2^64: exactly, also where a double cannot hold it. */
export function putSum(b: ProtoBuffer, value: number, more: number): void {
  const sum = value + more;
  if (sum <= Number.MAX_SAFE_INTEGER) {
    putVarint(b, sum);
    return;
  }
  const high = Math.floor(value / TWO_32);
  const highOfMore = Math.floor(more / TWO_32);
  const low = value - high * TWO_32 + (more - highOfMore * TWO_32);
  const carry = low >= TWO_32 ? 1 : 0;
  putHalves(b, high + highOfMore + carry, low - carry * TWO_32);
}

export function putNumberField(b: ProtoBuffer, field: number, value: number): void {
  putVarint(b, field * 8 + VARINT);
  putInt64(b, value);
}

export function putDoubleField(b: ProtoBuffer, field: number, value: number): void {
  putVarint(b, field * 8 + FIXED64);
  reserveBytes(b, 8);
  b.view.setFloat64(b.at, value, true);
  b.at += 8;
}

/** A whole number from 0 to 2^53 as a fixed64. */
export function putFixedField(b: ProtoBuffer, field: number, value: number): void {
  putVarint(b, field * 8 + FIXED64);
  reserveBytes(b, 8);
  b.view.setUint32(b.at, value % TWO_32, true);
  b.view.setUint32(b.at + 4, Math.floor(value / TWO_32), true);
  b.at += 8;
}

/** A text in UTF-8. A half of a surrogate pair becomes U+FFFD. */
export function putTextField(b: ProtoBuffer, field: number, text: string): void {
  const encoded = encoder.encode(text);
  putVarint(b, field * 8 + LENGTH);
  putVarint(b, encoded.length);
  reserveBytes(b, encoded.length);
  b.bytes.set(encoded, b.at);
  b.at += encoded.length;
}

/** Bytes that stand in another buffer. */
export function putBuffer(b: ProtoBuffer, from: ProtoBuffer): void {
  const count = from.at;
  reserveBytes(b, count);
  if (count > 256) b.bytes.set(from.bytes.subarray(0, count), b.at);
  else for (let i = 0; i < count; i++) b.bytes[b.at + i] = from.bytes[i];
  b.at += count;
}

/** A message whose fields stand in another buffer. */
export function putBufferField(b: ProtoBuffer, field: number, from: ProtoBuffer): void {
  putVarint(b, field * 8 + LENGTH);
  putVarint(b, from.at);
  putBuffer(b, from);
}

/** A message that `fill` writes. Not for what there are millions of. */
export function putMessageField(b: ProtoBuffer, field: number, fill: (inner: ProtoBuffer) => void): void {
  const inner = createProtoBuffer(64);
  fill(inner);
  putBufferField(b, field, inner);
}
