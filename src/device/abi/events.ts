/**
 * The entries of the tools event queue (driver 580.105.08), version 1 (64 bytes) and version 2 (72 bytes): layouts of
 * every type. Version 1 numbers processors by physical GPU, version 2 by GPU instance, of which each GPU has eight
 * numbers. For streams of entries there is event_columns.ts.
 */
import { decode, encode, field, type InputOf, type Layout, layout, list, type ParamsOf } from './layout.ts';

export const EVENT_ENTRY_BYTES_V1 = 64;
export const EVENT_ENTRY_BYTES_V2 = 72;

/** Event types by the project's words: the byte at offset 0 of an entry, and the bit of the enable flags. */
export const EVENT_TYPE = {
  cpuFault: 1,
  migration: 2,
  gpuFault: 3,
  replay: 4,
  faultBufferOverflow: 5,
  fatalFault: 6,
  readDuplicate: 7,
  readDuplicateInvalidate: 8,
  pageSizeChange: 9,
  thrashing: 10,
  throttlingStart: 11,
  throttlingEnd: 12,
  mapRemote: 13,
  eviction: 14,
  testHmmSplitInvalidate: 62,
  testAccessCounter: 63,
} as const;
export type EventTypeName = keyof typeof EVENT_TYPE;

/** Numbers of types that have an enable flag of their own on any driver: 1 to 14. */
export const EVENT_TYPES_OUTER = 15;
/** Numbers of types at all: the length of the list of dropped events. */
export const EVENT_TYPES_ALL = 64;
/** Types that the driver defines and never records. */
export const NEVER_RECORDED: readonly EventTypeName[] = ['faultBufferOverflow', 'pageSizeChange', 'eviction'];
/** Types that exist only where the driver's built-in tests are on. */
export const TEST_EVENTS: readonly EventTypeName[] = ['testHmmSplitInvalidate', 'testAccessCounter'];
/** All that a driver records for a program. */
export const RECORDED_EVENTS: readonly EventTypeName[] = [
  'cpuFault',
  'migration',
  'gpuFault',
  'replay',
  'fatalFault',
  'readDuplicate',
  'readDuplicateInvalidate',
  'thrashing',
  'throttlingStart',
  'throttlingEnd',
  'mapRemote',
];

/** The enable flags of a list of types. */
export function eventTypeFlags(types: readonly EventTypeName[]): bigint {
  return types.reduce((flags, type) => flags | (1n << BigInt(EVENT_TYPE[type])), 0n);
}

const V1 = EVENT_ENTRY_BYTES_V1;
const V2 = EVENT_ENTRY_BYTES_V2;
const type = field('u8', 0);
const address = (offset: number) => field('u64', offset);
const time = (offset: number) => field('u64', offset);

const cpuFault = (name: string, size: number) =>
  layout(name, size, {
    eventType: type,
    accessType: field('u8', 1),
    cpuId: field('u32', 4),
    address: address(8),
    timeStamp: time(16),
    pid: field('u32', 24),
    threadId: field('u32', 28),
    pc: field('u64', 32),
  });

