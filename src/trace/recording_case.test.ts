import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { entries, entry, GPU0, GPU1, range, writeRecording } from '../../test/support/recordings.ts';
import { checkRecording } from './case_check.ts';
import { readCases } from './case_file.ts';
import { createRecordingCase } from './recording_case.ts';
import type { RecordingHeader, RecordingWriter } from './recording_file.ts';

const MIB = 2 ** 20;
const A = 0x7f12_a000_0000;

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'uvmlab-case-'));
  path = join(dir, 'run.uvmrec');
});
afterEach(() => rmSync(dir, { recursive: true }));

interface Made {
  scenario: {
    name: string;
    machine: string;
    parameters: Record<string, unknown>;
    allocations: { name: string; bytes: number }[];
    steps: unknown[];
  };
  events: Record<string, unknown>[];
  notes: string[];
}

async function caseOf(
  write: (writer: RecordingWriter) => void,
  changes: Partial<RecordingHeader> = {},
  options: Parameters<typeof createRecordingCase>[1] = {},
): Promise<Made> {
  writeRecording(path, write, changes);
  const made = await createRecordingCase(path, options);
  const checked = checkRecording(made, false);
  expect(checked).toMatchObject({ ok: true });
  return {
    scenario: made.scenario as Made['scenario'],
    events: (made.observed as { events: Made['events'] }).events,
    notes: made.notes ?? [],
  };
}

function cpuFault(address: number, timeStamp: number): Uint8Array {
  return entry('cpuFault', { accessType: 1, address, timeStamp });
}

/** Buffer and offset of each event. */
function places({ events }: Made): [unknown, unknown][] {
  return events.map(({ buffer, offset }) => [buffer, offset]);
}

