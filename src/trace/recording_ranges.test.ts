import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { entries, entry, GPU0, range, recordingHeader, writeRecording } from '../../test/support/recordings.ts';
import type { RecordingWriter } from './recording_file.ts';
import {
  createRangeFinder,
  createRangeNames,
  pageAddress,
  type RecordingSurvey,
  surveyRecording,
} from './recording_ranges.ts';

const MIB = 2 ** 20;
const A = 0x7f12_a000_0000;
const page = (address: number): number => address / 4096;

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'uvmlab-ranges-'));
  path = join(dir, 'run.uvmrec');
});
afterEach(() => rmSync(dir, { recursive: true }));

async function survey(write: (writer: RecordingWriter) => void, changes = {}): Promise<RecordingSurvey> {
  writeRecording(path, write, changes);
  return surveyRecording(path);
}

const fault = (address: number): Uint8Array => entry('cpuFault', { accessType: 1, address });

describe('names of ranges', () => {
  it('are addresses of all 64 bits, with a number from the second time on', () => {
    const nameFor = createRangeNames();
    const last = 2 ** 52 - 1;
    expect([1, 1, last, 1].map(nameFor)).toEqual(['1000', '1000-2', 'fffffffffffff000', '1000-3']);
    expect(pageAddress(page(A))).toBe('7f12a0000000');
  });
});

describe('a survey', () => {
  it('has the processors that came last, and everything but the events', async () => {
    const cpu = { number: 0, word: 'cpu', uuid: 'c' };
    const gpu = { number: GPU0, word: 'gpu0', uuid: 'g', name: 'NVIDIA H100 80GB HBM3' };
    const survey_ = await survey(
      (writer) => {
        writer.appendMaps({ time: 1, ranges: [] });
        writer.appendProcessors([cpu, gpu]);
        writer.appendEvents(entries(fault(A), fault(A)));
        writer.appendDrops([
          [3, 5],
          [2, 1],
        ]);
        writer.appendNote('slow', 7);
        writer.appendDrops([[3, 2]]);
        writer.appendEvents(fault(A));
      },
      { processors: [cpu] },
    );
    expect(survey_).toEqual({
      path,
      header: recordingHeader({ processors: [cpu, gpu] }),
      ranges: [],
      snapshots: [new Float64Array(0)],
      events: 3,
      dropped: new Map([
        [3, 7],
        [2, 1],
      ]),
      gaps: 2,
      notes: [{ text: 'slow', time: 7 }],
      end: { reason: 'target exited', events: 3, dropped: 8 },
      truncated: false,
      ignoredBytes: 0,
    });
  });

  it('has whole pages, and no range without any', async () => {
    const { ranges } = await survey((writer) => {
      writer.appendMaps({
        time: 1,
        ranges: [
          { start: '0x2800', end: '0x4801' },
          { start: '9000', end: '9000' },
          { start: 'FFFFFFFFFFFFF000', end: 'ffffffffffffffff' },
        ],
      });
    });
    expect(ranges).toMatchObject([
      { name: '2000', firstPage: 2, endPage: 5, from: 0, to: Number.POSITIVE_INFINITY },
      { name: 'fffffffffffff000', firstPage: 2 ** 52 - 1, endPage: 2 ** 52 },
    ]);
  });

  it('ends a range where a snapshot has it no longer, and begins what grew anew', async () => {
    const { ranges } = await survey((writer) => {
      writer.appendMaps({ time: 1, ranges: [range(A, 4 * MIB), range(A + 8 * MIB, MIB)] });
      writer.appendMaps({ time: 2, ranges: [range(A, 2 * MIB), range(A + 8 * MIB, 2 * MIB)] });
      writer.appendMaps({ time: 3, ranges: [range(A, 4 * MIB)] });
    });
    const at = (bytes: number) => page(A + bytes);
    const never = Number.POSITIVE_INFINITY;
    expect(ranges).toEqual([
      { name: '7f12a0000000', firstPage: at(0), endPage: at(4 * MIB), from: 0, to: 2 },
      { name: '7f12a0800000', firstPage: at(8 * MIB), endPage: at(9 * MIB), from: 0, to: 1 },
      { name: '7f12a0800000-2', firstPage: at(8 * MIB), endPage: at(10 * MIB), from: 1, to: 2 },
      { name: '7f12a0000000-2', firstPage: at(0), endPage: at(4 * MIB), from: 2, to: never },
    ]);
  });

  it('is right up to the byte where the file was cut', async () => {
    writeRecording(path, (writer) => {
      writer.appendMaps({ time: 1, ranges: [range(A, 2 * MIB)] });
      writer.appendEvents(entries(fault(A), fault(A)));
      writer.appendDrops([[3, 5]]);
    });
    const whole = readFileSync(path);
    const seen = new Set<string>();
    for (let size = whole.length; ; size--) {
      writeFileSync(path, whole.subarray(0, size));
      let cut: RecordingSurvey;
      try {
        cut = await surveyRecording(path);
      } catch (error) {
        // Without a whole header there is nothing to tell.
        expect((error as Error).message).toMatch(/the file ends (before|within) its header$/);
        break;
      }
      const { ranges, events, gaps, end, truncated, ignoredBytes } = cut;
      // Cut behind a whole entry, nothing is of no use, and yet the frame is not whole.
      expect(truncated || ignoredBytes === 0, `${size}`).toBe(true);
      expect(ignoredBytes).toBeLessThan(72 + 8);
      seen.add(`${ranges.length} ${events} ${gaps} ${end === null ? 'none' : end.reason}`);
    }
    expect([...seen]).toEqual([
      '1 2 1 target exited',
      '1 2 1 none',
      '1 2 0 none',
      '1 1 0 none',
      '1 0 0 none',
      '0 0 0 none',
    ]);
  });
});

