/**
 * The file of a recording (`.uvmrec`): a head of 16 bytes, then frames, which are only ever appended, so that a file
 * whose recorder was killed is whole up to its last frame. docs/recordings-format.md describes it.
 *
 * The writer is synchronous: what it has been given is in the file when it returns. The reader streams, and holds no
 * more of a file than a piece of one frame.
 */
import { closeSync, ftruncateSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { z } from 'zod';
import { EVENT_ENTRY_BYTES_V2, EVENT_TYPES_ALL } from '../device/abi/events.ts';
import { shapeError } from '../scenario/shapes.ts';
import { openNew, reasonOf, writeAll } from './disk.ts';
import {
  DROPS_SHAPE,
  END_SHAPE,
  FRAME_KIND,
  HEADER_SHAPE,
  MAPS_SHAPE,
  NOTE_SHAPE,
  PROCESSORS_SHAPE,
  type RecordingDrops,
  type RecordingEnd,
  RecordingFileError,
  type RecordingHeader,
  type RecordingMaps,
  type RecordingNote,
  type RecordingProcessors,
} from './recording_frames.ts';

export {
  FRAME_KIND,
  RECORDING_SUFFIX,
  type RecordingDrops,
  type RecordingEnd,
  RecordingFileError,
  type RecordingHeader,
  type RecordingMaps,
  type RecordingNote,
  type RecordingProcessors,
} from './recording_frames.ts';

export const RECORDING_HEAD_BYTES = 16;
export const FRAME_HEAD_BYTES = 8;
const MAGIC = 'UVMREC01';
/** What the payload of a frame is padded to. */
const ALIGNMENT = 8;

/** Why a recording ended; others may come up. */
export type EndReason = 'target exited' | 'interrupted' | 'time' | 'failed' | (string & {});

/** The writer's methods throw RecordingFileError when the disk refuses; the file is then whole up to that frame. */
export interface RecordingWriter {
  readonly path: string;
  /** Events and lost events so far, and bytes of the file. */
  readonly totals: { readonly events: number; readonly dropped: number; readonly bytes: number };
  /** Whole entries of 72 bytes, in order; they are written from where they lie. Nothing for an empty span. */
  appendEvents(entries: Uint8Array): void;
  appendMaps(maps: RecordingMaps): void;
  /** `dropped` as takeDropped gives it: pairs of type number and count. Nothing for an empty list. */
  appendDrops(dropped: readonly (readonly [type: number, count: number])[]): void;
  appendNote(text: string, time?: number): void;
  /** The processors of the VA space, where they are others than before. */
  appendProcessors(processors: RecordingProcessors['processors']): void;
  /** The last frame: why it ended, with the totals. */
  end(reason: EndReason): void;
  /** Closes the file, ended or not. Does nothing the second time. */
  close(): void;
}

export interface RecordingWriterOptions {
  /** Replace a file that is there. */
  overwrite?: boolean;
}

const ZEROS = new Uint8Array(ALIGNMENT);

function paddingOf(length: number): number {
  return (ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT;
}

/**
 * Begins a recording with its header. Throws RecordingFileError, which names the file: it exists (unless it may be
 * overwritten), lies in no folder, may not be written.
 */
export function createRecordingWriter(
  path: string,
  header: RecordingHeader,
  options: RecordingWriterOptions = {},
): RecordingWriter {
  const checked = HEADER_SHAPE.safeParse(header);
  if (!checked.success) throw new RangeError(shapeError(HEADER_SHAPE, checked.error, header, ['header']));
  let file = openNew(path, options.overwrite ?? false, (message) => new RecordingFileError(message));
  const totals = { events: 0, dropped: 0, bytes: 0 };
  const frameHead = new Uint8Array(FRAME_HEAD_BYTES);
  const view = new DataView(frameHead.buffer);
  const write = (pieces: Uint8Array[]): void => {
    if (file < 0) throw new RecordingFileError(`${path}: is closed already`);
    try {
      writeAll(file, pieces);
    } catch (error) {
      // Half a frame would make everything behind it unreadable.
      try {
        ftruncateSync(file, totals.bytes);
      } catch {}
      throw new RecordingFileError(`${path}: cannot be written: ${reasonOf(error)}`);
    }
    for (const piece of pieces) totals.bytes += piece.length;
  };
  const frame = (kind: number, payload: Uint8Array): void => {
    view.setUint32(0, kind, true);
    view.setUint32(4, payload.length, true);
    const padding = paddingOf(payload.length);
    write(padding === 0 ? [frameHead, payload] : [frameHead, payload, ZEROS.subarray(0, padding)]);
  };
  const json = (kind: number, value: unknown): void => frame(kind, Buffer.from(JSON.stringify(value)));
  const close = (): void => {
    if (file >= 0) closeSync(file);
    file = -1;
  };
  try {
    write([Buffer.from(MAGIC), ZEROS]);
    json(FRAME_KIND.header, header);
  } catch (error) {
    close();
    throw error;
  }
  return {
    path,
    totals,
    appendEvents: (entries) => {
      const count = entries.length / EVENT_ENTRY_BYTES_V2;
      if (!Number.isInteger(count)) {
        throw new RangeError(`${entries.length} bytes are no whole entries of ${EVENT_ENTRY_BYTES_V2} bytes`);
      }
      if (count === 0) return;
      frame(FRAME_KIND.events, entries);
      totals.events += count;
    },
    appendMaps: (maps) => json(FRAME_KIND.maps, maps),
    appendDrops: (dropped) => {
      if (dropped.length === 0) return;
      json(FRAME_KIND.drops, { dropped: Object.fromEntries(dropped) } satisfies RecordingDrops);
      for (const [, count] of dropped) totals.dropped += count;
    },
    appendNote: (note, time) => json(FRAME_KIND.note, time === undefined ? { text: note } : { text: note, time }),
    appendProcessors: (processors) => json(FRAME_KIND.processors, { processors }),
    end: (reason) => json(FRAME_KIND.end, { reason, events: totals.events, dropped: totals.dropped }),
    close,
  };
}

/** A frame, or the end of the file. `offset` is the byte where it begins. */
export type RecordingFrame =
  | { kind: 'header'; offset: number; header: RecordingHeader }
  /**
   * Whole entries of 72 bytes: a frame, or a piece of a large one. `entries` is valid until the next frame is asked
   * for, and empty where the reader was told to pass events over.
   */
  | { kind: 'events'; offset: number; count: number; entries: Uint8Array }
  | { kind: 'maps'; offset: number; maps: RecordingMaps }
  | { kind: 'drops'; offset: number; dropped: [type: number, count: number][] }
  | { kind: 'note'; offset: number; note: RecordingNote }
  /** They take the place of the header's. */
  | { kind: 'processors'; offset: number; processors: RecordingProcessors['processors'] }
  | { kind: 'end'; offset: number; end: RecordingEnd }
  /**
   * Always the last one. `truncated`: the last frame was cut, and `ignoredBytes` of it at the end of the file were of
   * no use.
   */
  | { kind: 'close'; offset: number; truncated: boolean; ignoredBytes: number };

export interface ReadRecordingOptions {
  /** False passes the entries over without reading them. */
  events?: boolean;
  /** Whole number of entries that are handed over at a time, at most. */
  entriesAtOnce?: number;
}

const ENTRIES_AT_ONCE = 16384;
/** Longest payload of a frame that is not events. */
const JSON_BYTES_MAX = 2 ** 28;

interface Source {
  path: string;
  file: FileHandle;
  at: number;
}

function malformed(source: Source, offset: number, what: string): never {
  throw new RecordingFileError(`${source.path}: byte ${offset}: ${what}`);
}

/** Reads at the source's place into `target`; fewer bytes than asked for at the end of the file alone. */
async function fill(source: Source, target: Uint8Array): Promise<number> {
  let filled = 0;
  while (filled < target.length) {
    const { bytesRead } = await source.file.read(target, filled, target.length - filled, source.at);
    if (bytesRead === 0) break;
    filled += bytesRead;
    source.at += bytesRead;
  }
  return filled;
}

async function readFileHead(source: Source): Promise<void> {
  const head = Buffer.alloc(RECORDING_HEAD_BYTES);
  const length = await fill(source, head);
  const magic = head.toString('latin1', 0, Math.min(length, MAGIC.length));
  if (magic === '' || !MAGIC.startsWith(magic)) malformed(source, 0, 'this is no recording of uvmlab');
  if (length < RECORDING_HEAD_BYTES) malformed(source, length, 'the file ends before its header');
  if (head.some((byte, i) => i >= MAGIC.length && byte !== 0)) {
    malformed(source, MAGIC.length, 'the eight bytes behind the magic are not zero');
  }
}

function parseJson<S extends z.ZodObject>(
  source: Source,
  offset: number,
  shape: S,
  what: string,
  payload: Uint8Array,
): z.infer<S> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
  } catch (error) {
    return malformed(source, offset, `the ${what} is not JSON: ${(error as Error).message}`);
  }
  const checked = shape.safeParse(value);
  if (!checked.success) return malformed(source, offset, shapeError(shape, checked.error, value, [what]));
  return checked.data;
}

