/**
 * The ioctls of /dev/nvidia-uvm over the model that set up a VA space: the handshake, GPUs, channels. Statuses and the
 * order of checks are those of uvm.c, uvm_va_space.c and uvm_va_space_mm.c (driver 580.105.08).
 */
import {
  FILE_UNINITIALIZED,
  FILE_VA_SPACE,
  uvmFileInitialize,
  uvmFileInitializeMm,
} from '../../model/copy_routine/ioctl.ts';
import { INVALID_ID } from '../../model/uvm/processors.ts';
import {
  NV_ERR_GPU_UUID_NOT_FOUND,
  NV_ERR_IN_USE,
  NV_ERR_INVALID_ARGUMENT,
  NV_ERR_INVALID_CHANNEL,
  NV_ERR_INVALID_DEVICE,
  NV_ERR_INVALID_STATE,
  NV_ERR_NOT_SUPPORTED,
  NV_ERR_PAGE_TABLE_NOT_AVAIL,
  NV_OK,
  NV_WARN_NOTHING_TO_DO,
} from '../../model/uvm/status.ts';
import { IOCTL, UVM_INIT_FLAGS_DISABLE_HMM, UVM_INIT_FLAGS_MULTI_PROCESS_SHARING_MODE } from '../abi/ioctls.ts';
import { type Call, type Route, route, spaceOf } from './calls.ts';
import {
  MM_ALIVE,
  MM_RELEASED,
  MM_UNINITIALIZED,
  type ModelDriver,
  NotModelledError,
  processorOfUuid,
  type SpaceState,
} from './driver.ts';

const INIT_FLAGS = UVM_INIT_FLAGS_DISABLE_HMM | UVM_INIT_FLAGS_MULTI_PROCESS_SHARING_MODE;

/** uvm_va_space_mm_enabled: memory belongs to one address space, which an MM file keeps. */
export function spaceHasMm(driver: ModelDriver, state: SpaceState): boolean {
  const shared = (state.flags & UVM_INIT_FLAGS_MULTI_PROCESS_SHARING_MODE) !== 0n;
  return !shared && driver.m.params.uvm_enable_va_space_mm !== 0;
}

/** uvm_api_initialize */
function initialize(call: Call, flags: bigint): number {
  const { driver, process, file } = call;
  if (file.uvm.type === FILE_VA_SPACE) {
    return driver.space?.flags === flags ? NV_OK : NV_ERR_INVALID_ARGUMENT;
  }
  if (file.uvm.type !== FILE_UNINITIALIZED) return NV_ERR_INVALID_ARGUMENT;
  if ((flags & ~INIT_FLAGS) !== 0n) return NV_ERR_INVALID_ARGUMENT;
  const space = driver.m.vaSpaces[0];
  if (driver.space !== null) throw new NotModelledError('UVM_INITIALIZE of a second VA space: a model has one');
  if (space.mm !== process.mm) {
    throw new NotModelledError("UVM_INITIALIZE by another process than the model's first: the VA space belongs to it");
  }
  driver.space = {
    space,
    flags,
    mm: process.mm,
    mmState: MM_UNINITIALIZED,
    registeredGpus: 0,
    gpuVaSpaces: 0,
    channels: [],
  };
  uvmFileInitialize(file.uvm, space);
  return NV_OK;
}

/** uvm_api_mm_initialize */
function mmInitialize(call: Call, uvmFd: number): number {
  const { driver, process, file } = call;
  const uvm = process.files[uvmFd] ?? null;
  const state = driver.space;
  if (uvm === null || uvm.device !== 'uvm' || uvm.uvm.type !== FILE_VA_SPACE || state === null) {
    return NV_ERR_INVALID_ARGUMENT;
  }
  if (!spaceHasMm(driver, state)) return NV_WARN_NOTHING_TO_DO;
  if (file.uvm.type !== FILE_UNINITIALIZED) return NV_ERR_IN_USE;
  if (state.mmState === MM_ALIVE) return NV_ERR_INVALID_STATE;
  if (state.mmState === MM_RELEASED) return NV_ERR_PAGE_TABLE_NOT_AVAIL;
  state.mmState = MM_ALIVE;
  uvmFileInitializeMm(file.uvm);
  file.holds = uvm;
  uvm.references++;
  return NV_OK;
}

