import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeEventV2 } from '../device/abi/events.ts';
import {
  createRecordingWriter,
  type ReadRecordingOptions,
  type RecordingFrame,
  type RecordingHeader,
  readRecording,
  readRecordingHeader,
} from './recording_file.ts';

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'uvmlab-recording-'));
  path = join(dir, 'a.uvmrec');
});
afterEach(() => rmSync(dir, { recursive: true }));

const HEADER: RecordingHeader = {
  format: 1,
  uvmlab: '1.0.0',
  driver: '580.105.08',
  kernel: null,
  pid: 12,
  command: ['./a', 'ü'],
  executable: '/a',
  processors: [
    { number: 0, word: 'cpu', uuid: 'c' },
    { number: 1, word: 'gpu0', uuid: 'g', name: 'NVIDIA H200' },
  ],
  events: ['cpuFault'],
  ringEntries: 1024,
  machine: null,
  parameters: { uvm_perf_prefetch_enable: '1' },
  attached: 'unknown',
  cpuClock: 'CLOCK_MONOTONIC_RAW',
};

/** Entries whose time stamps count from `first`. */
function entries(first: number, count: number): Uint8Array {
  return Buffer.concat(
    Array.from({ length: count }, (_, i) => encodeEventV2('cpuFault', { accessType: 1, timeStamp: first + i })),
  );
}

/** The frames; entries become their time stamps. */
async function read(options?: ReadRecordingOptions) {
  const frames: (Exclude<RecordingFrame, { kind: 'events' }> | { kind: 'events'; times: number[]; count: number })[] =
    [];
  for await (const frame of readRecording(path, options)) {
    if (frame.kind !== 'events') frames.push(frame);
    else {
      const { entries: bytes, count } = frame;
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      const times = Array.from({ length: bytes.length / 72 }, (_, i) => Number(view.getBigUint64(i * 72 + 16, true)));
      frames.push({ kind: 'events', times, count });
    }
  }
  return frames;
}

const MAPS = { time: 5, ranges: [{ start: '7f0000000000', end: '7f0000200000' }] };

/** A recording with a frame of each kind, whose events have the times 1 to 5. */
function writeSmall(): void {
  const writer = createRecordingWriter(path, HEADER);
  writer.appendMaps(MAPS);
  writer.appendEvents(entries(1, 3));
  writer.appendDrops([[3, 7]]);
  writer.appendDrops([]);
  writer.appendNote('half', 9);
  writer.appendEvents(new Uint8Array(0));
  writer.appendEvents(entries(4, 2));
  writer.end('interrupted');
  writer.close();
  writer.close();
}

describe('a recording', () => {
  it('comes out as it was written', async () => {
    writeSmall();
    const frames = await read();
    expect(frames.map((frame) => frame.kind).join(' ')).toBe('header maps events drops note events end close');
    expect(frames[0]).toMatchObject({ offset: 16, header: HEADER });
    expect(frames.slice(1)).toMatchObject([
      { maps: MAPS },
      { times: [1, 2, 3], count: 3 },
      { dropped: [[3, 7]] },
      { note: { text: 'half', time: 9 } },
      { times: [4, 5], count: 2 },
      { end: { reason: 'interrupted', events: 5, dropped: 7 } },
      { truncated: false, ignoredBytes: 0, offset: readFileSync(path).length },
    ]);
    expect(readFileSync(path).length % 8).toBe(0);
    expect(await readRecordingHeader(path)).toEqual(HEADER);
  });

  it('is readable to its last whole entry wherever it is cut', async () => {
    writeSmall();
    const whole = readFileSync(path);
    const begins = (await allOffsets()).map(({ offset }) => offset);
    const headerPayloadEnd = 24 + Buffer.from(JSON.stringify(HEADER)).length;
    for (let size = 0; size < whole.length; size++) {
      writeFileSync(path, whole.subarray(0, size));
      if (size < headerPayloadEnd) {
        await expect(read(), `${size}`).rejects.toThrow(/a\.uvmrec: byte \d+: /);
        continue;
      }
      const part = await read();
      const last = part[part.length - 1];
      if (last.kind !== 'close') throw new Error('no close');
      expect(last.truncated, `${size}`).toBe(!begins.includes(size));
      const times = part.flatMap((frame) => (frame.kind === 'events' ? frame.times : []));
      expect(times, `${size}`).toEqual([1, 2, 3, 4, 5].slice(0, wholeEntries(begins, size)));
      expect(last.ignoredBytes).toBe(size - last.offset);
      // Without the entries the same file gives the same numbers.
      const counted = (await read({ events: false })).reduce((n, f) => n + (f.kind === 'events' ? f.count : 0), 0);
      expect(counted).toBe(times.length);
    }
  });

  async function allOffsets(): Promise<RecordingFrame[]> {
    const all: RecordingFrame[] = [];
    for await (const frame of readRecording(path)) all.push(frame);
    return all;
  }

  /** Entries of the two event frames, the third and the sixth, that lie before byte `size`. */
  function wholeEntries(begins: number[], size: number): number {
    const within = (begin: number, count: number): number =>
      Math.max(0, Math.min(count, Math.floor((size - begin - 8) / 72)));
    return within(begins[2], 3) + within(begins[5], 2);
  }

  it('hands over large frames in pieces, and counts events that it passes over', async () => {
    const writer = createRecordingWriter(path, HEADER);
    for (let i = 0; i < 40; i++) writer.appendEvents(entries(i * 50, 50));
    writer.close();
    const frames = await read({ entriesAtOnce: 16 });
    const pieces = frames.flatMap((frame) => (frame.kind === 'events' ? [frame] : []));
    expect(pieces.map((piece) => piece.count).slice(0, 5)).toEqual([16, 16, 16, 2, 16]);
    expect(pieces.flatMap((piece) => piece.times)).toEqual(Array.from({ length: 2000 }, (_, i) => i));
    const passed = (await read({ events: false })).flatMap((frame) => (frame.kind === 'events' ? [frame] : []));
    expect(passed).toEqual(Array.from({ length: 40 }, () => ({ kind: 'events', times: [], count: 50 })));
    expect(frames[frames.length - 1]).toMatchObject({ kind: 'close', truncated: false });
  });

  it('passes over frames of kinds that are not known', async () => {
    writeSmall();
    const whole = readFileSync(path);
    const headerEnd = (await allOffsets())[1].offset;
    const strange = Buffer.from([9, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0]);
    writeFileSync(path, Buffer.concat([whole.subarray(0, headerEnd), strange, whole.subarray(headerEnd)]));
    expect((await read()).map((frame) => frame.kind).join(' ')).toBe('header maps events drops note events end close');
  });
});

