import { describe, expect, it } from 'vitest';
import { documentedLines, expectDocumented } from '../../../test/support/documented_layout.ts';
import {
  decodeEvent,
  EVENT_TYPE,
  EVENTS_V1,
  EVENTS_V2,
  encodeEventV1,
  encodeEventV2,
  eventTypeFlags,
  eventTypeName,
  NEVER_RECORDED,
  RECORDED_EVENTS,
  TEST_EVENTS,
} from './events.ts';

/** Fields after the type; offsets as a C compiler gives them for the driver's public headers. */
const DOCUMENTED_V1 = `
cpuFault accessType u8@1 cpuId u32@4 address u64@8 timeStamp u64@16 pid u32@24 threadId u32@28 pc u64@32 =64
migration migrationCause u8@1 srcIndex u8@2 dstIndex u8@3 address u64@8 migratedBytes u64@16 beginTimeStamp
    u64@24 endTimeStamp u64@32 rangeGroupId u64@40 beginTimeStampGpu u64@48 endTimeStampGpu u64@56 =64
gpuFault faultType u8@1 accessType u8@2 gpuIndex u8@3 gpcId u16@4 clientId u16@6 address u64@8 timeStamp
    u64@16 timeStampGpu u64@24 batchId u32@32 clientType u8@36 =64
replay gpuIndex u8@1 clientType u8@2 batchId u32@4 timeStamp u64@8 timeStampGpu u64@16 =64
faultBufferOverflow =64
fatalFault faultType u8@1 accessType u8@2 processorIndex u8@3 reason u8@4 address u64@8 timeStamp u64@16 =64
readDuplicate processors u64@8 address u64@16 size u64@24 timeStamp u64@32 =64
readDuplicateInvalidate residentIndex u8@1 address u64@8 size u64@16 timeStamp u64@24 =64
pageSizeChange processorIndex u8@1 size u32@4 address u64@8 timeStamp u64@16 =64
thrashing processors u64@8 address u64@16 size u64@24 timeStamp u64@32 =64
throttlingStart processorIndex u8@1 address u64@8 timeStamp u64@16 =64
throttlingEnd processorIndex u8@1 address u64@8 timeStamp u64@16 =64
mapRemote srcIndex u8@1 dstIndex u8@2 mapRemoteCause u8@3 address u64@8 size u64@16 timeStamp u64@24
    timeStampGpu u64@32 =64
eviction srcIndex u8@1 dstIndex u8@2 addressOut u64@8 addressIn u64@16 size u64@24 timeStamp u64@32 =64
testHmmSplitInvalidate =64
testAccessCounter srcIndex u8@1 aperture u8@2 instancePtrAperture u8@3 veId u8@5 value u32@8 subGranularity
    u32@12 tag  u32@16 bank u32@20 address u64@24 instancePtr u64@32 =64
`;

const DOCUMENTED_V2 = `
cpuFault accessType u8@1 cpuId u32@4 address u64@8 timeStamp u64@16 pid u32@24 threadId u32@28 pc u64@32 =72
migration migrationCause u8@1 srcIndex u16@4 dstIndex u16@6 srcNid s32@8 dstNid s32@12 address u64@16
    migratedBytes u64@24 beginTimeStamp u64@32 endTimeStamp u64@40 rangeGroupId u64@48 beginTimeStampGpu
    u64@56 endTimeStampGpu u64@64 =72
gpuFault faultType u8@1 gpuIndex u16@2 gpcId u16@4 clientId u16@6 address u64@8 timeStamp u64@16 timeStampGpu
    u64@24 batchId u32@32 clientType u8@36 accessType u8@37 =72
replay clientType u8@1 gpuIndex u16@2 batchId u32@4 timeStamp u64@8 timeStampGpu u64@16 =72
faultBufferOverflow =72
fatalFault faultType u8@1 accessType u8@2 reason u8@3 processorIndex u16@4 address u64@8 timeStamp u64@16 =72
readDuplicate address u64@8 size u64@16 timeStamp u64@24 processors u64[5]@32 =72
readDuplicateInvalidate residentIndex u16@2 address u64@8 size u64@16 timeStamp u64@24 =72
pageSizeChange processorIndex u16@2 size u32@4 address u64@8 timeStamp u64@16 =72
thrashing address u64@8 size u64@16 timeStamp u64@24 processors u64[5]@32 =72
throttlingStart processorIndex u16@2 address u64@8 timeStamp u64@16 =72
throttlingEnd processorIndex u16@2 address u64@8 timeStamp u64@16 =72
mapRemote mapRemoteCause u8@1 srcIndex u16@4 dstIndex u16@6 address u64@8 size u64@16 timeStamp u64@24
    timeStampGpu u64@32 =72
eviction srcIndex u16@4 dstIndex u16@6 addressOut u64@8 addressIn u64@16 size u64@24 timeStamp u64@32 =72
testHmmSplitInvalidate =72
testAccessCounter aperture u8@1 instancePtrAperture u8@2 veId u8@3 srcIndex u16@6 value u32@8 subGranularity
    u32@12  tag u32@16 bank u32@20 address u64@32 instancePtr u64@40 =72
`;