function jsonFrame(source: Source, offset: number, kind: number, payload: Uint8Array): RecordingFrame | null {
  switch (kind) {
    case FRAME_KIND.header:
      return { kind: 'header', offset, header: parseJson(source, offset, HEADER_SHAPE, 'header', payload) };
    case FRAME_KIND.maps:
      return { kind: 'maps', offset, maps: parseJson(source, offset, MAPS_SHAPE, 'maps', payload) };
    case FRAME_KIND.drops: {
      const { dropped } = parseJson(source, offset, DROPS_SHAPE, 'drops', payload);
      const pairs = Object.entries(dropped).map(([type, count]): [number, number] => [Number(type), count]);
      const wrong = pairs.find(([type]) => type >= EVENT_TYPES_ALL);
      if (wrong !== undefined) {
        malformed(source, offset, `drops.dropped: type ${wrong[0]}; expected 0 to ${EVENT_TYPES_ALL - 1}`);
      }
      return { kind: 'drops', offset, dropped: pairs };
    }
    case FRAME_KIND.note:
      return { kind: 'note', offset, note: parseJson(source, offset, NOTE_SHAPE, 'note', payload) };
    case FRAME_KIND.processors: {
      const { processors } = parseJson(source, offset, PROCESSORS_SHAPE, 'processors', payload);
      return { kind: 'processors', offset, processors };
    }
    case FRAME_KIND.end:
      return { kind: 'end', offset, end: parseJson(source, offset, END_SHAPE, 'end', payload) };
    default:
      return null;
  }
}