describe('writing', () => {
  it('replaces a file only when told to', async () => {
    writeFileSync(path, 'mine');
    expect(() => createRecordingWriter(path, HEADER)).toThrow(`${path}: exists already`);
    expect(readFileSync(path, 'utf8')).toBe('mine');
    createRecordingWriter(path, HEADER, { overwrite: true }).close();
    expect(await readRecordingHeader(path)).toEqual(HEADER);
  });

  it('names the file in every refusal', () => {
    const nowhere = join(dir, 'no', 'a.uvmrec');
    expect(() => createRecordingWriter(nowhere, HEADER)).toThrow(`${nowhere}: cannot be written: there is no such`);
    expect(() => createRecordingWriter(dir, HEADER, { overwrite: true })).toThrow(`${dir}: cannot be written: it is`);
    const writer = createRecordingWriter(path, HEADER);
    expect(() => writer.appendEvents(new Uint8Array(71))).toThrow('71 bytes are no whole entries');
    writer.close();
    expect(() => writer.appendNote('late')).toThrow(`${path}: is closed already`);
    expect(() => createRecordingWriter(join(dir, 'b.uvmrec'), { ...HEADER, pid: -1 })).toThrow(
      'header.pid: -1; expected a whole number from 0',
    );
  });

  it('says that a full disk is full', () => {
    expect(() => createRecordingWriter('/dev/full', HEADER, { overwrite: true })).toThrow(
      '/dev/full: cannot be written: no space is left',
    );
  });
});

describe('reading', () => {
  /** A file of the header and one more frame. */
  function withFrame(kind: number, payload: string, padding = (8 - (payload.length % 8)) % 8, fill = 0): number {
    createRecordingWriter(path, HEADER, { overwrite: true }).close();
    const begin = readFileSync(path);
    const head = Buffer.alloc(8);
    head.writeUInt32LE(kind, 0);
    head.writeUInt32LE(payload.length, 4);
    writeFileSync(path, Buffer.concat([begin, head, Buffer.from(payload), Buffer.alloc(padding, fill)]));
    return begin.length;
  }

  it.each([
    [3, '{', 'the maps is not JSON'],
    [3, '{"time":1,"ranges":[{"start":"x","end":"1"}]}', 'maps.ranges[0].start: "x"; expected an address'],
    [4, '{"dropped":{"64":1}}', 'drops.dropped: type 64; expected 0 to 63'],
    [4, '{"dropped":{"3":-1}}', 'drops.dropped.3: -1; expected a whole number from 0'],
    [5, '{}', 'note.text: missing; expected a text'],
    [6, '{"reason":"x","events":1}', 'end.dropped: missing'],
    [2, 'x'.repeat(71), '71 bytes of events; expected a multiple of 72'],
    [1, '{}', 'a second header'],
  ])('refuses a frame of kind %i that holds %s, and says where', async (kind, payload, message) => {
    const offset = withFrame(kind, payload);
    await expect(read()).rejects.toThrow(`${path}: byte ${offset}: ${message}`);
  });

  it('refuses padding with something in it, and frames behind the end', async () => {
    const offset = withFrame(9, 'abc', 5, 1);
    await expect(read()).rejects.toThrow(`byte ${offset}: the padding of the frame is not zero`);
    withFrame(6, '{"reason":"x","events":0,"dropped":0}');
    const whole = readFileSync(path);
    writeFileSync(path, Buffer.concat([whole, Buffer.alloc(8)]));
    await expect(read()).rejects.toThrow(`byte ${whole.length}: something follows`);
  });

  it('refuses what is no recording', async () => {
    await expect(read()).rejects.toThrow(`${path}: cannot be read: there is no such file`);
    writeFileSync(path, '{"scenario":{}}');
    await expect(read()).rejects.toThrow(`${path}: byte 0: this is no recording`);
    writeFileSync(path, '');
    await expect(read()).rejects.toThrow('this is no recording');
    const head = Buffer.alloc(40);
    head.write('UVMREC01');
    head[8] = 1;
    writeFileSync(path, head);
    await expect(read()).rejects.toThrow('byte 8: the eight bytes behind the magic are not zero');
    head[8] = 0;
    head[16] = 2;
    writeFileSync(path, head);
    await expect(read()).rejects.toThrow('byte 16: a frame of kind 2; expected the header');
    path = dir;
    await expect(read()).rejects.toThrow('it is a folder');
  });

  it('refuses a format that it does not know', async () => {
    createRecordingWriter(path, HEADER).close();
    writeFileSync(path, readFileSync(path, 'latin1').replace('"format":1', '"format":2'), 'latin1');
    await expect(read()).rejects.toThrow('header.format: 2; expected 1');
  });
});