it('has the words, places and times of every kind of event', async () => {
  const { scenario, events, notes } = await caseOf((writer) => {
    writer.appendMaps({ time: 1, ranges: [range(A, 4 * MIB)] });
    const mask = [1n | (1n << BigInt(GPU0)), 0n, 0n, 0n, 0n];
    const gpu = { gpuIndex: GPU0, batchId: 3, timeStampGpu: 5050 };
    const fault = { ...gpu, faultType: 2, address: A + 4096, timeStamp: 1010, gpcId: 4, clientId: 9 };
    const where = { address: A + 8192, timeStamp: 1020 };
    const move = { address: A, migratedBytes: 65536, beginTimeStamp: 990, endTimeStamp: 1100, srcIndex: 0 };
    const moveGpu = { beginTimeStampGpu: 5000, endTimeStampGpu: 5100 };
    writer.appendEvents(
      entries(
        cpuFault(A + 4097, 1000),
        entry('gpuFault', { ...fault, accessType: 3, clientType: 1 }),
        entry('gpuFault', { ...fault, accessType: 4, clientType: 2, timeStampGpu: 5060 }),
        entry('migration', { ...move, migrationCause: 2, dstIndex: GPU0, ...moveGpu }),
        entry('migration', { ...move, migrationCause: 6, dstIndex: 0 }),
        entry('replay', { ...gpu, timeStamp: 1110 }),
        entry('mapRemote', {
          ...where,
          mapRemoteCause: 3,
          srcIndex: GPU0,
          dstIndex: 0,
          size: 4096,
          timeStampGpu: 5070,
        }),
        entry('mapRemote', { ...where, mapRemoteCause: 2, srcIndex: 0, dstIndex: GPU0, size: 4096 }),
        entry('readDuplicate', { ...where, size: 4096, processors: mask }),
        entry('readDuplicateInvalidate', { ...where, size: 4096, residentIndex: GPU0 }),
        entry('thrashing', { ...where, size: 4096, processors: mask }),
        entry('throttlingStart', { ...where, processorIndex: GPU0 }),
        entry('throttlingEnd', { ...where, processorIndex: 0 }),
        entry('fatalFault', { ...where, processorIndex: GPU0, faultType: 8, accessType: 2, reason: 2 }),
      ),
    );
  });
  const page = { offset: 8192, time: 20 };
  expect(events).toEqual([
    { event: 'cpuFault', access: 'read', offset: 4097, time: 0 },
    {
      ...{ event: 'gpuFault', gpu: 'gpu0', type: 'invalidPte', access: 'atomic', offset: 4096, batch: 3 },
      ...{ gpc: 4, client: 9, time: 10, gpuTime: 50 },
    },
    {
      ...{ event: 'gpuFault', gpu: 'gpu0', type: 'invalidPte', access: 'prefetch', offset: 4096, batch: 3 },
      ...{ time: 10, gpuTime: 60 },
    },
    {
      ...{ event: 'migration', cause: 'coherence', src: 'cpu', dst: 'gpu0', offset: 0, bytes: 65536 },
      ...{ begin: -10, end: 100, gpuBegin: 0, gpuEnd: 100 },
    },
    {
      ...{ event: 'migration', cause: 'user', src: 'cpu', dst: 'cpu', offset: 0, bytes: 65536 },
      ...{ begin: -10, end: 100, gpuBegin: 0, gpuEnd: 0 },
    },
    { event: 'replay', gpu: 'gpu0', batch: 3, time: 110, gpuTime: 50 },
    { event: 'mapRemote', cause: 'policy', src: 'gpu0', dst: 'cpu', bytes: 4096, ...page, gpuTime: 70 },
    { event: 'mapRemote', cause: 'thrashing', src: 'cpu', dst: 'gpu0', bytes: 4096, ...page, gpuTime: 0 },
    { event: 'readDuplicate', bytes: 4096, processors: ['cpu', 'gpu0'], ...page },
    { event: 'readDuplicateInvalidate', bytes: 4096, resident: 'gpu0', ...page },
    { event: 'thrashing', bytes: 4096, processors: ['cpu', 'gpu0'], ...page },
    { event: 'throttlingStart', processor: 'gpu0', ...page },
    { event: 'throttlingEnd', processor: 'cpu', ...page },
    {
      event: 'fatalFault',
      processor: 'gpu0',
      type: 'privilege',
      access: 'write',
      reason: 'invalidPermissions',
      ...page,
    },
  ]);
  expect(scenario).toEqual({
    name: 'run',
    machine: 'h200-pcie5',
    parameters: {},
    allocations: [{ name: '7f12a0000000', bytes: 4 * MIB }],
    steps: [],
  });
  expect(notes).toEqual(['1 GPU faults are of the hub (copy engines and the like), not of an SM.']);
});

