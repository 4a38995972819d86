/** The public face of the model room: it needs no Node and runs in a browser. */
export type { ModelOptions, Snapshot } from './model.ts';
export { createModel, hashState, modelHash, restoreSnapshot, takeSnapshot } from './model.ts';
export type { Costs, MachineSpec } from './spec.ts';
export type { Model, Seams } from './state.ts';
export type { FatalEntry } from './uvm/channel.ts';
export type { ChannelChoice } from './uvm/channel_inject.ts';
export {
  channelInjectBlock,
  channelInjectError,
  channelInjectStuckSemaphore,
  gpuInjectEccError,
  InjectError,
  rmInjectBusy,
  rmInjectKeyRotation,
} from './uvm/channel_inject.ts';
export type { AeadCipher } from './uvm/conf_computing_types.ts';
export { parseModuleParameters } from './uvm/params.ts';
export type { SpinReport } from './uvm/spin_loop.ts';
export { EndlessWaitError } from './uvm/spin_loop.ts';
export { vaBlockSelectResidency } from './uvm/va_block_residency.ts';
export type { Why } from './why.ts';
