import { describe, expect, it } from 'vitest';
import { documentedLines, expectDocumented } from '../../../test/support/documented_layout.ts';
import { COPY_IOCTL_NUMBERS } from '../../model/copy_routine/ioctl.ts';
import { CPU_UUID, copyIoctls, IOCTL, type Ioctl } from './ioctls.ts';
import { decode, encode } from './layout.ts';
import { TEST_IOCTL } from './test_ioctls.ts';

/** Name, number, device and parameters; offsets and sizes as a C compiler gives them for the public headers. */
const DOCUMENTED = `
INITIALIZE 0x30000001 uvm flags u64@0 rmStatus st@8 =16
MM_INITIALIZE 75 uvm uvmFd s32@0 rmStatus st@4 =8
REGISTER_GPU 37 uvm gpuUuid uuid@0 numaEnabled bool@16 numaNodeId s32@20 rmCtrlFd s32@24 hClient u32@28
    hSmcPartRef  u32@32 rmStatus st@36 =40
UNREGISTER_GPU 38 uvm gpuUuid uuid@0 rmStatus st@16 =20
REGISTER_GPU_VASPACE 25 uvm gpuUuid uuid@0 rmCtrlFd s32@16 hClient u32@20 hVaSpace u32@24 rmStatus st@28 =32
UNREGISTER_GPU_VASPACE 26 uvm gpuUuid uuid@0 rmStatus st@16 =20
REGISTER_CHANNEL 27 uvm gpuUuid uuid@0 rmCtrlFd s32@16 hClient u32@20 hChannel u32@24 base u64@32 length
    u64@40 rmStatus  st@48 =56
UNREGISTER_CHANNEL 28 uvm gpuUuid uuid@0 hClient u32@16 hChannel u32@20 rmStatus st@24 =28
ENABLE_PEER_ACCESS 29 uvm gpuUuidA uuid@0 gpuUuidB uuid@16 rmStatus st@32 =36
DISABLE_PEER_ACCESS 30 uvm gpuUuidA uuid@0 gpuUuidB uuid@16 rmStatus st@32 =36
PAGEABLE_MEM_ACCESS 39 uvm pageableMemAccess bool@0 rmStatus st@4 =8
PAGEABLE_MEM_ACCESS_ON_GPU 70 uvm gpuUuid uuid@0 pageableMemAccess bool@16 rmStatus st@20 =24
ENABLE_SYSTEM_WIDE_ATOMICS 54 uvm gpuUuid uuid@0 rmStatus st@16 =20
DISABLE_SYSTEM_WIDE_ATOMICS 55 uvm gpuUuid uuid@0 rmStatus st@16 =20
CLEAN_UP_ZOMBIE_RESOURCES 69 uvm rmStatus st@0 =4
CLEAR_ALL_ACCESS_COUNTERS 79 uvm rmStatus st@0 =4
SET_PREFERRED_LOCATION 42 uvm requestedBase u64@0 length u64@8 preferredLocation uuid@16 preferredCpuNumaNode
    s32@32 rmStatus  st@36 =40
UNSET_PREFERRED_LOCATION 43 uvm requestedBase u64@0 length u64@8 rmStatus st@16 =24
SET_ACCESSED_BY 46 uvm requestedBase u64@0 length u64@8 uuid uuid@16 rmStatus st@32 =40
UNSET_ACCESSED_BY 47 uvm requestedBase u64@0 length u64@8 uuid uuid@16 rmStatus st@32 =40
ENABLE_READ_DUPLICATION 44 uvm requestedBase u64@0 length u64@8 rmStatus st@16 =24
DISABLE_READ_DUPLICATION 45 uvm requestedBase u64@0 length u64@8 rmStatus st@16 =24
MIGRATE 51 uvm base u64@0 length u64@8 destinationUuid uuid@16 flags u32@32 semaphoreAddress u64@40
    semaphorePayload u32@48 cpuNumaNode s32@52 userSpaceStart u64@56 userSpaceLength u64@64 rmStatus  st@72
    =80
MIGRATE_RANGE_GROUP 53 uvm rangeGroupId u64@0 destinationUuid uuid@8 rmStatus st@24 =32
DISCARD 80 uvm base u64@0 length u64@8 flags u64@16 rmStatus st@24 =32
CREATE_RANGE_GROUP 23 uvm rangeGroupId u64@0 rmStatus st@8 =16
DESTROY_RANGE_GROUP 24 uvm rangeGroupId u64@0 rmStatus st@8 =16
SET_RANGE_GROUP 31 uvm rangeGroupId u64@0 requestedBase u64@8 length u64@16 rmStatus st@24 =32
PREVENT_MIGRATION_RANGE_GROUPS 40 uvm rangeGroupIds u64[32]@0 numGroupIds u64@256 rmStatus st@264 =272
ALLOW_MIGRATION_RANGE_GROUPS 41 uvm rangeGroupIds u64[32]@0 numGroupIds u64@256 rmStatus st@264 =272
POPULATE_PAGEABLE 71 uvm base u64@0 length u64@8 flags u32@16 rmStatus st@20 =24
VALIDATE_VA_RANGE 72 uvm base u64@0 length u64@8 rmStatus st@16 =24
CREATE_EXTERNAL_RANGE 73 uvm base u64@0 length u64@8 rmStatus st@16 =24
MAP_EXTERNAL_ALLOCATION 33 uvm base u64@0 length u64@8 offset u64@16 gpuAttributesCount u64@9240 rmCtrlFd
    s32@9248 hClient u32@9252  hMemory u32@9256 rmStatus st@9260 =9264
MAP_EXTERNAL_SPARSE 74 uvm requestedBase u64@0 length u64@8 uuid uuid@16 rmStatus st@32 =40
UNMAP_EXTERNAL 66 uvm requestedBase u64@0 length u64@8 uuid uuid@16 rmStatus st@32 =40
FREE 34 uvm base u64@0 length u64@8 rmStatus st@16 =24
MAP_DYNAMIC_PARALLELISM_REGION 65 uvm requestedBase u64@0 length u64@8 uuid uuid@16 rmStatus st@32 =40
ALLOC_SEMAPHORE_POOL 68 uvm base u64@0 length u64@8 gpuAttributesCount u64@9232 rmStatus st@9240 =9248
ALLOC_DEVICE_P2P 78 uvm base u64@0 length u64@8 offset u64@16 gpuUuid uuid@24 rmCtrlFd s32@40 hClient u32@44
    hMemory u32@48  rmStatus st@52 =56
TOOLS_READ_PROCESS_MEMORY 62 uvm buffer u64@0 size u64@8 targetVa u64@16 bytesRead u64@24 rmStatus st@32 =40
TOOLS_WRITE_PROCESS_MEMORY 63 uvm buffer u64@0 size u64@8 targetVa u64@16 bytesWritten u64@24 rmStatus st@32
    =40
TOOLS_GET_PROCESSOR_UUID_TABLE 64 uvm tablePtr u64@0 rmStatus st@8 =16
TOOLS_GET_PROCESSOR_UUID_TABLE_V2 77 uvm tablePtr u64@0 rmStatus st@8 =16
TOOLS_FLUSH_EVENTS 67 uvm rmStatus st@0 =4
TOOLS_INIT_EVENT_TRACKER 56 tools queueBuffer u64@0 queueBufferSize u64@8 controlBuffer u64@16 processor
    uuid@24 allProcessors u32@40  uvmFd u32@44 rmStatus st@48 =56
TOOLS_INIT_EVENT_TRACKER_V2 76 tools queueBuffer u64@0 queueBufferSize u64@8 controlBuffer u64@16 processor
    uuid@24 allProcessors u32@40  uvmFd u32@44 rmStatus st@48 =56
TOOLS_SET_NOTIFICATION_THRESHOLD 57 tools notificationThreshold u32@0 rmStatus st@4 =8
TOOLS_EVENT_QUEUE_ENABLE_EVENTS 58 tools eventTypeFlags u64@0 rmStatus st@8 =16
TOOLS_EVENT_QUEUE_DISABLE_EVENTS 59 tools eventTypeFlags u64@0 rmStatus st@8 =16
TOOLS_ENABLE_COUNTERS 60 tools counterTypeFlags u64@0 rmStatus st@8 =16
TOOLS_DISABLE_COUNTERS 61 tools counterTypeFlags u64@0 rmStatus st@8 =16
`;

