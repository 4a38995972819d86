import { describe, expect, it } from 'vitest';
import { createPrng, type Prng, prngBelow, prngNext } from '../../base/prng.ts';
import {
  appendEvents,
  clearEventColumns,
  createEventColumns,
  type EventColumns,
  eventProcessors,
  NO_MASK,
} from './event_columns.ts';
import { decodeEvent, EVENT_ENTRY_BYTES_V1, EVENT_ENTRY_BYTES_V2, EVENT_TYPE, encodeEventV2 } from './events.ts';
import { offsetOfAddress, pageOfAddress } from './layout.ts';

/** The field of an entry that each column holds, by the columns' own documentation. */
const SOURCES: Record<string, readonly string[]> = {
  access: ['accessType'],
  faultType: ['faultType'],
  cause: ['migrationCause', 'mapRemoteCause', 'reason'],
  clientType: ['clientType'],
  src: ['srcIndex', 'gpuIndex', 'processorIndex', 'residentIndex'],
  dst: ['dstIndex'],
  gpc: ['gpcId'],
  client: ['clientId'],
  srcNid: ['srcNid'],
  dstNid: ['dstNid'],
  batch: ['batchId'],
  cpu: ['cpuId'],
  pid: ['pid'],
  thread: ['threadId'],
  bytes: ['migratedBytes', 'size'],
  time: ['timeStamp', 'beginTimeStamp'],
  end: ['endTimeStamp'],
  gpuTime: ['timeStampGpu', 'beginTimeStampGpu'],
  gpuEnd: ['endTimeStampGpu'],
  rangeGroup: ['rangeGroupId'],
};
const PLACE = ['address', 'addressOut'];
const OTHER = ['pc', 'addressIn'];

/** Random bytes of a known type, with 64-bit numbers below 2^53 so that columns are exact. */
function randomEntry(prng: Prng, bytes: number, type: number): Uint8Array {
  const words = new Uint32Array(bytes / 4).map(() => prngNext(prng));
  for (let i = 1; i < words.length; i += 2) if (i > 1) words[i] &= 0x1fffff;
  const entry = new Uint8Array(words.buffer);
  entry[0] = type;
  return entry;
}

/** Bits of a list of u64 words. */
function bitsOf(value: unknown): number[] {
  const words = (Array.isArray(value) ? value : [value]) as bigint[];
  return words.flatMap((word, i) =>
    Array.from({ length: 64 }, (_, b) => b)
      .filter((b) => (word >> BigInt(b)) & 1n)
      .map((b) => i * 64 + b),
  );
}

/** Row `i` must say what the layouts' decoder says of the entry. */
function expectRow(c: EventColumns, i: number, entry: Uint8Array): void {
  const { values } = decodeEvent(entry);
  const expected: Record<string, unknown> = {};
  const got: Record<string, unknown> = {};
  const of = (names: readonly string[]): unknown =>
    names.map((name) => values[name]).find((value) => value !== undefined);
  const testCounter = entry[0] === EVENT_TYPE.testAccessCounter;
  for (const [column, fields] of Object.entries(SOURCES)) {
    expected[column] = Number(of(fields) ?? 0);
    got[column] = (c as unknown as Record<string, Uint8Array>)[column][i];
  }
  const place = (of(PLACE) ?? 0n) as bigint;
  const other = (testCounter ? 0n : (of(OTHER) ?? 0n)) as bigint;
  expect(got).toEqual(expected);
  expect(c.type[i]).toBe(entry[0]);
  expect([c.page[i], c.offset[i]]).toEqual([pageOfAddress(place), offsetOfAddress(place)]);
  expect([c.otherPage[i], c.otherOffset[i]]).toEqual([pageOfAddress(other), offsetOfAddress(other)]);
  expect(c.mask[i] === NO_MASK).toBe(values.processors === undefined);
  expect(eventProcessors(c, i)).toEqual(values.processors === undefined ? [] : bitsOf(values.processors));
}

