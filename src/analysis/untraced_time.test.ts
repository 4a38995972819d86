import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { entries, entry, GPU0, range, writeRecording } from '../../test/support/recordings.ts';
import { EVENT_ENTRY_BYTES_V2 } from '../device/abi/events.ts';
import { putEntryV2 } from '../device/model/log_entries.ts';
import { EVENT_GPU_FAULT, EVENT_REPLAY } from '../model/uvm/tools.ts';
import type { RecordingHeader, RecordingWriter } from '../trace/recording_file.ts';
import { type Executed, executeRun } from './execute.ts';
import { loadMachines } from './machines.ts';
import { openTrace } from './open_trace.ts';
import { fullReport } from './report/full_report.ts';
import { batchTimes } from './untraced_time.ts';

const MIB = 2 ** 20;
const machines = loadMachines();

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'uvmlab-untraced-'));
  path = join(dir, 'run.uvmrec');
});
afterEach(() => rmSync(dir, { recursive: true }));

async function predict(write: (w: RecordingWriter) => void, changes: Partial<RecordingHeader> = {}, machine?: string) {
  writeRecording(path, write, changes);
  const trace = await openTrace(path, machine === undefined ? {} : { machine });
  const full = await fullReport(trace, { machines, prediction: true, ...(machine === undefined ? {} : { machine }) });
  return { report: full.report, time: full.untraced, why: full.tracingUnknown };
}

function run(steps: object[], traced: boolean): Executed {
  const scenario = { name: 'x', machine: 'h200-pcie5', allocations: [{ name: 'a', bytes: 8 * MIB }], steps };
  const executed = executeRun(scenario, machines, { traced });
  if (!executed.ok) throw new Error(executed.error);
  return executed;
}

/** What a recorder of the modelled program would have written. */
function recordingOf({ run: { m, scenario } }: Executed): (writer: RecordingWriter) => void {
  const { log } = m.tools;
  return (writer) => {
    const [{ firstPage }] = scenario.allocations;
    writer.appendMaps({ time: 0, ranges: [range(firstPage * 4096, 8 * MIB)] });
    const words = new Uint32Array(EVENT_ENTRY_BYTES_V2 / 4);
    for (let i = 0; i < log.count; i++) {
      putEntryV2(words, log, i, { pid: 1, rangeGroup: () => 0 });
      writer.appendEvents(new Uint8Array(words.buffer));
    }
  };
}

const WRITE = { on: 'cpu', do: 'write', buffer: 'a', offset: 0, length: 8 * MIB, stride: 4096 };
const READ = { ...WRITE, on: 'gpu0', do: 'read' };

describe('the predicted time without the recorder', () => {
  it('is what the untraced program takes in the model, where the model made the recording', async () => {
    const steps = [WRITE, READ, WRITE, READ];
    const [traced, untraced] = [true, false].map((how) => run(steps, how));
    const { report, time, why } = await predict(recordingOf(traced));
    if (time === null) throw new Error(why ?? 'no prediction');
    expect(time.moved).toEqual({ recorded: 24 * MIB, replayed: 24 * MIB });
    expect(time.movedAlike).toBe(true);
    expect(time.traced.batches).toBe(report.batches.replayed);
    const walls = [traced, untraced].map(({ run: { state } }) => state.wall.reduce((sum, wall) => sum + wall, 0));
    const [really, foretold] = [walls[0] - walls[1], report.durationMicroseconds - time.untracedMicroseconds];
    // Tracing takes a good part of it, all within the service of faults.
    expect(really).toBeGreaterThan(walls[0] / 10);
    expect(foretold).toBeCloseTo(really, 3);
  });

  it('says that the replay moves less where prefetch calls took pages away', async () => {
    const back = { do: 'prefetch', to: 'cpu', buffer: 'a', offset: 0, length: 8 * MIB };
    const { time } = await predict(recordingOf(run([WRITE, READ, back, READ], true)));
    expect(time).toMatchObject({ movedAlike: false, moved: { recorded: 16 * MIB, replayed: 8 * MIB } });
  });
});

describe('there is none', () => {
  const FAULT = { gpuIndex: GPU0, faultType: 2, accessType: 1, clientType: 1, batchId: 1 };
  const cpuAlone = (writer: RecordingWriter): void =>
    writer.appendEvents(entries(...[1, 2e6].map((timeStamp) => entry('cpuFault', { accessType: 1, timeStamp }))));
  const oneFault = (writer: RecordingWriter): void => writer.appendEvents(entry('gpuFault', FAULT));

  it('without GPU faults', async () => {
    expect(await predict(cpuAlone)).toMatchObject({ time: null, why: 'the trace has no GPU faults' });
  });

  it('without a machine, unless one is named', async () => {
    const unknown = { machine: null, processors: [{ number: GPU0, word: 'gpu0', uuid: 'g', name: 'A100' }] };
    expect(await predict(oneFault, unknown)).toMatchObject({
      time: null,
      why: expect.stringContaining('name one with --machine'),
    });
    await expect(predict(oneFault, unknown, 'nowhere')).rejects.toThrow('machine "nowhere": unknown');
  });

  it('where the service does not fit into the recorded time', async () => {
    const why = "the model's service times do not fit into the recorded time";
    expect(await predict(oneFault)).toMatchObject({ time: null, why });
  });

  it('where the recorded faults cannot be replayed', async () => {
    const gpu1 = [{ number: GPU0, word: 'gpu1', uuid: 'g' }];
    expect(await predict(oneFault, { processors: gpu1 })).toMatchObject({
      time: null,
      why: expect.stringContaining('a recorded fault is of gpu1'),
    });
  });
});

it('takes a batch from the earliest entry to the last replay of its number', () => {
  const { log } = run([WRITE, READ], true).run.m.tools;
  let time = 0;
  let batches = 0;
  for (let i = 0; i < log.count; i++) {
    if (log.kind[i] === EVENT_GPU_FAULT) time -= log.gpuTime[i];
    if (log.kind[i] === EVENT_REPLAY) time += log.gpuTime[i];
    if (log.kind[i] === EVENT_REPLAY) batches++;
  }
  // One thread has one fault outstanding: a fault, a batch, a replay.
  expect(batches).toBeGreaterThan(3);
  expect(batchTimes(log)).toEqual({ batches, time });
});
