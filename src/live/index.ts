/**
 * The door `uvmlab/linux`: the driver and GPUs of this machine. Importing it loads nothing that only Linux has; a call
 * that needs it throws UnavailableError elsewhere.
 */
export * from '../device/attach.ts';
export { CUDA_ADVICE, CUDA_CPU, type Cuda, CudaError, startCuda } from '../device/linux/cuda.ts';
export { UnavailableError } from '../device/linux/ffi.ts';
export { createLinuxDevice, type LinuxDevice } from '../device/linux/linux_device.ts';
export * from '../device/linux/managed_limit.ts';
export * from './experiment/linux_program.ts';
export * from './experiment/live_session.ts';
export * from './memory/best_effort.ts';
export * from './memory/copy_out.ts';
export * from './memory/copy_routine_client.ts';
export * from './record/launch.ts';
export * from './record/recorder.ts';
export { attachToProcess, tryAttach } from './target.ts';
