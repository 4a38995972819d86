/**
 * The ioctls of the driver's own tests (580.105.08), which a driver has when its module parameter
 * `uvm_enable_builtin_tests` is on; all of them are for `/dev/nvidia-uvm`. They are how a model is held to a driver:
 * residency and mappings, policies, range groups, forced evictions, injected events.
 *
 * Left out, since their parameters are not known in full here: RANGE_TREE_RANDOM (203), GET_RM_PTES (226),
 * PMA_ALLOC_FREE (253), RECONFIGURE, RESET and SET_IGNORE of access counters (256 to 258), CHECK_CHANNEL_VA_SPACE
 * (259), PMM_REVERSE_MAP (265), VA_SPACE_MM_RETAIN (267), VA_SPACE_INJECT_ERROR (272), NUMA_CHECK_AFFINITY and thread
 * contexts (278 to 282), VA_SPACE_MM_OR_CURRENT_RETAIN (289), 293 to 296, 298, 299, 301 to 303 and 305 to 308.
 */
import { EVENT_ENTRY_BYTES_V1, EVENT_ENTRY_BYTES_V2 } from './events.ts';
import { defineIoctl } from './ioctls.ts';
import { field, layout, list } from './layout.ts';

/** Processors that a VA space can have, the CPU among them: length of the lists of processors below. */
const PROCESSORS = 257;

const rmStatus = (offset: number) => field('u32', offset);
const plain = (name: string) => layout(name, 4, { rmStatus: rmStatus(0) });
const peers = (name: string) =>
  layout(name, 36, { gpuUuidA: field('uuid', 0), gpuUuidB: field('uuid', 16), rmStatus: rmStatus(32) });