const DOCUMENTED_TESTS = `
GET_GPU_REF_COUNT 200 uvm gpuUuid uuid@0 count u64@16 rmStatus st@24 =32
RNG_SANITY 201 uvm rmStatus st@0 =4
RANGE_TREE_DIRECTED 202 uvm rmStatus st@0 =4
VA_RANGE_INFO 204 uvm lookupAddress u64@0 start u64@8 end u64@16 readDuplication u32@24 preferredLocation
    uuid@28  preferredCpuNid s32@44 accessedBy uuid[257]@48 accessedByCount u32@4160 type u32@4164 vmaStart
    u64@4168 vmaEnd u64@4176 isZombie bool@4184 ownedByCaller bool@4185 subtype u32@4188 rmStatus  st@4192
    =4200
RM_MEM_SANITY 205 uvm rmStatus st@0 =4
GPU_SEMAPHORE_SANITY 206 uvm rmStatus st@0 =4
PEER_REF_COUNT 207 uvm gpuUuidA uuid@0 gpuUuidB uuid@16 rmStatus st@32 count u64@40 =48
VA_RANGE_SPLIT 208 uvm splitAddress u64@0 rmStatus st@8 =16
VA_RANGE_INJECT_SPLIT_ERROR 209 uvm lookupAddress u64@0 rmStatus st@8 =16
PAGE_TREE 210 uvm rmStatus st@0 =4
CHANGE_PTE_MAPPING 211 uvm uuid uuid@0 va u64@16 mapping u32@24 rmStatus st@28 =32
TRACKER_SANITY 212 uvm rmStatus st@0 =4
PUSH_SANITY 213 uvm skipTimestampTest bool@0 rmStatus st@4 =8
CHANNEL_SANITY 214 uvm rmStatus st@0 =4
CHANNEL_STRESS 215 uvm mode u32@0 iterations u32@4 streams u32@8 keyRotationOperation u32@12 seed u32@16
    verbose u32@20  rmStatus st@24 =28
CE_SANITY 216 uvm skipTimestampTest bool@0 rmStatus st@4 =8
VA_BLOCK_INFO 217 uvm lookupAddress u64@0 start u64@8 end u64@16 rmStatus st@24 =32
LOCK_SANITY 218 uvm rmStatus st@0 =4
PERF_UTILS_SANITY 219 uvm rmStatus st@0 =4
KVMALLOC 220 uvm rmStatus st@0 =4
PMM_QUERY 221 uvm gpuUuid uuid@0 key u64@16 value u64@24 rmStatus st@32 =40
PMM_CHECK_LEAK 222 uvm gpuUuid uuid@0 chunkSize u64@16 limit s64@24 allocated u64@32 rmStatus st@40 =48
PERF_EVENTS_SANITY 223 uvm rmStatus st@0 =4
PERF_MODULE_SANITY 224 uvm address u64@0 size u32@8 rmStatus st@12 =16
RANGE_ALLOCATOR_SANITY 225 uvm verbose u32@0 seed u32@4 iterations u32@8 rmStatus st@12 =16
FAULT_BUFFER_FLUSH 227 uvm iterations u64@0 rmStatus st@8 =16
INJECT_TOOLS_EVENT 228 uvm entry u8[64]@0 count u32@64 rmStatus st@68 =72
INCREMENT_TOOLS_COUNTER 229 uvm amount u64@0 counter u32@8 processor uuid@12 count u32@28 rmStatus st@32 =40
MEM_SANITY 230 uvm rmStatus st@0 =4
MAKE_CHANNEL_STOPS_IMMEDIATE 232 uvm rmStatus st@0 =4
VA_BLOCK_INJECT_ERROR 233 uvm lookupAddress u64@0 pageTableRetries u32@8 userPagesRetries u32@12
    cpuChunkSizeMask u64@16 targetNid  s32@24 actualNid s32@28 cpuErrors u32@32 evictionError bool@36
    populateError bool@37 rmStatus st@40  =48
PEER_IDENTITY_MAPPINGS 234 uvm gpuUuidA uuid@0 gpuUuidB uuid@16 rmStatus st@32 =36
VA_RESIDENCY_INFO 235 uvm lookupAddress u64@0 isAsync bool@8 residentOn uuid[257]@9 residentOnCount u32@4124
    residentNid  s32@4128 residentPhysicalSize u32[257]@4132 residentPhysicalAddress u64[257]@5160 mappedOn
    uuid[257]@7216 mappingType u32[257]@11328 mappingPhysicalAddress u64[257]@12360 isEgmMapping
    u8[257]@14416 mappedOnCount u32@14676 pageSize u64[257]@14680 populatedOn uuid[257]@16736
    populatedOnCount u32@20848 rmStatus st@20852 =20856
PMM_ASYNC_ALLOC 236 uvm gpuUuid uuid@0 chunks u32@16 iterations u32@20 rmStatus st@24 =28
SET_PREFETCH_FILTERING 237 uvm gpuUuid uuid@0 mode u32@16 rmStatus st@20 =24
PMM_SANITY 240 uvm mode u32@0 rmStatus st@4 =8
INVALIDATE_TLB 241 uvm gpuUuid uuid@0 va u64@16 targetVaMode u32@24 pageTableLevel u32@28 membar u32@32
    disableGpcInvalidate bool@36 rmStatus st@40 =48
VA_BLOCK 242 uvm rmStatus st@0 =4
EVICT_CHUNK 243 uvm gpuUuid uuid@0 mode u32@16 address u64@24 evicted bool@32 physicalAddress u64@40 chunkSize
    u64@48  rmStatus st@56 =64
FLUSH_DEFERRED_WORK 244 uvm workType u32@0 rmStatus st@4 =8
NV_KTHREAD_Q 245 uvm rmStatus st@0 =4
SET_PAGE_PREFETCH_POLICY 246 uvm policy u32@0 rmStatus st@4 =8
RANGE_GROUP_TREE 247 uvm rangeGroupIds u64[4]@0 rmStatus st@32 =40
RANGE_GROUP_RANGE_INFO 248 uvm lookupAddress u64@0 start u64@8 end u64@16 rangeGroupId u64@24 present u32@32
    rmStatus st@36 =40
RANGE_GROUP_RANGE_COUNT 249 uvm rangeGroupId u64@0 count u64@8 rmStatus st@16 =24
GET_PREFETCH_FAULTS_REENABLE_LAPSE 250 uvm milliseconds u32@0 rmStatus st@4 =8
SET_PREFETCH_FAULTS_REENABLE_LAPSE 251 uvm milliseconds u32@0 rmStatus st@4 =8
GET_KERNEL_VIRTUAL_ADDRESS 252 uvm address u64@0 rmStatus st@8 =16
PMM_ALLOC_FREE_ROOT 254 uvm gpuUuid uuid@0 napMicroseconds u32@16 rmStatus st@20 =24
PMM_INJECT_PMA_EVICT_ERROR 255 uvm gpuUuid uuid@0 afterChunks u32@16 rmStatus st@20 =24
ENABLE_NVLINK_PEER_ACCESS 260 uvm gpuUuidA uuid@0 gpuUuidB uuid@16 rmStatus st@32 =36
DISABLE_NVLINK_PEER_ACCESS 261 uvm gpuUuidA uuid@0 gpuUuidB uuid@16 rmStatus st@32 =36
GET_PAGE_THRASHING_POLICY 262 uvm policy u32@0 napNs u64@8 pinNs u64@16 mapRemoteOnNativeAtomics bool@24
    rmStatus st@28 =32
SET_PAGE_THRASHING_POLICY 263 uvm policy u32@0 pinNs u64@8 rmStatus st@16 =24
PMM_CHUNK_WITH_ELEVATED_PAGE 269 uvm rmStatus st@0 =4
GET_GPU_TIME 270 uvm gpuUuid uuid@0 ns u64@16 rmStatus st@24 =32
ACCESS_COUNTERS_ENABLED_BY_DEFAULT 271 uvm gpuUuid uuid@0 enabled bool@16 rmStatus st@20 =24
PMM_RELEASE_FREE_ROOT_CHUNKS 273 uvm gpuUuid uuid@0 rmStatus st@16 =20
DRAIN_REPLAYABLE_FAULTS 274 uvm gpuUuid uuid@0 timeoutNs u64@16 rmStatus st@24 =32
PMA_GET_BATCH_SIZE 275 uvm gpuUuid uuid@0 bytes u64@16 rmStatus st@24 =32
PMM_QUERY_PMA_STATS 276 uvm gpuUuid uuid@0 pages2m u64@16 free64k u64@24 free2m u64@32 protectedPages2m u64@40
    protectedFree64k  u64@48 protectedFree2m u64@56 rmStatus st@64 =72
GET_PAGEABLE_MEM_ACCESS_TYPE 283 uvm type u32@0 rmStatus st@4 =8
TOOLS_FLUSH_REPLAY_EVENTS 284 uvm gpuUuid uuid@0 rmStatus st@16 =20
REGISTER_UNLOAD_STATE_BUFFER 285 uvm bufferAddress u64@0 rmStatus st@8 =16
RB_TREE_DIRECTED 286 uvm rmStatus st@0 =4
RB_TREE_RANDOM 287 uvm iterations u64@0 maxKey u64@8 nodeLimit u32@16 seed u32@20 rmStatus st@24 =32
HOST_SANITY 288 uvm rmStatus st@0 =4
GET_USER_SPACE_END_ADDRESS 290 uvm userSpaceEndAddress u64@0 rmStatus st@8 =16
GET_CPU_CHUNK_ALLOC_SIZES 291 uvm sizesMask u64@0 rmStatus st@8 =16
CPU_CHUNK_API 300 uvm rmStatus st@0 =4
INJECT_TOOLS_EVENT_V2 304 uvm entry u8[72]@0 count u32@72 rmStatus st@76 =80
QUERY_ACCESS_COUNTERS 309 uvm gpuUuid uuid@0 buffers u8@16 entries u32@20 rmStatus st@24 =28
VA_BLOCK_DISCARD_STATUS 310 uvm lookupAddress u64@0 discarded bool@8 rmStatus st@12 =16
VA_BLOCK_DISCARD_CHECK_PMM_STATE 311 uvm lookupAddress u64@0 gpuUuid uuid@8 state u32@24 rmStatus st@28 =32
`;

