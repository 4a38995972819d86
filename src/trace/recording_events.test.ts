import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { entries, entry, GPU0, recordingHeader } from '../../test/support/recordings.ts';
import type { UvmEvent } from './event.ts';
import { createRecordingCase } from './recording_case.ts';
import { createEventDecoder } from './recording_events.ts';
import { readRecording } from './recording_file.ts';

/** Events of the entries, and what was left out. Pages become offsets. */
function decode(...list: Uint8Array[]) {
  const decoder = createEventDecoder(recordingHeader(), (page, offset) => ({ offset: page * 4096 + offset }));
  const events: UvmEvent[] = [];
  decoder.decode(entries(...list), (event) => events.push(event));
  return { events, leftOut: Object.fromEntries(decoder.leftOut), hubFaults: decoder.hubFaults() };
}

const FAULT = { gpuIndex: GPU0, faultType: 2, accessType: 1, clientType: 1 };
const MOVE = { migrationCause: 2, srcIndex: 0, dstIndex: GPU0 };

describe('the decoder', () => {
  it.each([
    ['a fault with access type 0', entry('cpuFault', { accessType: 0 })],
    ['a fault with access type 5', entry('gpuFault', { ...FAULT, accessType: 5 })],
    ['a fault of type 17', entry('gpuFault', { ...FAULT, faultType: 17 })],
    ['a GPU fault of the CPU', entry('gpuFault', { ...FAULT, gpuIndex: 0 })],
    ['a fatal fault for reason 7', entry('fatalFault', { accessType: 1, processorIndex: GPU0, reason: 7 })],
    ['a migration by cause 6', entry('migration', { ...MOVE, migrationCause: 6 })],
    ['a migration by cause 9', entry('migration', { ...MOVE, migrationCause: 9, dstIndex: 0 })],
    ['a remote mapping by cause 6', entry('mapRemote', { mapRemoteCause: 6, srcIndex: GPU0, dstIndex: 0 })],
    ['an event of type 5', entry('faultBufferOverflow', {})],
  ])('leaves out %s, and says so', (what, bytes) => {
    expect(decode(bytes, entry('cpuFault', { accessType: 1 }), bytes)).toEqual({
      events: [{ event: 'cpuFault', access: 'read', offset: 0, time: 0 }],
      leftOut: { [what]: 2 },
      hubFaults: 0,
    });
  });

  it.each([
    ['gpuFault', entry('gpuFault', { ...FAULT, gpuIndex: 17 })],
    ['migration', entry('migration', { ...MOVE, srcIndex: 17 })],
    ['mapRemote', entry('mapRemote', { mapRemoteCause: 1, srcIndex: GPU0, dstIndex: 17 })],
    ['thrashing', entry('thrashing', { processors: [3n | (1n << 17n), 0n, 0n, 0n, 0n] })],
    ['readDuplicate', entry('readDuplicate', { processors: [0n, 1n, 0n, 0n, 0n] })],
    ['readDuplicateInvalidate', entry('readDuplicateInvalidate', { residentIndex: 17 })],
    ['throttlingStart', entry('throttlingStart', { processorIndex: 17 })],
    ['replay', entry('replay', { gpuIndex: 0 })],
  ])('leaves out a %s of a processor that is not known', (_name, bytes) => {
    expect(decode(bytes)).toEqual({
      events: [],
      leftOut: { 'a processor that the header does not have': 1 },
      hubFaults: 0,
    });
  });

  it('asks for no place of what it leaves out', () => {
    const asked: number[] = [];
    const decoder = createEventDecoder(recordingHeader(), (page) => {
      asked.push(page);
      return { offset: 0 };
    });
    const list = [9, 1].map((accessType, i) => entry('cpuFault', { accessType, address: 4096 * (i + 1) }));
    decoder.decode(entries(...list), () => {});
    expect(asked).toEqual([2]);
  });
});

describe('a piece of a recording of an H100', () => {
  const file = (name: string): string => fileURLToPath(new URL(`../../test/fixtures/${name}`, import.meta.url));
  const path = file('h100-cupy-sort.uvmrec');

  // The expected events were read by another program from the layouts of the driver's header.
  it('has the events that are in its bytes', async () => {
    const expected = readFileSync(file('h100-cupy-sort.jsonl'), 'utf8').trimEnd().split('\n');
    const made = await createRecordingCase(path);
    const { events } = made.observed as { events: UvmEvent[] };
    expect(expected).toHaveLength(300);
    expect(events).toEqual(expected.map((line) => JSON.parse(line)));
    const { machine, allocations } = made.scenario as { machine: string; allocations: { name: string }[] };
    expect(machine).toBe('h200-pcie5');
    expect(allocations.map(({ name }) => name)).toEqual(['204a00000', '7fcc2a000000', '7fcc34000000', '7fcc35000000']);
    expect(made.notes).toEqual([expect.stringMatching(/^The machine is taken from the name of the GPU/)]);
  });

  it('has them at the places of the header of the driver', async () => {
    const first = new Map<number, DataView>();
    for await (const frame of readRecording(path)) {
      if (frame.kind !== 'events') continue;
      for (let at = 0; at < frame.entries.length; at += 72) {
        const bytes = frame.entries.slice(at, at + 72);
        if (!first.has(bytes[0])) first.set(bytes[0], new DataView(bytes.buffer));
      }
    }
    const { observed } = await createRecordingCase(path);
    const { events } = observed as { events: UvmEvent[] };
    const of = <K extends UvmEvent['event']>(kind: K) =>
      events.find((event) => event.event === kind) as Extract<UvmEvent, { event: K }>;
    const [cpu, move, gpu, replay] = [1, 2, 3, 4].map((type) => first.get(type) as DataView);
    const start = gpu.getBigUint64(16, true);
    const since = (view: DataView, offset: number): number => Number(view.getBigUint64(offset, true) - start);
    expect(of('cpuFault')).toMatchObject({ access: 'read', offset: 0, time: since(cpu, 16) });
    expect(cpu.getBigUint64(8, true)).toBe(0x7fcc35000000n);
    expect(of('gpuFault')).toMatchObject({ client: gpu.getUint16(6, true), batch: gpu.getUint32(32, true), time: 0 });
    expect(of('replay')).toMatchObject({ batch: replay.getUint32(4, true), time: since(replay, 8) });
    const gpuTook = Number(move.getBigUint64(64, true) - move.getBigUint64(56, true));
    const { gpuBegin, gpuEnd, bytes, begin, end } = of('migration');
    expect([gpuEnd - gpuBegin, bytes]).toEqual([gpuTook, Number(move.getBigUint64(24, true))]);
    expect([begin, end]).toEqual([since(move, 32), since(move, 40)]);
  });
});