/** What is left of the file from `offset` on is of no use: its last frame was cut. */
function cut(offset: number, size: number): RecordingFrame {
  return { kind: 'close', offset, truncated: true, ignoredBytes: size - offset };
}

/** The entries of one frame, whose payload begins at the source's place, as far as they are whole. */
async function* eventPieces(
  source: Source,
  offset: number,
  length: number,
  buffer: Uint8Array | null,
): AsyncGenerator<RecordingFrame> {
  const whole = Math.floor(length / EVENT_ENTRY_BYTES_V2);
  const end = source.at + whole * EVENT_ENTRY_BYTES_V2;
  if (buffer === null) {
    source.at = end;
    if (whole > 0) yield { kind: 'events', offset, count: whole, entries: new Uint8Array(0) };
    return;
  }
  while (source.at < end) {
    const entries = buffer.subarray(0, Math.min(buffer.length, end - source.at));
    const at = source.at;
    if ((await fill(source, entries)) < entries.length) malformed(source, at, 'the file became shorter while read');
    yield { kind: 'events', offset, count: entries.length / EVENT_ENTRY_BYTES_V2, entries };
  }
}

async function* readFrames(source: Source, size: number, buffer: Uint8Array | null): AsyncGenerator<RecordingFrame> {
  await readFileHead(source);
  const head = Buffer.alloc(FRAME_HEAD_BYTES);
  let begun = false;
  let ended = false;
  while (source.at < size) {
    const offset = source.at;
    if (ended) malformed(source, offset, 'something follows the frame that ends the recording');
    if (size - offset < FRAME_HEAD_BYTES || (await fill(source, head)) < FRAME_HEAD_BYTES) {
      if (!begun) malformed(source, size, 'the file ends before its header');
      yield cut(offset, size);
      return;
    }
    const kind = head.readUInt32LE(0);
    const length = head.readUInt32LE(4);
    const left = size - source.at;
    if (begun === (kind === FRAME_KIND.header)) {
      malformed(source, offset, begun ? 'a second header' : `a frame of kind ${kind}; expected the header, kind 1`);
    }
    if (kind === FRAME_KIND.events) {
      if (length % EVENT_ENTRY_BYTES_V2 !== 0) {
        malformed(source, offset, `${length} bytes of events; expected a multiple of ${EVENT_ENTRY_BYTES_V2}`);
      }
      yield* eventPieces(source, offset, Math.min(length, left), buffer);
      if (length <= left) continue;
      // A cut frame that holds no whole entry was of no use at all, with its head.
      yield cut(left < EVENT_ENTRY_BYTES_V2 ? offset : source.at, size);
      return;
    }
    if (length > left) {
      if (!begun) malformed(source, size, 'the file ends within its header');
      yield cut(offset, size);
      return;
    }
    const known = kind >= FRAME_KIND.header && kind <= FRAME_KIND.processors;
    if (!known) source.at += length;
    else {
      if (length > JSON_BYTES_MAX) malformed(source, offset, `a frame of kind ${kind} with ${length} bytes`);
      const payload = new Uint8Array(length);
      await fill(source, payload);
      const frame = jsonFrame(source, offset, kind, payload);
      if (frame !== null) yield frame;
    }
    begun = true;
    ended = kind === FRAME_KIND.end;
    const padding = new Uint8Array(Math.min(paddingOf(length), size - source.at));
    await fill(source, padding);
    if (padding.some((byte) => byte !== 0)) malformed(source, offset, 'the padding of the frame is not zero');
    if (padding.length < paddingOf(length)) {
      yield cut(size - padding.length, size);
      return;
    }
  }
  if (!begun) malformed(source, size, 'the file ends before its header');
  yield { kind: 'close', offset: size, truncated: false, ignoredBytes: 0 };
}