describe.each([EVENT_ENTRY_BYTES_V1, EVENT_ENTRY_BYTES_V2])('entries of %i bytes', (bytes) => {
  it.each(Object.entries(EVENT_TYPE))('%s says in columns what it says as an object', (_name, type) => {
    const prng = createPrng(type * 1000 + bytes);
    const c = createEventColumns(1);
    for (let round = 0; round < 10; round++) {
      const entry = randomEntry(prng, bytes, type);
      appendEvents(c, entry, bytes);
      expectRow(c, round, entry);
    }
  });

  it('come in any order, in spans of any length, through growing columns', () => {
    const prng = createPrng(bytes);
    const types = Object.values(EVENT_TYPE);
    const c = createEventColumns(2);
    const entries: Uint8Array[] = [];
    for (let span = 0; span < 12; span++) {
      const count = prngBelow(prng, 9);
      const memory = new Uint8Array(count * bytes);
      for (let k = 0; k < count; k++) {
        const entry = randomEntry(prng, bytes, types[prngBelow(prng, types.length)]);
        memory.set(entry, k * bytes);
        entries.push(entry);
      }
      appendEvents(c, memory, bytes);
      expect(c.count).toBe(entries.length);
    }
    entries.forEach((entry, i) => {
      expectRow(c, i, entry);
    });
  });

  it('may lie at an odd address', () => {
    const entry = randomEntry(createPrng(3), bytes, EVENT_TYPE.migration);
    const memory = new Uint8Array(bytes + 3);
    memory.set(entry, 3);
    const c = createEventColumns();
    appendEvents(c, memory.subarray(3), bytes);
    expectRow(c, 0, entry);
  });

  it('of an unknown type have nothing but it, also where another event was before', () => {
    const c = createEventColumns();
    appendEvents(c, randomEntry(createPrng(4), bytes, EVENT_TYPE.thrashing), bytes);
    clearEventColumns(c);
    appendEvents(c, randomEntry(createPrng(5), bytes, 40), bytes);
    expect(c.count).toBe(1);
    expect(c.type[0]).toBe(40);
    expect([c.page[0], c.bytes[0], c.time[0], c.mask[0], c.maskCount]).toEqual([0, 0, 0, NO_MASK, 0]);
  });
});

describe('GPU times of a clock that is above 2^53', () => {
  const high = 0x18ebaa01;
  const at = (low: number, above = 0): bigint => (BigInt(high + above) << 32n) + BigInt(low);
  const entries = Buffer.concat([
    encodeEventV2('migration', { beginTimeStamp: 1, beginTimeStampGpu: 0, endTimeStampGpu: 0 }),
    encodeEventV2('gpuFault', { timeStampGpu: at(0x0d8c8ca1) }),
    encodeEventV2('migration', { beginTimeStampGpu: at(0xffffffff), endTimeStampGpu: at(1, 1) }),
    encodeEventV2('replay', { timeStampGpu: at(7, -1) }),
    encodeEventV2('mapRemote', { timeStampGpu: at(9) }),
  ]);

  it('are exact as relative ones, also after the columns were emptied', () => {
    const c = createEventColumns(undefined, 'relative');
    for (let round = 0; round < 2; round++) {
      appendEvents(c, entries.subarray(round * 72), 72);
      const times = [0, 0x0d8c8ca1, 0xffffffff, 7 - 2 ** 32, 9].slice(round);
      expect([...c.gpuTime.subarray(0, c.count)]).toEqual(times);
      expect(c.gpuEnd[2 - round]).toBe(2 ** 32 + 1);
      clearEventColumns(c);
    }
  });

  it('are rounded as absolute ones', () => {
    const c = createEventColumns();
    appendEvents(c, entries, 72);
    expect(c.gpuTime[1]).toBe(Number(at(0x0d8c8ca1)));
    expect(BigInt(c.gpuTime[1])).not.toBe(at(0x0d8c8ca1));
  });
});

describe('what is no stream of entries', () => {
  it('is refused', () => {
    const c = createEventColumns();
    expect(() => appendEvents(c, new Uint8Array(71), 72)).toThrow('71 bytes are no whole entries of 72 bytes');
    expect(() => appendEvents(c, new Uint8Array(60), 60)).toThrow('event entries of 60 bytes; expected 64 or 72');
    expect(() => createEventColumns(0)).toThrow('capacity of event columns: 0');
    appendEvents(c, new Uint8Array(0), 72);
    expect(c.count).toBe(0);
  });
});