/** uvm_va_space_register_gpu: every GPU of the machine is in the model's VA space already; this makes it known. */
function registerGpu(call: Call, uuid: Uint8Array): number {
  const { driver } = call;
  const state = spaceOf(call);
  const id = processorOfUuid(driver, uuid, -1);
  if (id <= 0) return NV_ERR_GPU_UUID_NOT_FOUND;
  if ((state.registeredGpus & (1 << id)) !== 0) return NV_ERR_INVALID_DEVICE;
  if (state.mmState === MM_RELEASED) return NV_ERR_PAGE_TABLE_NOT_AVAIL;
  state.registeredGpus |= 1 << id;
  return NV_OK;
}

/** The GPU with this uuid in the mask; the CPU is none. */
function gpuOf(call: Call, uuid: Uint8Array, gpus: number): number {
  const id = processorOfUuid(call.driver, uuid, gpus);
  return id > 0 ? id : INVALID_ID;
}

/** uvm_va_space_register_gpu_va_space */
function registerGpuVaSpace(call: Call, uuid: Uint8Array): number {
  const state = spaceOf(call);
  const id = gpuOf(call, uuid, state.registeredGpus);
  if (id === INVALID_ID) return NV_ERR_INVALID_DEVICE;
  if (spaceHasMm(call.driver, state) && state.mmState !== MM_ALIVE) return NV_ERR_PAGE_TABLE_NOT_AVAIL;
  if ((state.gpuVaSpaces & (1 << id)) !== 0) return NV_ERR_INVALID_DEVICE;
  state.gpuVaSpaces |= 1 << id;
  return NV_OK;
}

function registerChannel(call: Call, uuid: Uint8Array, hClient: number, hChannel: number): number {
  const state = spaceOf(call);
  if (gpuOf(call, uuid, state.gpuVaSpaces) === INVALID_ID) return NV_ERR_INVALID_DEVICE;
  state.channels.push({ hClient, hChannel });
  return NV_OK;
}

function unregisterChannel(call: Call, hClient: number, hChannel: number): number {
  const { channels } = spaceOf(call);
  const at = channels.findIndex((channel) => channel.hClient === hClient && channel.hChannel === hChannel);
  if (at < 0) return NV_ERR_INVALID_CHANNEL;
  channels.splice(at, 1);
  return NV_OK;
}

/** System-wide atomics cannot be switched on GPUs with scoped atomics, which all since Volta are. */
function systemWideAtomics(call: Call, uuid: Uint8Array): number {
  return gpuOf(call, uuid, spaceOf(call).registeredGpus) === INVALID_ID ? NV_ERR_INVALID_DEVICE : NV_ERR_NOT_SUPPORTED;
}

export const SPACE_ROUTES: readonly Route[] = [
  route(IOCTL.INITIALIZE, (call, p) => initialize(call, p.flags), false),
  route(IOCTL.MM_INITIALIZE, (call, p) => mmInitialize(call, p.uvmFd), false),
  route(IOCTL.REGISTER_GPU, (call, p) => {
    const status = registerGpu(call, p.gpuUuid);
    if (status !== NV_OK) return status;
    // The GPUs' memory is no NUMA node.
    p.numaEnabled = false;
    p.numaNodeId = -1;
    return NV_OK;
  }),
  route(IOCTL.REGISTER_GPU_VASPACE, (call, p) => registerGpuVaSpace(call, p.gpuUuid)),
  route(IOCTL.REGISTER_CHANNEL, (call, p) => registerChannel(call, p.gpuUuid, p.hClient, p.hChannel)),
  route(IOCTL.UNREGISTER_CHANNEL, (call, p) => unregisterChannel(call, p.hClient, p.hChannel)),
  route(IOCTL.PAGEABLE_MEM_ACCESS, (_call, p) => {
    // Neither HMM nor ATS.
    p.pageableMemAccess = false;
    return NV_OK;
  }),
  route(IOCTL.PAGEABLE_MEM_ACCESS_ON_GPU, (call, p) => {
    if (gpuOf(call, p.gpuUuid, spaceOf(call).registeredGpus) === INVALID_ID) return NV_ERR_INVALID_DEVICE;
    p.pageableMemAccess = false;
    return NV_OK;
  }),
  route(IOCTL.ENABLE_SYSTEM_WIDE_ATOMICS, (call, p) => systemWideAtomics(call, p.gpuUuid)),
  route(IOCTL.DISABLE_SYSTEM_WIDE_ATOMICS, (call, p) => systemWideAtomics(call, p.gpuUuid)),
];
