/**
 * Models the structures of uvm_gpu.h (driver 580.105.08): one GPU, parent and instance in one, since MIG is left out.
 */
import type { HwFaultBuffer } from '../gpu/fault_buffer.ts';
import type { GpuMmu } from '../gpu/mmu.ts';
import type { GpuClients } from '../gpu/sm.ts';
import type { ChannelManager } from './channel.ts';
import type { IsrInfo } from './gpu_isr.ts';
import type { NonReplayableFaults } from './gpu_non_replayable_faults.ts';
import type { ReplayableFaults } from './gpu_replayable_faults.ts';
import type { PageTree } from './mmu.ts';

/** Where a channel's faults belong: an instance pointer and the VA space behind it. */
export interface InstancePointer {
  /** 4 KiB units, with the aperture (0 vidmem, 2 sysmem). */
  address: number;
  aperture: number;
  /** Index in Model.vaSpaces, or -1 once the channel is gone. */
  vaSpace: number;
}

export interface Gpu {
  /** Index in Model.gpus; the processor id is index + 1. */
  index: number;
  id: number;
  /** Silicon. */
  faultBuffer: HwFaultBuffer;
  mmu: GpuMmu;
  clients: GpuClients;
  /** Driver. */
  channelManager: ChannelManager;
  isr: IsrInfo;
  replayable: ReplayableFaults;
  nonReplayable: NonReplayableFaults;
  /** instance_ptr_table */
  instancePointers: InstancePointer[];
  /** Page directory entries taken by short blocks (mmu.ts). */
  pageTree: PageTree;
  /** Bytes of vidmem taken by block chunks (uvm_pmm_gpu.c, allocation without eviction). */
  vidmemUsed: number;
}
