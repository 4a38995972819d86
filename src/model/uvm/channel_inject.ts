/**
 * Faults of the hardware behind the channels of uvm_channel.c (driver 580.105.08), and whims of its resource manager,
 * put in by hand: the driver has code for them, and no recording shows them. An injection is plain data of the GPU's
 * host (gpu/host.ts) or of its channels, so a snapshot holds it; it concerns pushes ended later. Left out: what RM does
 * to the other channels of the TSG, and its recovery.
 *
 * What becomes of it is the driver's affair: uvm_channel_check_errors finds an error of a channel where something waits
 * for it, uvm_gpu_check_ecc_error one of the memory after a copy to the CPU; ChannelManager.fatalEntry and
 * ChannelManager.spinReports keep what the driver would print.
 */
import type { HostChannel } from '../gpu/host.ts';
import type { Model } from '../state.ts';
import { CHANNEL_TYPE_NAMES, type Channel, type ChannelManager } from './channel.ts';
import type { ConfComputing } from './conf_computing_types.ts';

/** An injection that cannot be: the message names the argument, its value and the choices. */
export class InjectError extends Error {
  override name = 'InjectError';
}

/** A channel by its index on the GPU, or the first one of a type (CHANNEL_TYPE_NAMES), which pushes fill up first. */
export type ChannelChoice = number | string;

function managerOf(m: Model, gpu: number): ChannelManager {
  const found = m.gpus[gpu];
  if (found === undefined) throw new InjectError(`gpu is ${gpu}, and GPUs are numbered 0 to ${m.gpus.length - 1}`);
  return found.channelManager;
}

function hostChannelOf(m: Model, gpu: number, choice: ChannelChoice): [Channel, HostChannel] {
  const manager = managerOf(m, gpu);
  const type = CHANNEL_TYPE_NAMES.indexOf(String(choice));
  const channel =
    typeof choice === 'number' ? manager.channels[choice] : manager.pools[manager.poolForType[type]]?.channels[0];
  if (channel === undefined) {
    const choices = `0 to ${manager.channels.length - 1}, or one of ${CHANNEL_TYPE_NAMES.join(', ')}`;
    throw new InjectError(`channel is ${choice}, and channels of GPU ${gpu} are ${choices}`);
  }
  return [channel, manager.host.channels[channel.index]];
}

function checkCount(nth: number, name = 'nth'): void {
  if (!Number.isSafeInteger(nth) || nth < 1)
    throw new InjectError(`${name} is ${nth}, and must be an integer of at least 1`);
}

/**
 * The `nth` push that ends on the channel from now on fails: the channel stops, with its error notifier set when that
 * push would have finished (an RC error). That push and those behind it never complete, and do nothing.
 */
export function channelInjectError(m: Model, gpu: number, channel: ChannelChoice, nth: number): void {
  checkCount(nth);
  const [{ trackingSem }, host] = hostChannelOf(m, gpu, channel);
  host.failsAt = trackingSem.queuedValue + nth;
}

/** From the `nth` push on that ends on the channel the tracking semaphore stands still, though pushes run. */
export function channelInjectStuckSemaphore(m: Model, gpu: number, channel: ChannelChoice, nth: number): void {
  checkCount(nth);
  const [{ trackingSem }, host] = hostChannelOf(m, gpu, channel);
  host.stuckFrom = trackingSem.queuedValue + nth;
}

/** What ends on the channel from now on starts at `until` (ns) at the earliest: a busy GPU; Infinity: for ever. */
export function channelInjectBlock(m: Model, gpu: number, channel: ChannelChoice, until: number): void {
  if (!(until >= 0)) throw new InjectError(`until is ${until}, and must be a time in ns, or Infinity`);
  hostChannelOf(m, gpu, channel)[1].blockedUntil = until;
}

/** The `nth` push that copies or sets memory on a GPU from now on meets an ECC error, and RM's notifier tells of it. */
export function gpuInjectEccError(m: Model, gpu: number, nth: number): void {
  checkCount(nth);
  managerOf(m, gpu).host.eccCountdown = nth;
}

function confComputingOf(m: Model, gpu: number): ConfComputing {
  const { confComputing } = managerOf(m, gpu);
  if (confComputing === null) throw new InjectError(`gpu is ${gpu}, and has no Confidential Computing`);
  return confComputing;
}

/** The next `calls` calls that rotate a key or IVs of a GPU find the resource manager busy. */
export function rmInjectBusy(m: Model, gpu: number, calls: number): void {
  checkCount(calls, 'calls');
  confComputingOf(m, gpu).rmBusyCalls = calls;
}

/**
 * The resource manager's notifier tells the channels of a pool, that of `channel`, that their key is to be rotated. Not
 * heeded while the driver's tests are on (uvm_enable_builtin_tests), nor of SEC2; LCIC's key is WLC's.
 */
export function rmInjectKeyRotation(m: Model, gpu: number, channel: ChannelChoice): void {
  confComputingOf(m, gpu);
  const { keyRotation } = managerOf(m, gpu).pools[hostChannelOf(m, gpu, channel)[0].pool];
  if (keyRotation === null)
    throw new InjectError(`channel is ${channel}, and LCIC channels have the key of WLC channels`);
  keyRotation.pending = true;
}