describe('ranges over time', () => {
  it('gives an address that is used again a second allocation', async () => {
    const made = await caseOf((writer) => {
      writer.appendMaps({ time: 1, ranges: [range(A, 4 * MIB), range(A + 64 * MIB, MIB)] });
      writer.appendEvents(cpuFault(A + 4096, 10));
      writer.appendMaps({ time: 2, ranges: [range(A + 64 * MIB, MIB)] });
      writer.appendEvents(cpuFault(A + 8192, 20));
      writer.appendMaps({ time: 3, ranges: [range(A, 8 * MIB), range(A + 64 * MIB, MIB)] });
      writer.appendEvents(cpuFault(A + 5 * MIB, 30));
    });
    expect(made.scenario.allocations).toEqual([
      { name: '7f12a0000000', bytes: 4 * MIB },
      { name: '7f12a4000000', bytes: MIB },
      { name: '7f12a0000000-2', bytes: 8 * MIB },
    ]);
    // The second event lies between the snapshot without a range and the one that has the next.
    expect(places(made)).toEqual([
      ['7f12a0000000', 4096],
      ['7f12a0000000-2', 8192],
      ['7f12a0000000-2', 5 * MIB],
    ]);
  });

  it('takes an event between two snapshots for whichever of them has its address', async () => {
    const made = await caseOf((writer) => {
      writer.appendEvents(cpuFault(A, 5));
      writer.appendMaps({ time: 1, ranges: [range(A, 2 * MIB)] });
      writer.appendEvents(entries(cpuFault(A, 10), cpuFault(A + 8 * MIB, 11)));
      writer.appendMaps({ time: 2, ranges: [range(A + 8 * MIB, 2 * MIB)] });
      // Late: nothing has had the address since the snapshot before the last one.
      writer.appendEvents(entries(cpuFault(A + 4096, 20), cpuFault(A + 8 * MIB, 21)));
    });
    const [first, second] = ['7f12a0000000', '7f12a0800000'];
    expect(places(made)).toEqual([
      [first, 0],
      [first, 0],
      [second, 0],
      [first, 4096],
      [second, 0],
    ]);
    expect(made.notes).toEqual([]);
  });

  it('keeps the earlier range, and says so, where both have the address', async () => {
    const made = await caseOf((writer) => {
      writer.appendMaps({ time: 1, ranges: [range(A, 2 * MIB)] });
      writer.appendEvents(cpuFault(A, 10));
      writer.appendMaps({ time: 2, ranges: [range(A, 4 * MIB)] });
      writer.appendEvents(cpuFault(A, 20));
    });
    expect(places(made).map(([buffer]) => buffer)).toEqual(['7f12a0000000', '7f12a0000000-2']);
    expect(made.notes).toEqual([
      expect.stringContaining('1 events are at addresses that were unmapped and used again'),
    ]);
  });

  it('takes what is left of a range for the same range', async () => {
    const made = await caseOf((writer) => {
      writer.appendMaps({ time: 1, ranges: [range(A, 16 * MIB)] });
      writer.appendMaps({ time: 2, ranges: [range(A, 4 * MIB), range(A + 12 * MIB, 4 * MIB)] });
      writer.appendEvents(cpuFault(A + 13 * MIB, 10));
      // What fills the hole is none of it.
      writer.appendMaps({
        time: 3,
        ranges: [range(A, 4 * MIB), range(A + 4 * MIB, 8 * MIB), range(A + 12 * MIB, MIB)],
      });
      writer.appendEvents(entries(cpuFault(A + 6 * MIB, 20), cpuFault(A + 12 * MIB, 21)));
    });
    expect(made.scenario.allocations).toEqual([
      { name: '7f12a0000000', bytes: 16 * MIB },
      { name: '7f12a0400000', bytes: 8 * MIB },
    ]);
    expect(places(made)).toEqual([
      ['7f12a0000000', 13 * MIB],
      ['7f12a0400000', 2 * MIB],
      ['7f12a0000000', 12 * MIB],
    ]);
  });

  it('begins a range that is not aligned at the 2 MiB below', async () => {
    const made = await caseOf((writer) => {
      writer.appendMaps({ time: 1, ranges: [range(A + 0x1f0000, 0x20000)] });
      writer.appendEvents(entries(cpuFault(A + 0x1f0000, 10), cpuFault(A + 0x20f000, 11)));
    });
    expect(made.scenario.allocations).toEqual([{ name: '7f12a01f0000', bytes: 0x210000 }]);
    expect(made.events.map(({ offset }) => offset)).toEqual([0x1f0000, 0x20f000]);
    expect(made.notes).toEqual([
      'Ranges that do not begin at a multiple of 2 MiB begin at the one below: 7f12a01f0000.',
    ]);
  });

  it('makes allocations up for addresses that no snapshot has', async () => {
    const far = [A + 30 * MIB + 12288, A + 33 * MIB, A + 50 * MIB, A + 30 * MIB];
    const made = await caseOf((writer) => {
      writer.appendMaps({ time: 1, ranges: [range(A, 2 * MIB)] });
      writer.appendEvents(entries(cpuFault(A, 9), ...far.map((address, i) => cpuFault(address, 10 + i))));
    });
    expect(made.scenario.allocations).toEqual([
      { name: '7f12a0000000', bytes: 2 * MIB },
      { name: '7f12a1e00000', bytes: 4 * MIB },
      { name: '7f12a3200000', bytes: 2 * MIB },
    ]);
    expect(places(made)).toEqual([
      ['7f12a0000000', 0],
      ['7f12a1e00000', 12288],
      ['7f12a1e00000', 3 * MIB],
      ['7f12a3200000', 0],
      ['7f12a1e00000', 0],
    ]);
    expect(made.notes[0]).toContain('4 events are at addresses without a known range');
    const alone = await caseOf((writer) => writer.appendEvents(cpuFault(A + 4096, 1)));
    expect(alone.scenario.allocations).toEqual([{ name: '7f12a0000000', bytes: 2 * MIB }]);
    expect(places(alone)).toEqual([[undefined, 4096]]);
  });
});

