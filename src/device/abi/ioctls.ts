/**
 * The ioctls of the driver (580.105.08), by number, with the layout of their parameters: `/dev/nvidia-uvm` and
 * `/dev/nvidia-uvm-tools`. Numbers are plain integers, no _IOWR codes. What the header defines and the driver does not
 * route is left out; the driver's own tests are in test_ioctls.ts. Field names are the header's, with `rmStatus` for
 * the answer.
 */
import { COPY_IOCTL_NUMBERS, type CopyIoctlNumbers } from '../../model/copy_routine/ioctl.ts';
import { type AnyLayout, field, type InputOf, type Layout, layout, list, type ParamsOf, structs } from './layout.ts';

/** Which device takes an ioctl. */
export type IoctlDevice = 'uvm' | 'tools';

export interface Ioctl<L extends AnyLayout = AnyLayout> {
  /** The driver's name of it, such as UVM_MIGRATE. */
  readonly name: string;
  readonly number: number;
  readonly device: IoctlDevice;
  readonly params: L;
}

/** An ioctl whose name is that of its parameters without the end. */
export function defineIoctl<L extends Layout>(number: number, params: L, device: IoctlDevice = 'uvm'): Ioctl<L> {
  return { name: params.name.replace(/_PARAMS$/, ''), number, device, params };
}

const status = (offset: number) => field('u32', offset);

/** Most GPU attributes of a mapping or a semaphore pool. */
const MAX_GPUS = 256;

const PER_GPU_ATTRIBUTES = layout('UvmGpuMappingAttributes', 36, {
  gpuUuid: field('uuid', 0),
  gpuMappingType: field('u32', 16),
  gpuCachingType: field('u32', 20),
  gpuFormatType: field('u32', 24),
  gpuElementBits: field('u32', 28),
  gpuCompressionType: field('u32', 32),
});

/** { uuid, status } */
const gpuOnly = (name: string) => layout(name, 20, { gpuUuid: field('uuid', 0), rmStatus: status(16) });
/** { base, length, status } */
const range = (name: string) =>
  layout(name, 24, { requestedBase: field('u64', 0), length: field('u64', 8), rmStatus: status(16) });
/** { base, length, uuid, status } */
const rangeAndGpu = (name: string) =>
  layout(name, 40, {
    requestedBase: field('u64', 0),
    length: field('u64', 8),
    uuid: field('uuid', 16),
    rmStatus: status(32),
  });
const peers = (name: string) =>
  layout(name, 36, { gpuUuidA: field('uuid', 0), gpuUuidB: field('uuid', 16), rmStatus: status(32) });
const rangeGroup = (name: string) => layout(name, 16, { rangeGroupId: field('u64', 0), rmStatus: status(8) });
const rangeGroups = (name: string) =>
  layout(name, 272, {
    rangeGroupIds: list('u64', 0, 32),
    numGroupIds: field('u64', 256),
    rmStatus: status(264),
  });
const eventTracker = (name: string) =>
  layout(name, 56, {
    queueBuffer: field('u64', 0),
    /** Entries, not bytes; 0 asks for counters. */
    queueBufferSize: field('u64', 8),
    controlBuffer: field('u64', 16),
    processor: field('uuid', 24),
    allProcessors: field('u32', 40),
    uvmFd: field('u32', 44),
    rmStatus: status(48),
  });
const eventTypes = (name: string) => layout(name, 16, { eventTypeFlags: field('u64', 0), rmStatus: status(8) });
const uuidTable = (name: string) => layout(name, 16, { tablePtr: field('u64', 0), rmStatus: status(8) });