describe('the finder', () => {
  it('finds first and last page of a range, and nothing beside it', async () => {
    const finder = createRangeFinder(
      await survey((writer) => writer.appendMaps({ time: 1, ranges: [range(A, MIB), range(A + 2 * MIB, MIB)] })),
    );
    for (let passed = 0; passed < 2; passed++) {
      const found = [-1, 0, 255, 256, 511, 512, 767, 768].map((i) => finder.find(page(A) + i));
      expect(found, `${passed} snapshots passed`).toEqual([-1, 0, 0, -1, -1, 1, 1, -1]);
      finder.pass();
    }
    expect(finder.ambiguous()).toBe(0);
  });

  it('takes the range that was there last, then the one that comes next', async () => {
    const first = [range(A, MIB)];
    const finder = createRangeFinder(
      await survey((writer) => {
        for (const ranges of [first, [], [], [], [range(A, 2 * MIB)], []]) writer.appendMaps({ time: 1, ranges });
      }),
    );
    const found: number[][] = [];
    for (let passed = 0; passed <= 6; passed++) {
      found.push([finder.find(page(A)), finder.find(page(A + MIB))]);
      finder.pass();
    }
    expect(found).toEqual([
      [0, 1],
      [0, 1],
      [0, 1],
      [0, 1],
      // Between the snapshot before and the one that has it anew.
      [1, 1],
      [1, 1],
      [1, 1],
    ]);
  });

  it('counts pages that a range before and another one after may have had', async () => {
    const finder = createRangeFinder(
      await survey((writer) => {
        writer.appendMaps({ time: 1, ranges: [range(A, MIB)] });
        writer.appendMaps({ time: 2, ranges: [range(A, 2 * MIB)] });
      }),
    );
    finder.pass();
    expect([finder.find(page(A)), finder.find(page(A + MIB)), finder.ambiguous()]).toEqual([0, 1, 1]);
    finder.pass();
    expect([finder.find(page(A)), finder.ambiguous()]).toEqual([1, 1]);
  });
});