it('keeps the GPU clocks apart', async () => {
  const { events } = await caseOf(
    (writer) => {
      writer.appendEvents(
        entries(
          entry('replay', { gpuIndex: GPU1, timeStamp: 100, timeStampGpu: 700 }),
          entry('replay', { gpuIndex: GPU0, timeStamp: 100, timeStampGpu: 50 }),
          entry('replay', { gpuIndex: GPU1, timeStamp: 100, timeStampGpu: 690 }),
        ),
      );
    },
    {
      machine: '2xh200-nvlink',
      processors: [
        { number: GPU1, word: 'gpu1', uuid: 'b' },
        { number: GPU0, word: 'gpu0', uuid: 'a' },
      ],
    },
  );
  expect(events.map(({ gpu, gpuTime }) => [gpu, gpuTime])).toEqual([
    ['gpu1', 10],
    ['gpu0', 0],
    ['gpu1', 0],
  ]);
});

it('knows a GPU that is told of after the header', async () => {
  const cpu = { number: 0, word: 'cpu', uuid: 'c' };
  const made = await caseOf(
    (writer) => {
      // An event before the frame, too: the program registered its GPU meanwhile.
      writer.appendEvents(entry('replay', { gpuIndex: GPU0, batchId: 1, timeStamp: 5 }));
      writer.appendProcessors([cpu, { number: GPU0, word: 'gpu0', uuid: 'g', name: 'NVIDIA H200' }]);
      writer.appendEvents(entry('replay', { gpuIndex: GPU0, batchId: 2, timeStamp: 6 }));
    },
    { processors: [cpu], machine: null },
    { machines: { 'h200-pcie5': { gpus: 1 } } },
  );
  expect(made.scenario.machine).toBe('h200-pcie5');
  expect(made.events.map(({ gpu, batch }) => [gpu, batch])).toEqual([
    ['gpu0', 1],
    ['gpu0', 2],
  ]);
  expect(made.notes).toEqual(['The machine is taken from the name of the GPU, NVIDIA H200: h200-pcie5.']);
});

it('tells what is missing', async () => {
  const writeIt = (writer: RecordingWriter): void => {
    writer.appendNote('attached late');
    writer.appendDrops([
      [3, 7],
      [40, 1],
    ]);
    writer.appendDrops([[3, 2]]);
    writer.appendEvents(entries(entry('testAccessCounter', {}), entry('cpuFault', { accessType: 9, address: A })));
    writer.appendEvents(entry('replay', { gpuIndex: 17, timeStamp: 1 }));
  };
  const { notes, events } = await caseOf(writeIt, { attached: 'late' });
  expect(events).toEqual([]);
  expect(notes).toEqual([
    'The recorder was attached late: what happened before is not in the recording.',
    'The recorder noted: attached late',
    'Events were lost at 2 places: 9 of gpuFault, 1 of type 40.',
    'Left out, 1 times: an event of type 63.',
    'Left out, 1 times: a fault with access type 9.',
    'Left out, 1 times: a processor that the header does not have.',
  ]);
  writeFileSync(path, readFileSync(path).subarray(0, -9));
  const cut = await createRecordingCase(path);
  expect(cut.notes).toContainEqual(expect.stringMatching(/^The recording has no end: .*; the last \d+ bytes/));
});