/** Structures in lists have no place in a line of text: they have tests of their own below. */
const NESTED = ['MAP_EXTERNAL_ALLOCATION', 'ALLOC_SEMAPHORE_POOL'];

function check(table: string, ioctls: Readonly<Record<string, Ioctl>>, prefix: string): void {
  const lines = documentedLines(table);
  it('has every ioctl of the table and no other', () => {
    expect(lines.map((line) => line.name).sort()).toEqual(Object.keys(ioctls).sort());
    const numbers = Object.values(ioctls).map((call) => call.number);
    expect(new Set(numbers).size).toBe(numbers.length);
  });
  it.each(lines)('$name has its number, device and layout', ({ name, words, rest }) => {
    const call = ioctls[name];
    expect(call.name).toBe(prefix + name);
    expect(call.number).toBe(Number(words[0]));
    expect(call.device).toBe(words[1]);
    if (NESTED.includes(name)) expect(call.params.size).toBe(Number(/=(\d+)$/.exec(rest)?.[1]));
    else expectDocumented(call.params, rest);
  });
}

describe('ioctls', () => {
  check(DOCUMENTED, IOCTL, 'UVM_');
});

describe('test ioctls', () => {
  check(DOCUMENTED_TESTS, TEST_IOCTL, 'UVM_TEST_');
});