const NUMBERS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 62, 63];

describe.each([
  ['version 1', DOCUMENTED_V1, EVENTS_V1],
  ['version 2', DOCUMENTED_V2, EVENTS_V2],
] as const)('%s', (_version, table, layouts) => {
  const lines = documentedLines(table);
  it('has every type in the order of the numbers', () => {
    expect(lines.map((line) => line.name)).toEqual(Object.keys(layouts));
    expect(lines.map((line) => EVENT_TYPE[line.name as 'cpuFault'])).toEqual(NUMBERS);
  });
  it.each(lines)('$name has its layout', ({ name, rest }) => {
    expectDocumented(layouts[name as 'cpuFault'], `eventType u8@0 ${rest}`);
  });
});

describe('entries', () => {
  it('begin with their type and come back as they went in', () => {
    const values = { address: 0x7f00_1234_5000n, timeStamp: 77n, processorIndex: 9 };
    const v2 = encodeEventV2('throttlingEnd', values);
    expect([v2.length, v2[0]]).toEqual([72, 12]);
    expect(decodeEvent(v2)).toEqual({ name: 'throttlingEnd', values: { ...values, eventType: 12 } });
    const v1 = encodeEventV1('throttlingEnd', values);
    expect([v1.length, v1[0]]).toEqual([64, 12]);
    expect(decodeEvent(v1)).toEqual({ name: 'throttlingEnd', values: { ...values, eventType: 12 } });
  });

  it('of version 2 hold processors that version 1 has no room for', () => {
    expect(decodeEvent(encodeEventV2('mapRemote', { srcIndex: 256 })).values).toMatchObject({ srcIndex: 256 });
    expect(() => encodeEventV1('mapRemote', { srcIndex: 256 })).toThrow(
      'UvmEventMapRemoteInfo.srcIndex: 256; expected a whole number from 0 to 255',
    );
  });

  it('of another length or type are refused', () => {
    expect(() => decodeEvent(new Uint8Array(71))).toThrow('an event entry of 71 bytes; expected 64 or 72');
    expect(() => decodeEvent(Uint8Array.from({ length: 72 }, () => 15))).toThrow('event type 15; expected one of 1, 2');
  });
});

describe('types', () => {
  it('have names by number', () => {
    for (const number of NUMBERS) expect(EVENT_TYPE[eventTypeName(number) as 'cpuFault']).toBe(number);
    expect(eventTypeName(0)).toBeNull();
    expect(eventTypeName(15)).toBeNull();
  });

  it('fall into recorded ones, tests, and those that never are', () => {
    expect([...RECORDED_EVENTS, ...NEVER_RECORDED, ...TEST_EVENTS].sort()).toEqual(Object.keys(EVENT_TYPE).sort());
    expect(eventTypeFlags(RECORDED_EVENTS)).toBe(0x3dden);
    expect(eventTypeFlags([...RECORDED_EVENTS, ...NEVER_RECORDED])).toBe(0x7ffen);
    expect(eventTypeFlags(TEST_EVENTS)).toBe(0xc000000000000000n);
  });
});