/** Layouts of version 1, by type. */
export const EVENTS_V1 = {
  cpuFault: cpuFault('UvmEventCpuFaultInfo', V1),
  migration: layout('UvmEventMigrationInfo', V1, {
    eventType: type,
    migrationCause: field('u8', 1),
    srcIndex: field('u8', 2),
    dstIndex: field('u8', 3),
    address: address(8),
    migratedBytes: field('u64', 16),
    beginTimeStamp: time(24),
    endTimeStamp: time(32),
    rangeGroupId: field('u64', 40),
    beginTimeStampGpu: time(48),
    endTimeStampGpu: time(56),
  }),
  gpuFault: layout('UvmEventGpuFaultInfo', V1, {
    eventType: type,
    faultType: field('u8', 1),
    accessType: field('u8', 2),
    gpuIndex: field('u8', 3),
    gpcId: field('u16', 4),
    clientId: field('u16', 6),
    address: address(8),
    timeStamp: time(16),
    timeStampGpu: time(24),
    batchId: field('u32', 32),
    clientType: field('u8', 36),
  }),
  replay: layout('UvmEventGpuFaultReplayInfo', V1, {
    eventType: type,
    gpuIndex: field('u8', 1),
    clientType: field('u8', 2),
    batchId: field('u32', 4),
    timeStamp: time(8),
    timeStampGpu: time(16),
  }),
  faultBufferOverflow: layout('UvmEventFaultBufferOverflowInfo', V1, { eventType: type }),
  fatalFault: layout('UvmEventFatalFaultInfo', V1, {
    eventType: type,
    faultType: field('u8', 1),
    accessType: field('u8', 2),
    processorIndex: field('u8', 3),
    reason: field('u8', 4),
    address: address(8),
    timeStamp: time(16),
  }),
  readDuplicate: layout('UvmEventReadDuplicateInfo', V1, {
    eventType: type,
    processors: field('u64', 8),
    address: address(16),
    size: field('u64', 24),
    timeStamp: time(32),
  }),
  readDuplicateInvalidate: layout('UvmEventReadDuplicateInvalidateInfo', V1, {
    eventType: type,
    residentIndex: field('u8', 1),
    address: address(8),
    size: field('u64', 16),
    timeStamp: time(24),
  }),
  pageSizeChange: layout('UvmEventPageSizeChangeInfo', V1, {
    eventType: type,
    processorIndex: field('u8', 1),
    size: field('u32', 4),
    address: address(8),
    timeStamp: time(16),
  }),
  thrashing: layout('UvmEventThrashingDetectedInfo', V1, {
    eventType: type,
    processors: field('u64', 8),
    address: address(16),
    size: field('u64', 24),
    timeStamp: time(32),
  }),
  throttlingStart: layout('UvmEventThrottlingStartInfo', V1, {
    eventType: type,
    processorIndex: field('u8', 1),
    address: address(8),
    timeStamp: time(16),
  }),
  throttlingEnd: layout('UvmEventThrottlingEndInfo', V1, {
    eventType: type,
    processorIndex: field('u8', 1),
    address: address(8),
    timeStamp: time(16),
  }),
  mapRemote: layout('UvmEventMapRemoteInfo', V1, {
    eventType: type,
    srcIndex: field('u8', 1),
    dstIndex: field('u8', 2),
    mapRemoteCause: field('u8', 3),
    address: address(8),
    size: field('u64', 16),
    timeStamp: time(24),
    timeStampGpu: time(32),
  }),
  eviction: layout('UvmEventEvictionInfo', V1, {
    eventType: type,
    srcIndex: field('u8', 1),
    dstIndex: field('u8', 2),
    addressOut: address(8),
    addressIn: address(16),
    size: field('u64', 24),
    timeStamp: time(32),
  }),
  testHmmSplitInvalidate: layout('UvmEventTestHmmSplitInvalidateInfo', V1, { eventType: type }),
  testAccessCounter: layout('UvmEventTestAccessCounterInfo', V1, {
    eventType: type,
    srcIndex: field('u8', 1),
    aperture: field('u8', 2),
    instancePtrAperture: field('u8', 3),
    veId: field('u8', 5),
    value: field('u32', 8),
    subGranularity: field('u32', 12),
    tag: field('u32', 16),
    bank: field('u32', 20),
    address: address(24),
    instancePtr: field('u64', 32),
  }),
} as const satisfies Record<EventTypeName, Layout>;

const processors = list('u64', 32, 5);
const throttling = (name: string) =>
  layout(name, V2, {
    eventType: type,
    processorIndex: field('u16', 2),
    address: address(8),
    timeStamp: time(16),
  });
const duplicate = (name: string) =>
  layout(name, V2, {
    eventType: type,
    address: address(8),
    size: field('u64', 16),
    timeStamp: time(24),
    processors,
  });