describe('the machine and its parameters', () => {
  const nothing = (): void => {};
  const machines = { 'h200-pcie5': { gpus: 1 }, other: { gpus: 1 } };

  function named(...names: string[]): Partial<RecordingHeader> {
    const processors = names.map((name, i) => ({ number: 8 * i + 1, word: `gpu${i}`, uuid: `${i}`, name }));
    return { machine: null, processors };
  }

  it('is what the user, then the header, then the name of the GPU says', async () => {
    const of = async (changes: Partial<RecordingHeader>, machine?: string) =>
      (await caseOf(nothing, changes, { machines, machine })).scenario.machine;
    expect(await of({ machine: 'other' })).toBe('other');
    expect(await of({ machine: 'other' }, 'h200-pcie5')).toBe('h200-pcie5');
    expect(await of(named('NVIDIA H200'), 'other')).toBe('other');
    expect(await of({ ...named('NVIDIA H200'), machine: 'gone' })).toBe('h200-pcie5');
    const h100 = await caseOf(nothing, named('NVIDIA H100 80GB HBM3'), { machines });
    expect(h100.scenario.machine).toBe('h200-pcie5');
    expect(h100.notes[0]).toContain('whose costs were fitted to an H200');
    await expect(of({}, 'gone')).rejects.toThrow('machine "gone": unknown; valid: h200-pcie5, other');
  });

  it.each([[['NVIDIA GH200 480GB']], [['NVIDIA H200', 'NVIDIA H200']], [[]]])(
    'is not guessed for %j',
    async (names) => {
      writeRecording(path, nothing, named(...names));
      await expect(createRecordingCase(path, { machines })).rejects.toThrow(
        /run\.uvmrec: .*names no machine profile.*name one with --machine; valid: h200-pcie5, other/,
      );
    },
  );

  it('has the module parameters that differ', async () => {
    const parameters = {
      uvm_perf_prefetch_threshold: '51',
      uvm_perf_fault_replay_policy: '1',
      uvm_disable_hmm: 'Y',
      uvm_page_table_location: '(null)',
      uvm_peer_copy: 'virt',
      uvm_new_thing: '1',
    };
    const { scenario, notes } = await caseOf(nothing, { parameters });
    expect(scenario.parameters).toEqual({ uvm_perf_fault_replay_policy: 1, uvm_disable_hmm: 1, uvm_peer_copy: 'virt' });
    expect(notes).toEqual(['The model does not know these module parameters: uvm_new_thing.']);
  });
});

it('refuses more events than fit into memory', async () => {
  const write = (writer: RecordingWriter): void => {
    for (let i = 0; i < 3; i++) writer.appendEvents(cpuFault(A, i));
  };
  expect((await caseOf(write, {}, { eventsMax: 3 })).events).toHaveLength(3);
  await expect(createRecordingCase(path, { eventsMax: 2 })).rejects.toThrow(
    `${path}: 3 events; at most 2 fit into memory as a case. "uvmlab report" reads any number`,
  );
});

it('is what readCases makes of the file', async () => {
  writeRecording(path, (writer) => writer.appendEvents(cpuFault(A, 1)), { machine: null, processors: [] });
  const read = async (options = {}): Promise<unknown[]> => {
    const all: unknown[] = [];
    for await (const one of readCases(path, options)) all.push(one);
    return all;
  };
  expect(await read()).toEqual([{ kind: 'error', line: 1, error: expect.stringMatching(/^the recording names no/) }]);
  expect(await read({ machine: 'x' })).toEqual([await createRecordingCase(path, { machine: 'x' })]);
  writeFileSync(path, 'UVM');
  await expect(read()).rejects.toThrow('the file ends before its header');
});