/** Every ioctl that the driver routes, tests apart. */
export const IOCTL = {
  INITIALIZE: defineIoctl(
    0x30000001,
    layout('UVM_INITIALIZE_PARAMS', 16, { flags: field('u64', 0), rmStatus: status(8) }),
  ),
  MM_INITIALIZE: defineIoctl(
    75,
    layout('UVM_MM_INITIALIZE_PARAMS', 8, { uvmFd: field('s32', 0), rmStatus: status(4) }),
  ),
  REGISTER_GPU: defineIoctl(
    37,
    layout('UVM_REGISTER_GPU_PARAMS', 40, {
      gpuUuid: field('uuid', 0),
      numaEnabled: field('bool', 16),
      numaNodeId: field('s32', 20),
      rmCtrlFd: field('s32', 24),
      hClient: field('u32', 28),
      hSmcPartRef: field('u32', 32),
      rmStatus: status(36),
    }),
  ),
  UNREGISTER_GPU: defineIoctl(38, gpuOnly('UVM_UNREGISTER_GPU_PARAMS')),
  REGISTER_GPU_VASPACE: defineIoctl(
    25,
    layout('UVM_REGISTER_GPU_VASPACE_PARAMS', 32, {
      gpuUuid: field('uuid', 0),
      rmCtrlFd: field('s32', 16),
      hClient: field('u32', 20),
      hVaSpace: field('u32', 24),
      rmStatus: status(28),
    }),
  ),
  UNREGISTER_GPU_VASPACE: defineIoctl(26, gpuOnly('UVM_UNREGISTER_GPU_VASPACE_PARAMS')),
  REGISTER_CHANNEL: defineIoctl(
    27,
    layout('UVM_REGISTER_CHANNEL_PARAMS', 56, {
      gpuUuid: field('uuid', 0),
      rmCtrlFd: field('s32', 16),
      hClient: field('u32', 20),
      hChannel: field('u32', 24),
      base: field('u64', 32),
      length: field('u64', 40),
      rmStatus: status(48),
    }),
  ),
  UNREGISTER_CHANNEL: defineIoctl(
    28,
    layout('UVM_UNREGISTER_CHANNEL_PARAMS', 28, {
      gpuUuid: field('uuid', 0),
      hClient: field('u32', 16),
      hChannel: field('u32', 20),
      rmStatus: status(24),
    }),
  ),
  ENABLE_PEER_ACCESS: defineIoctl(29, peers('UVM_ENABLE_PEER_ACCESS_PARAMS')),
  DISABLE_PEER_ACCESS: defineIoctl(30, peers('UVM_DISABLE_PEER_ACCESS_PARAMS')),
  PAGEABLE_MEM_ACCESS: defineIoctl(
    39,
    layout('UVM_PAGEABLE_MEM_ACCESS_PARAMS', 8, { pageableMemAccess: field('bool', 0), rmStatus: status(4) }),
  ),
  PAGEABLE_MEM_ACCESS_ON_GPU: defineIoctl(
    70,
    layout('UVM_PAGEABLE_MEM_ACCESS_ON_GPU_PARAMS', 24, {
      gpuUuid: field('uuid', 0),
      pageableMemAccess: field('bool', 16),
      rmStatus: status(20),
    }),
  ),
  ENABLE_SYSTEM_WIDE_ATOMICS: defineIoctl(54, gpuOnly('UVM_ENABLE_SYSTEM_WIDE_ATOMICS_PARAMS')),
  DISABLE_SYSTEM_WIDE_ATOMICS: defineIoctl(55, gpuOnly('UVM_DISABLE_SYSTEM_WIDE_ATOMICS_PARAMS')),
  CLEAN_UP_ZOMBIE_RESOURCES: defineIoctl(
    69,
    layout('UVM_CLEAN_UP_ZOMBIE_RESOURCES_PARAMS', 4, { rmStatus: status(0) }),
  ),
  CLEAR_ALL_ACCESS_COUNTERS: defineIoctl(
    79,
    layout('UVM_CLEAR_ALL_ACCESS_COUNTERS_PARAMS', 4, { rmStatus: status(0) }),
  ),
  SET_PREFERRED_LOCATION: defineIoctl(
    42,
    layout('UVM_SET_PREFERRED_LOCATION_PARAMS', 40, {
      requestedBase: field('u64', 0),
      length: field('u64', 8),
      preferredLocation: field('uuid', 16),
      preferredCpuNumaNode: field('s32', 32),
      rmStatus: status(36),
    }),
  ),
  UNSET_PREFERRED_LOCATION: defineIoctl(43, range('UVM_UNSET_PREFERRED_LOCATION_PARAMS')),
  SET_ACCESSED_BY: defineIoctl(46, rangeAndGpu('UVM_SET_ACCESSED_BY_PARAMS')),
  UNSET_ACCESSED_BY: defineIoctl(47, rangeAndGpu('UVM_UNSET_ACCESSED_BY_PARAMS')),
  ENABLE_READ_DUPLICATION: defineIoctl(44, range('UVM_ENABLE_READ_DUPLICATION_PARAMS')),
  DISABLE_READ_DUPLICATION: defineIoctl(45, range('UVM_DISABLE_READ_DUPLICATION_PARAMS')),
  MIGRATE: defineIoctl(
    51,
    layout('UVM_MIGRATE_PARAMS', 80, {
      base: field('u64', 0),
      length: field('u64', 8),
      destinationUuid: field('uuid', 16),
      flags: field('u32', 32),
      semaphoreAddress: field('u64', 40),
      semaphorePayload: field('u32', 48),
      cpuNumaNode: field('s32', 52),
      userSpaceStart: field('u64', 56),
      userSpaceLength: field('u64', 64),
      rmStatus: status(72),
    }),
  ),
  MIGRATE_RANGE_GROUP: defineIoctl(
    53,
    layout('UVM_MIGRATE_RANGE_GROUP_PARAMS', 32, {
      rangeGroupId: field('u64', 0),
      destinationUuid: field('uuid', 8),
      rmStatus: status(24),
    }),
  ),
  DISCARD: defineIoctl(
    80,
    layout('UVM_DISCARD_PARAMS', 32, {
      base: field('u64', 0),
      length: field('u64', 8),
      flags: field('u64', 16),
      rmStatus: status(24),
    }),
  ),
  CREATE_RANGE_GROUP: defineIoctl(23, rangeGroup('UVM_CREATE_RANGE_GROUP_PARAMS')),
  DESTROY_RANGE_GROUP: defineIoctl(24, rangeGroup('UVM_DESTROY_RANGE_GROUP_PARAMS')),
  SET_RANGE_GROUP: defineIoctl(
    31,
    layout('UVM_SET_RANGE_GROUP_PARAMS', 32, {
      rangeGroupId: field('u64', 0),
      requestedBase: field('u64', 8),
      length: field('u64', 16),
      rmStatus: status(24),
    }),
  ),
  PREVENT_MIGRATION_RANGE_GROUPS: defineIoctl(40, rangeGroups('UVM_PREVENT_MIGRATION_RANGE_GROUPS_PARAMS')),
  ALLOW_MIGRATION_RANGE_GROUPS: defineIoctl(41, rangeGroups('UVM_ALLOW_MIGRATION_RANGE_GROUPS_PARAMS')),
  POPULATE_PAGEABLE: defineIoctl(
    71,
    layout('UVM_POPULATE_PAGEABLE_PARAMS', 24, {
      base: field('u64', 0),
      length: field('u64', 8),
      flags: field('u32', 16),
      rmStatus: status(20),
    }),
  ),
  VALIDATE_VA_RANGE: defineIoctl(
    72,
    layout('UVM_VALIDATE_VA_RANGE_PARAMS', 24, {
      base: field('u64', 0),
      length: field('u64', 8),
      rmStatus: status(16),
    }),
  ),
  CREATE_EXTERNAL_RANGE: defineIoctl(
    73,
    layout('UVM_CREATE_EXTERNAL_RANGE_PARAMS', 24, {
      base: field('u64', 0),
      length: field('u64', 8),
      rmStatus: status(16),
    }),
  ),
  MAP_EXTERNAL_ALLOCATION: defineIoctl(
    33,
    layout('UVM_MAP_EXTERNAL_ALLOCATION_PARAMS', 9264, {
      base: field('u64', 0),
      length: field('u64', 8),
      offset: field('u64', 16),
      perGpuAttributes: structs(PER_GPU_ATTRIBUTES, 24, MAX_GPUS),
      gpuAttributesCount: field('u64', 9240),
      rmCtrlFd: field('s32', 9248),
      hClient: field('u32', 9252),
      hMemory: field('u32', 9256),
      rmStatus: status(9260),
    }),
  ),
  MAP_EXTERNAL_SPARSE: defineIoctl(74, rangeAndGpu('UVM_MAP_EXTERNAL_SPARSE_PARAMS')),
  UNMAP_EXTERNAL: defineIoctl(66, rangeAndGpu('UVM_UNMAP_EXTERNAL_PARAMS')),
  FREE: defineIoctl(
    34,
    layout('UVM_FREE_PARAMS', 24, { base: field('u64', 0), length: field('u64', 8), rmStatus: status(16) }),
  ),
  MAP_DYNAMIC_PARALLELISM_REGION: defineIoctl(65, rangeAndGpu('UVM_MAP_DYNAMIC_PARALLELISM_REGION_PARAMS')),
  ALLOC_SEMAPHORE_POOL: defineIoctl(
    68,
    layout('UVM_ALLOC_SEMAPHORE_POOL_PARAMS', 9248, {
      base: field('u64', 0),
      length: field('u64', 8),
      perGpuAttributes: structs(PER_GPU_ATTRIBUTES, 16, MAX_GPUS),
      gpuAttributesCount: field('u64', 9232),
      rmStatus: status(9240),
    }),
  ),
  ALLOC_DEVICE_P2P: defineIoctl(
    78,
    layout('UVM_ALLOC_DEVICE_P2P_PARAMS', 56, {
      base: field('u64', 0),
      length: field('u64', 8),
      offset: field('u64', 16),
      gpuUuid: field('uuid', 24),
      rmCtrlFd: field('s32', 40),
      hClient: field('u32', 44),
      hMemory: field('u32', 48),
      rmStatus: status(52),
    }),
  ),
  TOOLS_READ_PROCESS_MEMORY: defineIoctl(
    62,
    layout('UVM_TOOLS_READ_PROCESS_MEMORY_PARAMS', 40, {
      buffer: field('u64', 0),
      size: field('u64', 8),
      targetVa: field('u64', 16),
      bytesRead: field('u64', 24),
      rmStatus: status(32),
    }),
  ),
  TOOLS_WRITE_PROCESS_MEMORY: defineIoctl(
    63,
    layout('UVM_TOOLS_WRITE_PROCESS_MEMORY_PARAMS', 40, {
      buffer: field('u64', 0),
      size: field('u64', 8),
      targetVa: field('u64', 16),
      bytesWritten: field('u64', 24),
      rmStatus: status(32),
    }),
  ),
  TOOLS_GET_PROCESSOR_UUID_TABLE: defineIoctl(64, uuidTable('UVM_TOOLS_GET_PROCESSOR_UUID_TABLE_PARAMS')),
  TOOLS_GET_PROCESSOR_UUID_TABLE_V2: defineIoctl(77, uuidTable('UVM_TOOLS_GET_PROCESSOR_UUID_TABLE_V2_PARAMS')),
  TOOLS_FLUSH_EVENTS: defineIoctl(67, layout('UVM_TOOLS_FLUSH_EVENTS_PARAMS', 4, { rmStatus: status(0) })),
  TOOLS_INIT_EVENT_TRACKER: defineIoctl(56, eventTracker('UVM_TOOLS_INIT_EVENT_TRACKER_PARAMS'), 'tools'),
  TOOLS_INIT_EVENT_TRACKER_V2: defineIoctl(76, eventTracker('UVM_TOOLS_INIT_EVENT_TRACKER_V2_PARAMS'), 'tools'),
  TOOLS_SET_NOTIFICATION_THRESHOLD: defineIoctl(
    57,
    layout('UVM_TOOLS_SET_NOTIFICATION_THRESHOLD_PARAMS', 8, {
      notificationThreshold: field('u32', 0),
      rmStatus: status(4),
    }),
    'tools',
  ),
  TOOLS_EVENT_QUEUE_ENABLE_EVENTS: defineIoctl(58, eventTypes('UVM_TOOLS_EVENT_QUEUE_ENABLE_EVENTS_PARAMS'), 'tools'),
  TOOLS_EVENT_QUEUE_DISABLE_EVENTS: defineIoctl(59, eventTypes('UVM_TOOLS_EVENT_QUEUE_DISABLE_EVENTS_PARAMS'), 'tools'),
  TOOLS_ENABLE_COUNTERS: defineIoctl(
    60,
    layout('UVM_TOOLS_ENABLE_COUNTERS_PARAMS', 16, { counterTypeFlags: field('u64', 0), rmStatus: status(8) }),
    'tools',
  ),
  TOOLS_DISABLE_COUNTERS: defineIoctl(
    61,
    layout('UVM_TOOLS_DISABLE_COUNTERS_PARAMS', 16, { counterTypeFlags: field('u64', 0), rmStatus: status(8) }),
    'tools',
  ),
} as const;

