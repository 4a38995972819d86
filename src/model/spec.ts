/**
 * A machine as data: what `profiles/*.json` holds after validation. Frozen for the length of a run.
 */

/**
 * Costs in nanoseconds of virtual time. CPU costs are charged to the thread that runs; engine costs delay the push.
 * Every one has a value and a source in the profile; there are two sets, for a traced and an untraced program.
 */
export interface Costs {
  /** Programs on the GPU: an access that hits, one whose translation misses the TLB, start and end of a kernel. */
  gpuAccessHit: number;
  /** An access through a mapping of memory that is not the GPU's own. */
  gpuAccessRemote: number;
  gpuWriteExtra: number;
  gpuAtomicExtra: number;
  kernelLaunch: number;
  /** From a failing access to its entry in the fault buffer, and from the entry to the top half. */
  faultToEntry: number;
  interruptLatency: number;
  /** From the replay's execution to the retried access. */
  replayToResume: number;
  /** Top half, wake-up of the bottom half's thread. */
  topHalf: number;
  bottomHalfWake: number;
  bottomHalfExit: number;
  /** Fetch: for a batch, and for each entry. */
  fetchBatch: number;
  fetchEntry: number;
  preprocessEntry: number;
  /** Service: for a VA space switch, a block, an entry, and a page that is serviced. */
  serviceVaSpace: number;
  serviceBlock: number;
  serviceEntry: number;
  servicePage: number;
  prefetchHint: number;
  thrashingHint: number;
  flushBuffer: number;
  flushEntry: number;
  /** Polling a tracker on the CPU: from completion to its notice. */
  trackerPoll: number;
  /** Pushes on the CPU: begin to end without methods, each method, doorbell to start. */
  pushBase: number;
  pushMethod: number;
  pushLatency: number;
  pushAcquire: number;
  /** Copy engine: first cost of a push of copies, a page of a contiguous run, a page copied by a method of its own. */
  copyBaseToGpu: number;
  copyPageToGpu: number;
  copyPageToGpuScattered: number;
  copyBaseToCpu: number;
  copyPageToCpu: number;
  copyPageToCpuScattered: number;
  copyBasePeer: number;
  copyPagePeer: number;
  /** Each run of pages in a push (a timestamp flush when traced). */
  copyRun: number;
  memsetBase: number;
  memsetPage: number;
  /** MEMOPS pushes on the GPU: base, each page-table write, each TLB invalidate, a replay. */
  memopsBase: number;
  pteWrite: number;
  tlbInvalidate: number;
  replay: number;
  /** CPU page tables: unmapping a run and each page of it, mapping a page. */
  cpuUnmapRun: number;
  cpuUnmapPage: number;
  cpuMapPage: number;
  /** CPU memory: a new chunk, zeroing or first use of a page. */
  cpuChunkAlloc: number;
  cpuZeroPage: number;
  gpuChunkAlloc: number;
  pageTableAlloc: number;
  /** A CPU fault: entry and exit of the kernel, the driver's part, the flush of tools events at its end. */
  cpuFaultEntry: number;
  cpuFaultService: number;
  cpuFaultFlush: number;
  cpuAccess: number;
  /** Extra length of a throttled CPU thread's sleep. */
  sleepOvershoot: number;
  /** ioctls: a prefetch call, each block of it and each block of its mapping pass, an advice and each block, a free. */
  migrateCall: number;
  migrateBlock: number;
  adviseCall: number;
  adviseBlock: number;
  freeCall: number;
  freeBlock: number;
  memcpyCall: number;
  memcpyPage: number;
  /** A page of an explicit copy whose host side is page-locked. */
  memcpyPinnedPage: number;
  /** Pause between two steps of a scenario: the recorder flushed and drained its queue there. */
  stepGap: number;
  /** Recording one tools event. */
  toolsEvent: number;
  /** Copy routine: an ioctl's entry and exit; pinning and unpinning a page; mapping memory for DMA on a GPU. */
  copyCall: number;
  copyPinPage: number;
  copyUnpinPage: number;
  copyDmaMap: number;
  /** A page copied by the CPU, to B or from the stage to B. */
  copyCpuPage: number;
}

export type CostName = keyof Costs;

export interface MachineSpec {
  readonly name: string;
  readonly driver: string;
  readonly architecture: 'hopper';
  readonly gpus: number;
  /** GPUs are NVLink peers of each other. */
  readonly nvlinkPeers: boolean;
  /** Entries of the replayable fault buffer. */
  readonly faultBufferEntries: number;
  /** µTLBs by GPC, and GPCs (maximum). */
  readonly utlbsPerGpc: number;
  readonly gpcs: number;
  readonly vidmemBytes: number;
  /** Usable copy engines of a GPU. */
  readonly copyEngines: number;
  /** The GPUs run with Confidential Computing; false where it is not said. */
  readonly confidentialComputing?: boolean;
}
