/**
 * Models the structures of uvm_gpu.h (driver 580.105.08), one GPU, parent and instance in one, since MIG is left out;
 * and uvm_gpu_check_ecc_error of uvm_gpu.c.
 */
import type { HwFaultBuffer } from '../gpu/fault_buffer.ts';
import type { GpuMmu } from '../gpu/mmu.ts';
import type { GpuClients } from '../gpu/sm.ts';
import type { Model } from '../state.ts';
import type { ChannelManager } from './channel.ts';
import type { IsrInfo } from './gpu_isr.ts';
import type { NonReplayableFaults } from './gpu_non_replayable_faults.ts';
import type { ReplayableFaults } from './gpu_replayable_faults.ts';
import { globalSetFatalError } from './gpu_semaphore.ts';
import type { PageTree } from './mmu.ts';
import { NV_ERR_ECC_ERROR, NV_OK } from './status.ts';

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

/**
 * Has RM told of an ECC error of this GPU (uvm_gpu_check_ecc_error)? Then it is the error of the whole driver. Left
 * out: interrupts that might mean such an error, for which the driver asks RM.
 */
export function gpuCheckEccError(m: Model, gpu: Gpu): number {
  if (m.globalStatus === NV_ERR_ECC_ERROR) return NV_ERR_ECC_ERROR;
  if (gpu.channelManager.host.eccTime > m.k.now) return NV_OK;
  globalSetFatalError(m, NV_ERR_ECC_ERROR);
  return NV_ERR_ECC_ERROR;
}