/** By the driver's name without UVM_TEST_. Ends of ranges are inclusive. */
export const TEST_IOCTL = {
  GET_GPU_REF_COUNT: defineIoctl(
    200,
    layout('UVM_TEST_GET_GPU_REF_COUNT_PARAMS', 32, {
      gpuUuid: field('uuid', 0),
      count: field('u64', 16),
      rmStatus: rmStatus(24),
    }),
  ),
  RNG_SANITY: defineIoctl(201, plain('UVM_TEST_RNG_SANITY_PARAMS')),
  RANGE_TREE_DIRECTED: defineIoctl(202, plain('UVM_TEST_RANGE_TREE_DIRECTED_PARAMS')),
  VA_RANGE_INFO: defineIoctl(
    204,
    layout('UVM_TEST_VA_RANGE_INFO_PARAMS', 4200, {
      lookupAddress: field('u64', 0),
      start: field('u64', 8),
      end: field('u64', 16),
      readDuplication: field('u32', 24),
      preferredLocation: field('uuid', 28),
      preferredCpuNid: field('s32', 44),
      accessedBy: list('uuid', 48, PROCESSORS),
      accessedByCount: field('u32', 4160),
      type: field('u32', 4164),
      vmaStart: field('u64', 4168),
      vmaEnd: field('u64', 4176),
      isZombie: field('bool', 4184),
      ownedByCaller: field('bool', 4185),
      subtype: field('u32', 4188),
      rmStatus: rmStatus(4192),
    }),
  ),
  RM_MEM_SANITY: defineIoctl(205, plain('UVM_TEST_RM_MEM_SANITY_PARAMS')),
  GPU_SEMAPHORE_SANITY: defineIoctl(206, plain('UVM_TEST_GPU_SEMAPHORE_SANITY_PARAMS')),
  PEER_REF_COUNT: defineIoctl(
    207,
    layout('UVM_TEST_PEER_REF_COUNT_PARAMS', 48, {
      gpuUuidA: field('uuid', 0),
      gpuUuidB: field('uuid', 16),
      rmStatus: rmStatus(32),
      count: field('u64', 40),
    }),
  ),
  VA_RANGE_SPLIT: defineIoctl(
    208,
    layout('UVM_TEST_VA_RANGE_SPLIT_PARAMS', 16, { splitAddress: field('u64', 0), rmStatus: rmStatus(8) }),
  ),
  VA_RANGE_INJECT_SPLIT_ERROR: defineIoctl(
    209,
    layout('UVM_TEST_VA_RANGE_INJECT_SPLIT_ERROR_PARAMS', 16, {
      lookupAddress: field('u64', 0),
      rmStatus: rmStatus(8),
    }),
  ),
  PAGE_TREE: defineIoctl(210, plain('UVM_TEST_PAGE_TREE_PARAMS')),
  CHANGE_PTE_MAPPING: defineIoctl(
    211,
    layout('UVM_TEST_CHANGE_PTE_MAPPING_PARAMS', 32, {
      uuid: field('uuid', 0),
      va: field('u64', 16),
      mapping: field('u32', 24),
      rmStatus: rmStatus(28),
    }),
  ),
  TRACKER_SANITY: defineIoctl(212, plain('UVM_TEST_TRACKER_SANITY_PARAMS')),
  PUSH_SANITY: defineIoctl(
    213,
    layout('UVM_TEST_PUSH_SANITY_PARAMS', 8, { skipTimestampTest: field('bool', 0), rmStatus: rmStatus(4) }),
  ),
  CHANNEL_SANITY: defineIoctl(214, plain('UVM_TEST_CHANNEL_SANITY_PARAMS')),
  CHANNEL_STRESS: defineIoctl(
    215,
    layout('UVM_TEST_CHANNEL_STRESS_PARAMS', 28, {
      mode: field('u32', 0),
      iterations: field('u32', 4),
      streams: field('u32', 8),
      keyRotationOperation: field('u32', 12),
      seed: field('u32', 16),
      verbose: field('u32', 20),
      rmStatus: rmStatus(24),
    }),
  ),
  CE_SANITY: defineIoctl(
    216,
    layout('UVM_TEST_CE_SANITY_PARAMS', 8, { skipTimestampTest: field('bool', 0), rmStatus: rmStatus(4) }),
  ),
  VA_BLOCK_INFO: defineIoctl(
    217,
    layout('UVM_TEST_VA_BLOCK_INFO_PARAMS', 32, {
      lookupAddress: field('u64', 0),
      start: field('u64', 8),
      end: field('u64', 16),
      rmStatus: rmStatus(24),
    }),
  ),
  LOCK_SANITY: defineIoctl(218, plain('UVM_TEST_LOCK_SANITY_PARAMS')),
  PERF_UTILS_SANITY: defineIoctl(219, plain('UVM_TEST_PERF_UTILS_SANITY_PARAMS')),
  KVMALLOC: defineIoctl(220, plain('UVM_TEST_KVMALLOC_PARAMS')),
  PMM_QUERY: defineIoctl(
    221,
    layout('UVM_TEST_PMM_QUERY_PARAMS', 40, {
      gpuUuid: field('uuid', 0),
      key: field('u64', 16),
      value: field('u64', 24),
      rmStatus: rmStatus(32),
    }),
  ),
  PMM_CHECK_LEAK: defineIoctl(
    222,
    layout('UVM_TEST_PMM_CHECK_LEAK_PARAMS', 48, {
      gpuUuid: field('uuid', 0),
      chunkSize: field('u64', 16),
      limit: field('s64', 24),
      allocated: field('u64', 32),
      rmStatus: rmStatus(40),
    }),
  ),
  PERF_EVENTS_SANITY: defineIoctl(223, plain('UVM_TEST_PERF_EVENTS_SANITY_PARAMS')),
  PERF_MODULE_SANITY: defineIoctl(
    224,
    layout('UVM_TEST_PERF_MODULE_SANITY_PARAMS', 16, {
      address: field('u64', 0),
      size: field('u32', 8),
      rmStatus: rmStatus(12),
    }),
  ),
  RANGE_ALLOCATOR_SANITY: defineIoctl(
    225,
    layout('UVM_TEST_RANGE_ALLOCATOR_SANITY_PARAMS', 16, {
      verbose: field('u32', 0),
      seed: field('u32', 4),
      iterations: field('u32', 8),
      rmStatus: rmStatus(12),
    }),
  ),
  FAULT_BUFFER_FLUSH: defineIoctl(
    227,
    layout('UVM_TEST_FAULT_BUFFER_FLUSH_PARAMS', 16, { iterations: field('u64', 0), rmStatus: rmStatus(8) }),
  ),
  INJECT_TOOLS_EVENT: defineIoctl(
    228,
    layout('UVM_TEST_INJECT_TOOLS_EVENT_PARAMS', 72, {
      entry: list('u8', 0, EVENT_ENTRY_BYTES_V1),
      count: field('u32', 64),
      rmStatus: rmStatus(68),
    }),
  ),
  INCREMENT_TOOLS_COUNTER: defineIoctl(
    229,
    layout('UVM_TEST_INCREMENT_TOOLS_COUNTER_PARAMS', 40, {
      amount: field('u64', 0),
      counter: field('u32', 8),
      processor: field('uuid', 12),
      count: field('u32', 28),
      rmStatus: rmStatus(32),
    }),
  ),
  MEM_SANITY: defineIoctl(230, plain('UVM_TEST_MEM_SANITY_PARAMS')),
  MAKE_CHANNEL_STOPS_IMMEDIATE: defineIoctl(232, plain('UVM_TEST_MAKE_CHANNEL_STOPS_IMMEDIATE_PARAMS')),
  VA_BLOCK_INJECT_ERROR: defineIoctl(
    233,
    layout('UVM_TEST_VA_BLOCK_INJECT_ERROR_PARAMS', 48, {
      lookupAddress: field('u64', 0),
      pageTableRetries: field('u32', 8),
      userPagesRetries: field('u32', 12),
      cpuChunkSizeMask: field('u64', 16),
      targetNid: field('s32', 24),
      actualNid: field('s32', 28),
      cpuErrors: field('u32', 32),
      evictionError: field('bool', 36),
      populateError: field('bool', 37),
      rmStatus: rmStatus(40),
    }),
  ),
  PEER_IDENTITY_MAPPINGS: defineIoctl(234, peers('UVM_TEST_PEER_IDENTITY_MAPPINGS_PARAMS')),
  VA_RESIDENCY_INFO: defineIoctl(
    235,
    layout('UVM_TEST_VA_RESIDENCY_INFO_PARAMS', 20856, {
      lookupAddress: field('u64', 0),
      isAsync: field('bool', 8),
      residentOn: list('uuid', 9, PROCESSORS),
      residentOnCount: field('u32', 4124),
      residentNid: field('s32', 4128),
      residentPhysicalSize: list('u32', 4132, PROCESSORS),
      residentPhysicalAddress: list('u64', 5160, PROCESSORS),
      mappedOn: list('uuid', 7216, PROCESSORS),
      mappingType: list('u32', 11328, PROCESSORS),
      mappingPhysicalAddress: list('u64', 12360, PROCESSORS),
      isEgmMapping: list('u8', 14416, PROCESSORS),
      mappedOnCount: field('u32', 14676),
      pageSize: list('u64', 14680, PROCESSORS),
      populatedOn: list('uuid', 16736, PROCESSORS),
      populatedOnCount: field('u32', 20848),
      rmStatus: rmStatus(20852),
    }),
  ),
  PMM_ASYNC_ALLOC: defineIoctl(
    236,
    layout('UVM_TEST_PMM_ASYNC_ALLOC_PARAMS', 28, {
      gpuUuid: field('uuid', 0),
      chunks: field('u32', 16),
      iterations: field('u32', 20),
      rmStatus: rmStatus(24),
    }),
  ),
  SET_PREFETCH_FILTERING: defineIoctl(
    237,
    layout('UVM_TEST_SET_PREFETCH_FILTERING_PARAMS', 24, {
      gpuUuid: field('uuid', 0),
      mode: field('u32', 16),
      rmStatus: rmStatus(20),
    }),
  ),
  PMM_SANITY: defineIoctl(
    240,
    layout('UVM_TEST_PMM_SANITY_PARAMS', 8, { mode: field('u32', 0), rmStatus: rmStatus(4) }),
  ),
  INVALIDATE_TLB: defineIoctl(
    241,
    layout('UVM_TEST_INVALIDATE_TLB_PARAMS', 48, {
      gpuUuid: field('uuid', 0),
      va: field('u64', 16),
      targetVaMode: field('u32', 24),
      pageTableLevel: field('u32', 28),
      membar: field('u32', 32),
      disableGpcInvalidate: field('bool', 36),
      rmStatus: rmStatus(40),
    }),
  ),
  VA_BLOCK: defineIoctl(242, plain('UVM_TEST_VA_BLOCK_PARAMS')),
  EVICT_CHUNK: defineIoctl(
    243,
    layout('UVM_TEST_EVICT_CHUNK_PARAMS', 64, {
      gpuUuid: field('uuid', 0),
      mode: field('u32', 16),
      address: field('u64', 24),
      evicted: field('bool', 32),
      physicalAddress: field('u64', 40),
      chunkSize: field('u64', 48),
      rmStatus: rmStatus(56),
    }),
  ),
  FLUSH_DEFERRED_WORK: defineIoctl(
    244,
    layout('UVM_TEST_FLUSH_DEFERRED_WORK_PARAMS', 8, { workType: field('u32', 0), rmStatus: rmStatus(4) }),
  ),
  NV_KTHREAD_Q: defineIoctl(245, plain('UVM_TEST_NV_KTHREAD_Q_PARAMS')),
  SET_PAGE_PREFETCH_POLICY: defineIoctl(
    246,
    layout('UVM_TEST_SET_PAGE_PREFETCH_POLICY_PARAMS', 8, { policy: field('u32', 0), rmStatus: rmStatus(4) }),
  ),
  RANGE_GROUP_TREE: defineIoctl(
    247,
    layout('UVM_TEST_RANGE_GROUP_TREE_PARAMS', 40, { rangeGroupIds: list('u64', 0, 4), rmStatus: rmStatus(32) }),
  ),
  RANGE_GROUP_RANGE_INFO: defineIoctl(
    248,
    layout('UVM_TEST_RANGE_GROUP_RANGE_INFO_PARAMS', 40, {
      lookupAddress: field('u64', 0),
      start: field('u64', 8),
      end: field('u64', 16),
      rangeGroupId: field('u64', 24),
      present: field('u32', 32),
      rmStatus: rmStatus(36),
    }),
  ),
  RANGE_GROUP_RANGE_COUNT: defineIoctl(
    249,
    layout('UVM_TEST_RANGE_GROUP_RANGE_COUNT_PARAMS', 24, {
      rangeGroupId: field('u64', 0),
      count: field('u64', 8),
      rmStatus: rmStatus(16),
    }),
  ),
  GET_PREFETCH_FAULTS_REENABLE_LAPSE: defineIoctl(
    250,
    layout('UVM_TEST_GET_PREFETCH_FAULTS_REENABLE_LAPSE_PARAMS', 8, {
      milliseconds: field('u32', 0),
      rmStatus: rmStatus(4),
    }),
  ),
  SET_PREFETCH_FAULTS_REENABLE_LAPSE: defineIoctl(
    251,
    layout('UVM_TEST_SET_PREFETCH_FAULTS_REENABLE_LAPSE_PARAMS', 8, {
      milliseconds: field('u32', 0),
      rmStatus: rmStatus(4),
    }),
  ),
  GET_KERNEL_VIRTUAL_ADDRESS: defineIoctl(
    252,
    layout('UVM_TEST_GET_KERNEL_VIRTUAL_ADDRESS_PARAMS', 16, { address: field('u64', 0), rmStatus: rmStatus(8) }),
  ),
  PMM_ALLOC_FREE_ROOT: defineIoctl(
    254,
    layout('UVM_TEST_PMM_ALLOC_FREE_ROOT_PARAMS', 24, {
      gpuUuid: field('uuid', 0),
      napMicroseconds: field('u32', 16),
      rmStatus: rmStatus(20),
    }),
  ),
  PMM_INJECT_PMA_EVICT_ERROR: defineIoctl(
    255,
    layout('UVM_TEST_PMM_INJECT_PMA_EVICT_ERROR_PARAMS', 24, {
      gpuUuid: field('uuid', 0),
      afterChunks: field('u32', 16),
      rmStatus: rmStatus(20),
    }),
  ),
  ENABLE_NVLINK_PEER_ACCESS: defineIoctl(260, peers('UVM_TEST_ENABLE_NVLINK_PEER_ACCESS_PARAMS')),
  DISABLE_NVLINK_PEER_ACCESS: defineIoctl(261, peers('UVM_TEST_DISABLE_NVLINK_PEER_ACCESS_PARAMS')),
  GET_PAGE_THRASHING_POLICY: defineIoctl(
    262,
    layout('UVM_TEST_GET_PAGE_THRASHING_POLICY_PARAMS', 32, {
      policy: field('u32', 0),
      napNs: field('u64', 8),
      pinNs: field('u64', 16),
      mapRemoteOnNativeAtomics: field('bool', 24),
      rmStatus: rmStatus(28),
    }),
  ),
  SET_PAGE_THRASHING_POLICY: defineIoctl(
    263,
    layout('UVM_TEST_SET_PAGE_THRASHING_POLICY_PARAMS', 24, {
      policy: field('u32', 0),
      pinNs: field('u64', 8),
      rmStatus: rmStatus(16),
    }),
  ),
  PMM_CHUNK_WITH_ELEVATED_PAGE: defineIoctl(269, plain('UVM_TEST_PMM_CHUNK_WITH_ELEVATED_PAGE_PARAMS')),
  GET_GPU_TIME: defineIoctl(
    270,
    layout('UVM_TEST_GET_GPU_TIME_PARAMS', 32, {
      gpuUuid: field('uuid', 0),
      ns: field('u64', 16),
      rmStatus: rmStatus(24),
    }),
  ),
  ACCESS_COUNTERS_ENABLED_BY_DEFAULT: defineIoctl(
    271,
    layout('UVM_TEST_ACCESS_COUNTERS_ENABLED_BY_DEFAULT_PARAMS', 24, {
      gpuUuid: field('uuid', 0),
      enabled: field('bool', 16),
      rmStatus: rmStatus(20),
    }),
  ),
  PMM_RELEASE_FREE_ROOT_CHUNKS: defineIoctl(
    273,
    layout('UVM_TEST_PMM_RELEASE_FREE_ROOT_CHUNKS_PARAMS', 20, { gpuUuid: field('uuid', 0), rmStatus: rmStatus(16) }),
  ),
  DRAIN_REPLAYABLE_FAULTS: defineIoctl(
    274,
    layout('UVM_TEST_DRAIN_REPLAYABLE_FAULTS_PARAMS', 32, {
      gpuUuid: field('uuid', 0),
      timeoutNs: field('u64', 16),
      rmStatus: rmStatus(24),
    }),
  ),
  PMA_GET_BATCH_SIZE: defineIoctl(
    275,
    layout('UVM_TEST_PMA_GET_BATCH_SIZE_PARAMS', 32, {
      gpuUuid: field('uuid', 0),
      bytes: field('u64', 16),
      rmStatus: rmStatus(24),
    }),
  ),
  PMM_QUERY_PMA_STATS: defineIoctl(
    276,
    layout('UVM_TEST_PMM_QUERY_PMA_STATS_PARAMS', 72, {
      gpuUuid: field('uuid', 0),
      pages2m: field('u64', 16),
      free64k: field('u64', 24),
      free2m: field('u64', 32),
      protectedPages2m: field('u64', 40),
      protectedFree64k: field('u64', 48),
      protectedFree2m: field('u64', 56),
      rmStatus: rmStatus(64),
    }),
  ),
  GET_PAGEABLE_MEM_ACCESS_TYPE: defineIoctl(
    283,
    layout('UVM_TEST_GET_PAGEABLE_MEM_ACCESS_TYPE_PARAMS', 8, { type: field('u32', 0), rmStatus: rmStatus(4) }),
  ),
  TOOLS_FLUSH_REPLAY_EVENTS: defineIoctl(
    284,
    layout('UVM_TEST_TOOLS_FLUSH_REPLAY_EVENTS_PARAMS', 20, { gpuUuid: field('uuid', 0), rmStatus: rmStatus(16) }),
  ),
  REGISTER_UNLOAD_STATE_BUFFER: defineIoctl(
    285,
    layout('UVM_TEST_REGISTER_UNLOAD_STATE_BUFFER_PARAMS', 16, {
      bufferAddress: field('u64', 0),
      rmStatus: rmStatus(8),
    }),
  ),
  RB_TREE_DIRECTED: defineIoctl(286, plain('UVM_TEST_RB_TREE_DIRECTED_PARAMS')),
  RB_TREE_RANDOM: defineIoctl(
    287,
    layout('UVM_TEST_RB_TREE_RANDOM_PARAMS', 32, {
      iterations: field('u64', 0),
      maxKey: field('u64', 8),
      nodeLimit: field('u32', 16),
      seed: field('u32', 20),
      rmStatus: rmStatus(24),
    }),
  ),
  HOST_SANITY: defineIoctl(288, plain('UVM_TEST_HOST_SANITY_PARAMS')),
  GET_USER_SPACE_END_ADDRESS: defineIoctl(
    290,
    layout('UVM_TEST_GET_USER_SPACE_END_ADDRESS_PARAMS', 16, {
      userSpaceEndAddress: field('u64', 0),
      rmStatus: rmStatus(8),
    }),
  ),
  GET_CPU_CHUNK_ALLOC_SIZES: defineIoctl(
    291,
    layout('UVM_TEST_GET_CPU_CHUNK_ALLOC_SIZES_PARAMS', 16, { sizesMask: field('u64', 0), rmStatus: rmStatus(8) }),
  ),
  CPU_CHUNK_API: defineIoctl(300, plain('UVM_TEST_CPU_CHUNK_API_PARAMS')),
  INJECT_TOOLS_EVENT_V2: defineIoctl(
    304,
    layout('UVM_TEST_INJECT_TOOLS_EVENT_V2_PARAMS', 80, {
      entry: list('u8', 0, EVENT_ENTRY_BYTES_V2),
      count: field('u32', 72),
      rmStatus: rmStatus(76),
    }),
  ),
  QUERY_ACCESS_COUNTERS: defineIoctl(
    309,
    layout('UVM_TEST_QUERY_ACCESS_COUNTERS_PARAMS', 28, {
      gpuUuid: field('uuid', 0),
      buffers: field('u8', 16),
      entries: field('u32', 20),
      rmStatus: rmStatus(24),
    }),
  ),
  VA_BLOCK_DISCARD_STATUS: defineIoctl(
    310,
    layout('UVM_TEST_VA_BLOCK_DISCARD_STATUS_PARAMS', 16, {
      lookupAddress: field('u64', 0),
      discarded: field('bool', 8),
      rmStatus: rmStatus(12),
    }),
  ),
  VA_BLOCK_DISCARD_CHECK_PMM_STATE: defineIoctl(
    311,
    layout('UVM_TEST_VA_BLOCK_DISCARD_CHECK_PMM_STATE_PARAMS', 32, {
      lookupAddress: field('u64', 0),
      gpuUuid: field('uuid', 8),
      state: field('u32', 24),
      rmStatus: rmStatus(28),
    }),
  ),
} as const;
