/**
 * An answer with typed arrays as bytes: the length of a JSON text as 4 bytes, the text, and the arrays behind it, each
 * at a multiple of 8 bytes from the end of the text's padding. In the text an array is
 * `{ "$array": type, "at", "length" }`. Numbers are little-endian, as in every machine that runs a browser or Node.
 */

const TYPES = { Float64Array, Uint32Array, Uint16Array, Uint8Array, Int32Array } as const;
type TypeName = keyof typeof TYPES;

interface ArrayPlace {
  $array: TypeName;
  at: number;
  length: number;
}

export const FRAME_HEAD_BYTES = 4;
const ALIGNMENT = 8;

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** Pieces of one answer, to be written one behind the other. */
export function encodeFrame(value: unknown): Uint8Array[] {
  const arrays: Uint8Array[] = [];
  let at = 0;
  const text = JSON.stringify(value, (_, field: unknown) => {
    if (!ArrayBuffer.isView(field) || field instanceof DataView) return field;
    const $array = field.constructor.name as TypeName;
    if (!Object.hasOwn(TYPES, $array)) throw new TypeError(`no frame has a ${$array}`);
    const bytes = new Uint8Array(field.buffer, field.byteOffset, field.byteLength);
    const place: ArrayPlace = { $array, at, length: (field as Uint8Array).length };
    arrays.push(bytes);
    const padding = aligned(bytes.length) - bytes.length;
    if (padding > 0) arrays.push(new Uint8Array(padding));
    at += bytes.length + padding;
    return place;
  });
  const json = new TextEncoder().encode(text);
  const head = new Uint8Array(FRAME_HEAD_BYTES);
  new DataView(head.buffer).setUint32(0, json.length, true);
  const padding = new Uint8Array(aligned(FRAME_HEAD_BYTES + json.length) - FRAME_HEAD_BYTES - json.length);
  return [head, json, padding, ...arrays];
}

/** The answer in the bytes of a frame. Throws RangeError where they are none. */
export function decodeFrame(bytes: ArrayBuffer): unknown {
  if (bytes.byteLength < FRAME_HEAD_BYTES) throw new RangeError('an answer without a length');
  const length = new DataView(bytes).getUint32(0, true);
  const behind = aligned(FRAME_HEAD_BYTES + length);
  if (behind > bytes.byteLength) throw new RangeError('an answer that is shorter than it says');
  const text = new TextDecoder().decode(new Uint8Array(bytes, FRAME_HEAD_BYTES, length));
  return JSON.parse(text, (_, field: unknown) => {
    if (typeof field !== 'object' || field === null || !('$array' in field)) return field;
    const { $array, at, length: count } = field as ArrayPlace;
    return new TYPES[$array](bytes, behind + at, count);
  });
}