/** The one number that does nothing and takes no parameters. */
export const UVM_DEINITIALIZE = 0x30000002;

/** What an ioctl's parameters hold, and what can be passed for them. */
export type IoctlParams<I> = I extends Ioctl<infer L> ? ParamsOf<L> : never;
export type IoctlInput<I> = I extends Ioctl<infer L> ? InputOf<L> : never;

/** Flags of UVM_INITIALIZE, UVM_MIGRATE and UVM_DISCARD. */
export const UVM_INIT_FLAGS_DISABLE_HMM = 1n;
export const UVM_INIT_FLAGS_MULTI_PROCESS_SHARING_MODE = 2n;
export const UVM_MIGRATE_FLAG_ASYNC = 1;
export const UVM_DISCARD_FLAGS_UNMAP = 1n;

/** The CPU's uuid in every call that takes a processor, and entry 0 of the uuid tables. */
export const CPU_UUID: Uint8Array = Uint8Array.of(
  ...[0xa6, 0x5e, 0x0f, 0x4e, 0xd7, 0xd4, 0x7b, 0xa2, 0x50, 0x47, 0x41, 0x2c, 0x14, 0x2a, 0x77, 0x73],
);
/** Entries of the uuid tables of ioctls 64 and 77. */
export const UUID_TABLE_ENTRIES = 33;
export const UUID_TABLE_V2_ENTRIES = 257;

