import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  CONTROL_BUFFER_BYTES,
  createEventQueueReader,
  createEventQueueWriter,
  type EventQueueWriter,
  enqueueEvent,
} from '../../device/abi/event_queue.ts';
import { EVENT_ENTRY_BYTES_V2, EVENTS_V2, type EventTypeName, encodeEventV2 } from '../../device/abi/events.ts';
import type { ProcessorEntry } from '../../device/attach.ts';
import type { ManagedMapping } from '../../device/linux/proc.ts';
import { createRecordingWriter, type RecordingHeader, readRecording } from '../../trace/recording_file.ts';
import {
  createRecorderLoop,
  endRecording,
  type RecorderLoop,
  recordEvents,
  recordMaps,
  recordTurn,
} from './recorder_loop.ts';

const HEADER: RecordingHeader = {
  format: 1,
  uvmlab: '1.0.0',
  driver: null,
  kernel: null,
  pid: 12,
  command: null,
  executable: null,
  processors: [],
  events: ['cpuFault'],
  ringEntries: 8,
  machine: null,
  parameters: {},
  attached: 'late',
  cpuClock: 'CLOCK_MONOTONIC_RAW',
};
const MS = 1e6;
const BLOCK = 0x200000n;
const A: ManagedMapping = { start: 0x7f0000000000n, end: 0x7f0000400000n };
const B: ManagedMapping = { start: 0x7f0000800000n, end: 0x7f0000a00000n };

/** What stands around a loop: the driver's end of the queue, the target, and the time. */
interface World {
  loop: RecorderLoop;
  queue: EventQueueWriter;
  mappings: ManagedMapping[] | null;
  processors: ProcessorEntry[] | null;
  now: number;
  looks: number;
  flush: () => void;
}

let dir = '';
let path = '';
let world: World;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'uvmlab-loop-'));
  path = join(dir, 'a.uvmrec');
  const control = new Uint8Array(CONTROL_BUFFER_BYTES);
  const ring = new Uint8Array(8 * EVENT_ENTRY_BYTES_V2);
  const loop = createRecorderLoop({
    reader: createEventQueueReader(control, ring, EVENT_ENTRY_BYTES_V2),
    writer: createRecordingWriter(path, HEADER),
    mappings: () => {
      world.looks++;
      if (world.mappings === null) throw new Error('ENOENT');
      return world.mappings;
    },
    processors: () => world.processors,
    clock: () => world.now,
    flush: () => world.flush(),
    observe: () => {},
  });
  const queue = createEventQueueWriter(control, ring, EVENT_ENTRY_BYTES_V2);
  world = { loop, queue, mappings: [A], processors: null, now: 1000, looks: 0, flush: () => {} };
});
afterEach(() => {
  world.loop.writer.close();
  rmSync(dir, { recursive: true });
});

function fault(address: bigint, timeStamp = 1n): void {
  enqueueEvent(world.queue, encodeEventV2('cpuFault', { address, timeStamp }));
}

/** The frames of the file as words: events by their number, maps by their ranges. */
async function frames(): Promise<string[]> {
  const out: string[] = [];
  for await (const frame of readRecording(path)) {
    if (frame.kind === 'events') out.push(`events ${frame.count}`);
    else if (frame.kind === 'maps')
      out.push(`maps ${frame.maps.time} ${frame.maps.ranges.map((r) => `${r.start}-${r.end}`).join(' ')}`);
    else if (frame.kind === 'drops') out.push(`drops ${JSON.stringify(frame.dropped)}`);
    else if (frame.kind === 'processors') out.push(`processors ${frame.processors.map((p) => p.word).join(' ')}`);
    else if (frame.kind === 'end') out.push(`end ${frame.end.reason} ${frame.end.events} ${frame.end.dropped}`);
    else if (frame.kind !== 'header') out.push(frame.kind);
  }
  return out;
}