describe('attributes of each GPU in a list', () => {
  const attributes = {
    gpuUuid: Uint8Array.from({ length: 16 }, (_, i) => 0xf0 + i),
    gpuMappingType: 1,
    gpuCachingType: 2,
    gpuFormatType: 3,
    gpuElementBits: 4,
    gpuCompressionType: 5,
  };
  const bytes = [...attributes.gpuUuid, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0];

  it.each([
    [IOCTL.MAP_EXTERNAL_ALLOCATION, 24, 9240],
    [IOCTL.ALLOC_SEMAPHORE_POOL, 16, 9232],
  ] as const)('%o: 36 bytes each, the last before the count', (call, first, countAt) => {
    const list = Array.from({ length: 256 }, (_, i) => (i === 1 || i === 255 ? attributes : {}));
    const raw = encode(call.params as never, { perGpuAttributes: list, gpuAttributesCount: 256, base: 7 } as never);
    const expected = new Uint8Array(call.params.size);
    expected.set(bytes, first + 36);
    expected.set(bytes, first + 255 * 36);
    expected.set([0, 1], countAt);
    expected.set([7], 0);
    expect(raw).toEqual(expected);
    expect(first + 256 * 36).toBe(countAt);
    const back = decode(call.params as never, raw) as { perGpuAttributes: unknown[] };
    expect(back.perGpuAttributes[255]).toEqual(attributes);
  });

  it('scalars around the list lie where the header has them', () => {
    const raw = encode(IOCTL.MAP_EXTERNAL_ALLOCATION.params, {
      length: 0x11,
      offset: 0x22,
      rmCtrlFd: -2,
      hClient: 0x33,
      hMemory: 0x44,
      rmStatus: 0x55,
    });
    const expected = new Uint8Array(9264);
    for (const [at, value] of [
      [8, 0x11],
      [16, 0x22],
      [9252, 0x33],
      [9256, 0x44],
      [9260, 0x55],
    ]) {
      expected[at] = value;
    }
    expected.set([0xfe, 0xff, 0xff, 0xff], 9248);
    expect(raw).toEqual(expected);
    const pool = encode(IOCTL.ALLOC_SEMAPHORE_POOL.params, { length: 0x11, rmStatus: 0x55 });
    expect([pool[8], pool[9240], pool.filter((byte) => byte !== 0).length]).toEqual([0x11, 0x55, 2]);
  });
});

