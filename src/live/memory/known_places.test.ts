import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EVENT_TYPE, encodeEventV2, RECORDED_EVENTS } from '../../device/abi/events.ts';
import { createRecordingWriter, type RecordingHeader, type RecordingWriter } from '../../trace/recording_file.ts';
import { knownPlaces } from './known_places.ts';

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'uvmlab-places-'));
  path = join(dir, 'a.uvmrec');
});
afterEach(() => rmSync(dir, { recursive: true }));

const PAGE = 4096n;
const BASE = 0x7fba32000000n;
const HEADER: RecordingHeader = {
  format: 1,
  uvmlab: '1.0.0',
  driver: '580.105.08',
  kernel: null,
  pid: 12,
  command: null,
  executable: null,
  processors: [
    { number: 0, word: 'cpu', uuid: 'c' },
    { number: 1, word: 'gpu0', uuid: 'g' },
  ],
  events: [...RECORDED_EVENTS],
  ringEntries: 1024,
  machine: null,
  parameters: {},
  attached: 'late',
  cpuClock: 'CLOCK_MONOTONIC_RAW',
};

function record(write: (writer: RecordingWriter) => void, header: Partial<RecordingHeader> = {}): void {
  const writer = createRecordingWriter(path, { ...HEADER, ...header }, { overwrite: true });
  write(writer);
  writer.close();
}

const move = (page: number, pages: number, dstIndex: number): Uint8Array =>
  encodeEventV2('migration', {
    address: BASE + BigInt(page) * PAGE,
    migratedBytes: BigInt(pages) * PAGE,
    srcIndex: 7,
    dstIndex,
    beginTimeStamp: 1n,
  });

const maps = (...ranges: [page: number, end: number][]) => ({
  time: 5,
  ranges: ranges.map(([page, end]) => ({
    start: (BASE + BigInt(page) * PAGE).toString(16),
    end: (BASE + BigInt(end) * PAGE).toString(16),
  })),
});

const placesOf = async (page: number, pages: number) =>
  (await knownPlaces(path, BASE + BigInt(page) * PAGE, BigInt(pages) * PAGE)).places;

describe('places known from a recording', () => {
  it('are those of the last migrations, cut to the range', async () => {
    record((writer) => {
      writer.appendEvents(Buffer.concat([move(0, 8, 1), move(2, 2, 0)]));
      writer.appendEvents(move(3, 1, 1));
    });
    expect(await knownPlaces(path, BASE, 9n * PAGE)).toEqual({
      pid: 12,
      places: ['gpu0', 'gpu0', 'cpu', 'gpu0', 'gpu0', 'gpu0', 'gpu0', 'gpu0', null],
      doubts: [],
    });
    expect(await placesOf(2, 1)).toEqual(['cpu']);
    expect(await placesOf(7, 2)).toEqual(['gpu0', null]);
    expect((await knownPlaces(path, BASE + 2n * PAGE - 1n, 2n)).places).toEqual(['gpu0', 'cpu']);
    expect((await knownPlaces(path, BASE - PAGE, PAGE)).places).toEqual([null]);
  });

  it('are told by no other event', async () => {
    const address = BASE;
    record((writer) => {
      writer.appendEvents(encodeEventV2('cpuFault', { address, timeStamp: 1n }));
      writer.appendEvents(encodeEventV2('gpuFault', { address, gpuIndex: 1, timeStamp: 1n }));
      writer.appendEvents(encodeEventV2('mapRemote', { address, size: PAGE, srcIndex: 1, dstIndex: 1 }));
      writer.appendEvents(encodeEventV2('readDuplicate', { address, size: PAGE, timeStamp: 1n }));
    });
    expect(await placesOf(0, 1)).toEqual([null]);
  });

  it('have the words of the processors that came later', async () => {
    record((writer) => {
      writer.appendEvents(Buffer.concat([move(0, 1, 9), move(1, 1, 17)]));
      writer.appendProcessors([...HEADER.processors, { number: 9, word: 'gpu1', uuid: 'h' }]);
    });
    // Number 17 is of a GPU that the recording does not name.
    expect(await placesOf(0, 2)).toEqual(['gpu1', null]);
  });

  it.each([
    ['', ''],
    ['0x', '0X'],
  ])('end with their memory: addresses %j', async (start, end) => {
    const prefixed = (...ranges: [number, number][]) => {
      const { time, ranges: plain } = maps(...ranges);
      return { time, ranges: plain.map((range) => ({ start: start + range.start, end: end + range.end })) };
    };
    record((writer) => {
      writer.appendMaps(prefixed([0, 4]));
      writer.appendEvents(move(0, 8, 1));
      writer.appendMaps(prefixed([1, 3], [5, 8]));
    });
    expect(await placesOf(0, 8)).toEqual([null, 'gpu0', 'gpu0', null, null, 'gpu0', 'gpu0', 'gpu0']);
    record((writer) => {
      writer.appendEvents(move(0, 1, 1));
      writer.appendMaps(maps());
      writer.appendMaps(maps([0, 1]));
    });
    expect(await placesOf(0, 1)).toEqual([null]);
  });

  it('are doubtful where events are missing, each reason once', async () => {
    record(
      (writer) => {
        writer.appendDrops([[EVENT_TYPE.migration, 1]]);
        writer.appendDrops([[EVENT_TYPE.cpuFault, 2]]);
        writer.end('time');
      },
      { events: ['cpuFault'] },
    );
    expect((await knownPlaces(path, BASE, PAGE)).doubts).toEqual([
      'migrations were not recorded',
      'events were lost',
      'the recording has ended, and the process has gone on',
    ]);
  });

  it('need a recording', async () => {
    await expect(knownPlaces(join(dir, 'none.uvmrec'), BASE, PAGE)).rejects.toMatchObject({
      name: 'RecordingFileError',
    });
  });
});