/** Layouts of version 2, by type. */
export const EVENTS_V2 = {
  cpuFault: cpuFault('UvmEventCpuFaultInfo', V2),
  migration: layout('UvmEventMigrationInfo_V2', V2, {
    eventType: type,
    migrationCause: field('u8', 1),
    srcIndex: field('u16', 4),
    dstIndex: field('u16', 6),
    srcNid: field('s32', 8),
    dstNid: field('s32', 12),
    address: address(16),
    migratedBytes: field('u64', 24),
    beginTimeStamp: time(32),
    endTimeStamp: time(40),
    rangeGroupId: field('u64', 48),
    beginTimeStampGpu: time(56),
    endTimeStampGpu: time(64),
  }),
  gpuFault: layout('UvmEventGpuFaultInfo_V2', V2, {
    eventType: type,
    faultType: field('u8', 1),
    gpuIndex: field('u16', 2),
    gpcId: field('u16', 4),
    clientId: field('u16', 6),
    address: address(8),
    timeStamp: time(16),
    timeStampGpu: time(24),
    batchId: field('u32', 32),
    clientType: field('u8', 36),
    accessType: field('u8', 37),
  }),
  replay: layout('UvmEventGpuFaultReplayInfo_V2', V2, {
    eventType: type,
    clientType: field('u8', 1),
    gpuIndex: field('u16', 2),
    batchId: field('u32', 4),
    timeStamp: time(8),
    timeStampGpu: time(16),
  }),
  faultBufferOverflow: layout('UvmEventFaultBufferOverflowInfo_V2', V2, { eventType: type }),
  fatalFault: layout('UvmEventFatalFaultInfo_V2', V2, {
    eventType: type,
    faultType: field('u8', 1),
    accessType: field('u8', 2),
    reason: field('u8', 3),
    processorIndex: field('u16', 4),
    address: address(8),
    timeStamp: time(16),
  }),
  readDuplicate: duplicate('UvmEventReadDuplicateInfo_V2'),
  readDuplicateInvalidate: layout('UvmEventReadDuplicateInvalidateInfo_V2', V2, {
    eventType: type,
    residentIndex: field('u16', 2),
    address: address(8),
    size: field('u64', 16),
    timeStamp: time(24),
  }),
  pageSizeChange: layout('UvmEventPageSizeChangeInfo_V2', V2, {
    eventType: type,
    processorIndex: field('u16', 2),
    size: field('u32', 4),
    address: address(8),
    timeStamp: time(16),
  }),
  thrashing: duplicate('UvmEventThrashingDetectedInfo_V2'),
  throttlingStart: throttling('UvmEventThrottlingStartInfo_V2'),
  throttlingEnd: throttling('UvmEventThrottlingEndInfo_V2'),
  mapRemote: layout('UvmEventMapRemoteInfo_V2', V2, {
    eventType: type,
    mapRemoteCause: field('u8', 1),
    srcIndex: field('u16', 4),
    dstIndex: field('u16', 6),
    address: address(8),
    size: field('u64', 16),
    timeStamp: time(24),
    timeStampGpu: time(32),
  }),
  eviction: layout('UvmEventEvictionInfo_V2', V2, {
    eventType: type,
    srcIndex: field('u16', 4),
    dstIndex: field('u16', 6),
    addressOut: address(8),
    addressIn: address(16),
    size: field('u64', 24),
    timeStamp: time(32),
  }),
  testHmmSplitInvalidate: layout('UvmEventTestHmmSplitInvalidateInfo_V2', V2, { eventType: type }),
  testAccessCounter: layout('UvmEventTestAccessCounterInfo_V2', V2, {
    eventType: type,
    aperture: field('u8', 1),
    instancePtrAperture: field('u8', 2),
    veId: field('u8', 3),
    srcIndex: field('u16', 6),
    value: field('u32', 8),
    subGranularity: field('u32', 12),
    tag: field('u32', 16),
    bank: field('u32', 20),
    address: address(32),
    instancePtr: field('u64', 40),
  }),
} as const satisfies Record<EventTypeName, Layout>;

export type EventV1<T extends EventTypeName> = ParamsOf<(typeof EVENTS_V1)[T]>;
export type EventV2<T extends EventTypeName> = ParamsOf<(typeof EVENTS_V2)[T]>;
type InputV1<T extends EventTypeName> = InputOf<(typeof EVENTS_V1)[T]>;
type InputV2<T extends EventTypeName> = InputOf<(typeof EVENTS_V2)[T]>;

const NAME_BY_TYPE = new Map<number, EventTypeName>(
  (Object.entries(EVENT_TYPE) as [EventTypeName, number][]).map(([name, number]) => [number, name]),
);

/** The name of an event type, or null for a number that the driver does not define. */
export function eventTypeName(number: number): EventTypeName | null {
  return NAME_BY_TYPE.get(number) ?? null;
}

/** One entry of version 1 with its type set; fields that are left out, and the rest of the entry, are zero. */
export function encodeEventV1<T extends EventTypeName>(name: T, values: InputV1<T>): Uint8Array<ArrayBuffer> {
  const target: Layout = EVENTS_V1[name];
  return encode(target, { ...values, eventType: EVENT_TYPE[name] } as never);
}

/** One entry of version 2 with its type set. */
export function encodeEventV2<T extends EventTypeName>(name: T, values: InputV2<T>): Uint8Array<ArrayBuffer> {
  const target: Layout = EVENTS_V2[name];
  return encode(target, { ...values, eventType: EVENT_TYPE[name] } as never);
}

/** An entry as an object. */
export interface DecodedEvent<V> {
  name: EventTypeName;
  values: V;
}

/**
 * An entry of 64 (version 1) or 72 bytes (version 2) as an object: its type's name, and its fields. Throws RangeError
 * for another length or a type that does not exist.
 */
export function decodeEvent(entry: Uint8Array): DecodedEvent<Record<string, unknown>> {
  if (entry.length !== V1 && entry.length !== V2) {
    throw new RangeError(`an event entry of ${entry.length} bytes; expected ${V1} or ${V2}`);
  }
  const name = eventTypeName(entry[0]);
  if (name === null) {
    throw new RangeError(`event type ${entry[0]}; expected one of ${[...NAME_BY_TYPE.keys()].join(', ')}`);
  }
  const layouts: Record<EventTypeName, Layout> = entry.length === V1 ? EVENTS_V1 : EVENTS_V2;
  return { name, values: decode(layouts[name], entry) as Record<string, unknown> };
}