/**
 * Reads the frames of a recording in order: the header first, 'close' last. What the file holds when it is opened is
 * read, so that one which is still being written may be looked at. A last frame that is cut ends the reading without
 * an error, and its whole entries count; kinds of frames that are not known are passed over. Throws RecordingFileError,
 * with the byte where it is, for anything else that is wrong.
 */
export async function* readRecording(path: string, options: ReadRecordingOptions = {}): AsyncGenerator<RecordingFrame> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw new RecordingFileError(`${path}: cannot be read: ${reasonOf(error)}`);
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) {
      throw new RecordingFileError(`${path}: cannot be read: it is ${stat.isDirectory() ? 'a folder' : 'no file'}`);
    }
    const { events = true, entriesAtOnce = ENTRIES_AT_ONCE } = options;
    const most = Math.min(entriesAtOnce, Math.ceil(stat.size / EVENT_ENTRY_BYTES_V2));
    const buffer = events ? new Uint8Array(most * EVENT_ENTRY_BYTES_V2) : null;
    yield* readFrames({ path, file, at: 0 }, stat.size, buffer);
  } catch (error) {
    if (error instanceof RecordingFileError || (error as NodeJS.ErrnoException).code === undefined) throw error;
    throw new RecordingFileError(`${path}: cannot be read: ${reasonOf(error)}`);
  } finally {
    await file.close();
  }
}

/** The header of a recording; the rest is not looked at. Throws RecordingFileError. */
export async function readRecordingHeader(path: string): Promise<RecordingHeader> {
  for await (const frame of readRecording(path, { events: false })) if (frame.kind === 'header') return frame.header;
  throw new RecordingFileError(`${path}: has no header`);
}
