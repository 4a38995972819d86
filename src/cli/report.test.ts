import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { captureCli } from '../../test/support/captured_cli.ts';
import { entries, entry, GPU0, range, writeRecording } from '../../test/support/recordings.ts';
import { recordingPath } from '../analysis/machines.ts';

const MIB = 2 ** 20;
const A = 0x7f12_a000_0000;
const GOLDEN = fileURLToPath(new URL('../../test/fixtures/h100-cupy-sort.uvmrec', import.meta.url));
const cli = captureCli();

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'uvmlab-report-'));
  path = join(dir, 'run.uvmrec');
});
afterEach(() => rmSync(dir, { recursive: true }));

/** The words of each printed line. */
function lines(): string[] {
  return cli.out.split('\n').map((line) => line.trim().replace(/ +/g, ' '));
}

const CPU_FAULTS = entries(
  ...[0, 1.5e6].map((timeStamp) => entry('cpuFault', { accessType: 2, address: A, timeStamp })),
);

describe('report', () => {
  it('tells what a real recording holds', async () => {
    expect(await cli.run('report', GOLDEN)).toBe(0);
    for (const line of [
      'program program',
      'gpu gpu0: NVIDIA H100 80GB HBM3',
      'events all kinds',
      'attached before the first managed allocation',
      'ended target exited',
      'duration 490 ms, from the first event to the last',
      '300 events',
      'gpuFault 223',
      'cpu read 13',
      'gpu0 write 223',
      '2 batches of GPU faults: median 23, 90 % up to 200, largest 200',
      expect.stringMatching(/^gpu0 cpu coherence 12 48 KiB /),
      '3 allocations with events, and 1 without events; cost is an estimate',
      expect.stringMatching(/^without the recorder: \d+ ms, predicted \(h200-pcie5\), if the program waited for each/),
    ]) {
      expect(lines()).toContainEqual(line);
    }
  });

  it('answers three questions first', async () => {
    expect(await cli.run('report', GOLDEN)).toBe(0);
    const [file, cost] = lines();
    expect(file).toBe(GOLDEN);
    expect(cost).toMatch(
      /^Cost most 0x[\da-f]+ \(16 MiB\): about .* of the .* that managed memory cost, in a trace of/,
    );
    expect(cli.out).toMatch(/\n {2}Why {8}\d+ (GPU|CPU) faults? /);
    expect(cli.out).toMatch(/\n {2}Change {5}/);
  });

  it('gives all of it as data', async () => {
    expect(await cli.run('report', GOLDEN, '--json')).toBe(0);
    const { file, recording, batches, allocations, untraced, tracingUnknown, answers } = JSON.parse(cli.out);
    expect([file, recording.header.pid, tracingUnknown]).toEqual([GOLDEN, 1, null]);
    expect(answers.map(({ label }: { label: string }) => label)).toEqual(['Cost most', 'Why', 'Change']);
    expect(batches).toMatchObject({ count: 2, median: 23, max: 200 });
    expect(JSON.parse(cli.out)).toMatchObject({ hasAllFaults: true, gpuFaultKernels: [], cpuFaultSites: [] });
    expect(allocations).toHaveLength(3);
    expect(untraced).toMatchObject({ machine: 'h200-pcie5', traced: { batches: 2 }, untraced: { batches: 2 } });
    cli.out = '';
    expect(await cli.run('report', GOLDEN, '--json', '--no-prediction')).toBe(0);
    expect(JSON.parse(cli.out)).toMatchObject({ untraced: null, tracingUnknown: '--no-prediction' });
    writeRecording(path, (writer) => writer.appendEvents(CPU_FAULTS));
    cli.out = '';
    expect(await cli.run('report', path, '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toMatchObject({ untraced: null, tracingUnknown: 'the trace has no GPU faults' });
  });

  it('is of cases, scenarios and traces too', async () => {
    const scenario = join(dir, 'x.json');
    const read = { on: 'gpu0', do: 'read', buffer: 'a', pages: [0, 700, 3] };
    const write = { on: 'cpu', do: 'write', buffer: 'a', offset: 0, length: 8 * MIB, stride: 4096 };
    const allocations = [{ name: 'a', bytes: 8 * MIB }];
    writeFileSync(scenario, JSON.stringify({ name: 'x', machine: 'h200-pcie5', allocations, steps: [write, read] }));
    expect(await cli.run('report', scenario)).toBe(0);
    for (const line of ['scenario x', 'trace of a run of the model', 'cpu gpu0 coherence 2 8 KiB 5.12 µs']) {
      expect(lines()).toContainEqual(
        line.startsWith('cpu') ? expect.stringMatching(/^cpu gpu0 coherence 2 8 KiB /) : line,
      );
    }
    expect(cli.out).toMatch(/tracing would cost .*, predicted \(h200-pcie5\): \d\.\d\d times as long/);
    cli.out = '';
    expect(await cli.run('report', recordingPath('serial.jsonl.gz'), '--scenario', 'seq-64k-read', '--json')).toBe(0);
    const json = JSON.parse(cli.out);
    expect(json).toMatchObject({ name: 'seq-64k-read', source: 'case', recording: null });
    expect(json.advice[0]).toMatchObject({ rule: 'prefetch', prediction: { basis: 'scenario', uncertain: false } });
  });

  it('is the same of a recording and of the trace made of it', async () => {
    const trace = join(dir, 'x.parquet');
    expect(await cli.run('import', GOLDEN, '-o', trace)).toBe(0);
    const of = async (file: string): Promise<Record<string, unknown>> => {
      cli.out = '';
      expect(await cli.run('report', file, '--json')).toBe(0);
      const { file: _, recording: __, ...rest } = JSON.parse(cli.out);
      return rest;
    };
    expect(await of(trace)).toEqual(await of(GOLDEN));
  });

  it('tells what was lost, how it ended, and what else there is', async () => {
    writeRecording(
      path,
      (writer) => {
        writer.appendMaps({ time: 1, ranges: [range(A, 2 * MIB)] });
        writer.appendNote('a note\u001b[31m');
        writer.appendEvents(CPU_FAULTS);
        const processors = [3n, 0n, 0n, 0n, 0n];
        writer.appendEvents(entry('thrashing', { address: A, size: 4096, timeStamp: 5, processors }));
        const remote = { mapRemoteCause: 2, srcIndex: GPU0, dstIndex: 0, address: A, size: 8192, timeStamp: 6 };
        writer.appendEvents(entry('mapRemote', remote));
        writer.appendDrops([[3, 1234]]);
      },
      { command: ['./a\u001b]0;x\u0007'], events: ['cpuFault', 'thrashing'], attached: 'late' },
    );
    const whole = readFileSync(path);
    writeFileSync(path, whole.subarray(0, whole.lastIndexOf('{"reason"')));
    expect(await cli.run('report', path)).toBe(0);
    for (const line of [
      'program ./a\\x1b]0;x\\x07',
      'events cpuFault, thrashing',
      'attached late',
      'ended no end, in the middle of a frame (8 B ignored): the recorder was killed, or is still at work',
      'duration 1.50 ms, from the first event to the last',
      'note: The recorder noted: a note\\x1b[31m',
      '4 events; 1,234 lost at 1 place',
      'gpuFault - 1,234',
      'allocation size cost cpu faults gpu faults to gpu to cpu thrashing mapped remotely',
      '0x7f12a0000000 2 MiB - 2 - - - 1 8 KiB',
      'gpu0 cpu thrashing 1 8 KiB',
    ]) {
      expect(lines()).toContain(line);
    }
    expect(cli.out).not.toMatch(/without the recorder|not reliable|batches/);
  });

  it('lists the allocations with most faults, and counts the others', async () => {
    writeRecording(path, (writer) => {
      const ranges = Array.from({ length: 18 }, (_, i) => range(A + i * 4 * MIB, MIB));
      writer.appendMaps({ time: 1, ranges });
      for (let i = 0; i < 18; i++) {
        for (let n = 0; n <= i; n++) {
          writer.appendEvents(entry('cpuFault', { accessType: 1, address: A + i * 4 * MIB }));
        }
      }
    });
    expect(await cli.run('report', path)).toBe(0);
    const all = lines();
    const first = all.findIndex((line) => line.startsWith('allocation size cost')) + 1;
    expect(all[first]).toBe(`0x${(A + 17 * 4 * MIB).toString(16)} 1 MiB - 18 - - -`);
    expect(all[first + 15]).toBe(`0x${(A + 2 * 4 * MIB).toString(16)} 1 MiB - 3 - - -`);
    expect(all[first + 16]).toBe('2 more that cost less: --json lists them');
  });

  it('says of an empty recording that it is one', async () => {
    writeRecording(path, () => {}, { command: null, executable: null, driver: null });
    expect(await cli.run('report', path)).toBe(0);
    expect(lines()).toEqual(
      expect.arrayContaining([
        'program unknown',
        'driver unknown',
        'no events',
        'Cost most nothing: the trace has no events',
      ]),
    );
  });

  it('refuses what is no recording, and a machine that there is not', async () => {
    writeFileSync(path, '{}');
    expect(await cli.run('report', path)).toBe(2);
    expect(cli.err).toBe(`error: ${path}: byte 0: this is no recording of uvmlab\n`);
    cli.err = '';
    expect(await cli.run('report', GOLDEN, '--machine', 'h1')).toBe(2);
    expect(cli.err).toMatch(/^error: --machine h1: unknown; valid: 2xh200-nvlink, h100-cc, h200-pcie5/);
  });
});