/** The copy routine's ioctls under the numbers given, with the layouts of docs/copy-routine.md. */
export function copyIoctls(numbers: CopyIoctlNumbers = COPY_IOCTL_NUMBERS) {
  return {
    SET_COPY_FROM_ADDRESS: defineIoctl(
      numbers.setCopyFromAddress,
      layout('UVM_SET_COPY_FROM_ADDRESS_PARAMS', 24, {
        address: field('u64', 0),
        length: field('u64', 8),
        flags: field('u32', 16),
        rmStatus: status(20),
      }),
    ),
    SET_NEXT_COPY_ADDRESS: defineIoctl(
      numbers.setNextCopyAddress,
      layout('UVM_SET_NEXT_COPY_ADDRESS_PARAMS', 48, {
        address: field('u64', 0),
        flags: field('u32', 8),
        rmStatus: status(12),
        bytesCopied: field('u64', 16),
        token: field('u64', 24),
        residentOn: field('u32', 32),
        channel: field('u32', 36),
        trackingSemaphoreValue: field('u64', 40),
      }),
    ),
    COPY_STATUS: defineIoctl(
      numbers.copyStatus,
      layout('UVM_COPY_STATUS_PARAMS', 40, {
        token: field('u64', 0),
        flags: field('u32', 8),
        rmStatus: status(12),
        state: field('u32', 16),
        copyStatus: field('u32', 20),
        bytesCopied: field('u64', 24),
        trackingSemaphoreValue: field('u64', 32),
      }),
    ),
  } as const;
}

/** The three ioctls of one patched module; copy_abi.ts reads them from a file. */
export type CopyIoctls = ReturnType<typeof copyIoctls>;