describe('turns of the recorder', () => {
  it('write the mappings in front of the first events', async () => {
    fault(A.start);
    fault(A.end - 1n);
    expect(recordTurn(world.loop)).toBe(true);
    expect(recordTurn(world.loop)).toBe(true);
    expect(await frames()).toEqual(['maps 1000 7f0000000000-7f0000400000', 'events 2', 'close']);
  });

  it('look for mappings every 200 ms, and write those that have changed', async () => {
    recordTurn(world.loop);
    world.mappings = [A, B];
    world.now = 1000 + 200 * MS - 1;
    recordTurn(world.loop);
    expect(world.looks).toBe(1);
    world.now++;
    recordTurn(world.loop);
    expect(world.looks).toBe(2);
    world.now += 200 * MS;
    recordTurn(world.loop);
    expect(world.looks).toBe(3);
    expect(await frames()).toEqual([
      'maps 1000 7f0000000000-7f0000400000',
      'maps 200001000 7f0000000000-7f0000400000 7f0000800000-7f0000a00000',
      'close',
    ]);
  });

  it('look 10 ms after the last look for memory that no mapping has', () => {
    recordTurn(world.loop);
    fault(A.end);
    recordTurn(world.loop);
    expect([world.loop.strange, world.looks]).toEqual([true, 1]);
    world.now = 1000 + 10 * MS - 1;
    recordTurn(world.loop);
    expect(world.looks).toBe(1);
    world.mappings = [{ ...A, end: A.end + BLOCK }];
    world.now++;
    recordTurn(world.loop);
    expect([world.loop.strange, world.looks]).toEqual([false, 2]);
    fault(A.end + BLOCK - 1n);
    recordTurn(world.loop);
    expect(world.loop.strange).toBe(false);
    fault(A.end + BLOCK);
    recordTurn(world.loop);
    expect(world.loop.strange).toBe(true);
  });

  it('look again for memory of a mapping that has gone', () => {
    world.mappings = [A, B];
    recordTurn(world.loop);
    world.mappings = [B];
    world.now += 200 * MS;
    recordTurn(world.loop);
    fault(B.start);
    recordTurn(world.loop);
    expect(world.loop.strange).toBe(false);
    fault(A.start);
    recordTurn(world.loop);
    expect(world.loop.strange).toBe(true);
  });

  it('end when the target is gone', async () => {
    recordTurn(world.loop);
    fault(A.start);
    world.mappings = null;
    expect(recordTurn(world.loop)).toBe(true);
    world.now += 200 * MS;
    expect(recordTurn(world.loop)).toBe(false);
    expect(await frames()).toEqual(['maps 1000 7f0000000000-7f0000400000', 'events 1', 'close']);
  });

  it('end at once for a target that was never there', () => {
    world.mappings = null;
    expect(recordTurn(world.loop)).toBe(false);
  });

  it('write processors when there are others', async () => {
    const cpu = { number: 0, word: 'cpu', uuid: 'c' };
    world.processors = [cpu];
    recordMaps(world.loop);
    recordMaps(world.loop);
    world.processors = null;
    recordMaps(world.loop);
    world.processors = [cpu, { number: 1, word: 'gpu0', uuid: 'g' }];
    recordMaps(world.loop);
    const written = (await frames()).filter((frame) => frame.startsWith('processors'));
    expect(written).toEqual(['processors cpu', 'processors cpu gpu0']);
  });
});

describe('strangers', () => {
  const WITH_ADDRESS: EventTypeName[] = (Object.keys(EVENTS_V2) as EventTypeName[]).filter(
    (name) => 'address' in EVENTS_V2[name].fields && !['pageSizeChange', 'testAccessCounter'].includes(name),
  );

  it('are known in every event that has an address', () => {
    expect(WITH_ADDRESS).toHaveLength(10);
    recordMaps(world.loop);
    for (const name of WITH_ADDRESS) {
      for (const [address, strange] of [
        [A.start - 1n, true],
        [A.start, false],
        [A.end - 1n, false],
        [A.end, true],
      ] as const) {
        enqueueEvent(world.queue, encodeEventV2(name, { address } as never));
        world.loop.strange = false;
        recordEvents(world.loop);
        expect(world.loop.strange, `${name} ${address.toString(16)}`).toBe(strange);
      }
    }
  });

  it('are not in events without one', () => {
    recordMaps(world.loop);
    enqueueEvent(world.queue, encodeEventV2('replay', { batchId: 1, gpuIndex: 1, timeStamp: 1n }));
    recordEvents(world.loop);
    expect(world.loop.strange).toBe(false);
  });

  it('are found behind others, and stay found', () => {
    recordMaps(world.loop);
    fault(A.start);
    fault(A.start);
    fault(A.end);
    fault(A.start);
    recordEvents(world.loop);
    expect(world.loop.strange).toBe(true);
    fault(A.start);
    recordEvents(world.loop);
    expect(world.loop.strange).toBe(true);
  });

  it('are not in the block in which a mapping ends', () => {
    world.mappings = [{ start: A.start, end: A.start + 4096n }];
    recordMaps(world.loop);
    fault(A.start + BLOCK - 1n);
    recordEvents(world.loop);
    expect(world.loop.strange).toBe(false);
    fault(A.start + BLOCK);
    recordEvents(world.loop);
    expect(world.loop.strange).toBe(true);
  });
});

describe('the end of a recording', () => {
  it('has what the driver flushed, what was lost, and the reason', async () => {
    recordTurn(world.loop);
    for (let i = 0; i < 9; i++) fault(A.start, BigInt(i));
    expect(recordEvents(world.loop)).toBe(7);
    world.flush = () => fault(A.start, 9n);
    endRecording(world.loop, 'interrupted');
    expect(await frames()).toEqual([
      'maps 1000 7f0000000000-7f0000400000',
      'events 7',
      'drops [[1,2]]',
      // The ring's last slot, and no further: a span ends where the ring does.
      'events 1',
      'end interrupted 8 2',
      'close',
    ]);
  });

  it('comes too when the driver cannot flush any more', async () => {
    world.flush = () => {
      throw new Error('EBADF');
    };
    fault(A.start);
    endRecording(world.loop, 'target exited');
    expect(await frames()).toEqual(['events 1', 'end target exited 1 0', 'close']);
  });

  it('hands every span to whoever counts, before it is gone', () => {
    const seen: number[] = [];
    const loop = { ...world.loop, observe: (entries: Uint8Array) => void seen.push(entries.length / 72) };
    for (let i = 0; i < 5; i++) fault(A.start);
    recordEvents(loop);
    for (let i = 0; i < 5; i++) fault(A.start);
    recordEvents(loop);
    expect(seen).toEqual([5, 3, 2]);
  });
});