describe('the copy routine', () => {
  const lines = documentedLines(`
SET_COPY_FROM_ADDRESS 3001 uvm address u64@0 length u64@8 flags u32@16 rmStatus st@20 =24
SET_NEXT_COPY_ADDRESS 3002 uvm address u64@0 flags u32@8 rmStatus st@12 bytesCopied u64@16 token u64@24
    residentOn u32@32 channel u32@36 trackingSemaphoreValue u64@40 =48
COPY_STATUS 3003 uvm token u64@0 flags u32@8 rmStatus st@12 state u32@16 copyStatus u32@20 bytesCopied u64@24
    trackingSemaphoreValue u64@32 =40
`);
  it.each(lines)('$name has its number and layout', ({ name, words, rest }) => {
    const call = copyIoctls()[name as 'COPY_STATUS'];
    expect(call.number).toBe(Number(words[0]));
    expectDocumented(call.params, rest);
  });

  it('takes other numbers', () => {
    const calls = copyIoctls({ ...COPY_IOCTL_NUMBERS, copyStatus: 999 });
    expect([calls.SET_COPY_FROM_ADDRESS.number, calls.COPY_STATUS.number]).toEqual([3001, 999]);
  });
});

it('the uuid of the CPU is the constant of the driver', () => {
  expect([...CPU_UUID].map((byte) => byte.toString(16).padStart(2, '0')).join('')).toBe(
    'a65e0f4ed7d47ba25047412c142a7773',
  );
});
