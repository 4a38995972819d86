/** A machine with Confidential Computing for the tests of the copy routine, and what may happen to its buffers. */
import type { CopyRecord, CopyStage } from '../../src/model/copy_routine/types.ts';
import { contentsWrite } from '../../src/model/gpu/contents.ts';
import type { Model } from '../../src/model/state.ts';
import { CHANNEL_TYPE_GPU_TO_CPU } from '../../src/model/uvm/channel.ts';
import { channelInjectError } from '../../src/model/uvm/channel_inject.ts';
import { confComputingOf, confComputingResources } from '../../src/model/uvm/conf_computing.ts';
import type { DmaBuffer } from '../../src/model/uvm/conf_computing_types.ts';
import { policySetReadDuplication } from '../../src/model/uvm/policy.ts';
import { ACCESS_READ, ACCESS_WRITE } from '../../src/model/uvm/va_block_types.ts';
import { type CopyMachine, cpu, createCopyMachine, gpu } from './copy_machine.ts';
import { BASE, type FaultMachineOptions } from './fault_machine.ts';

/** What the engine takes for a push of one page, and the CPU to decrypt one. */
export const PUSH = 5100;
export const DECRYPT = 40;

/** Two GPUs unless the options say otherwise. */
export function createSecureCopyMachine(options: FaultMachineOptions = {}): CopyMachine {
  const costs = { copyPageToCpuScattered: PUSH - 5000, copyCpuPage: DECRYPT };
  return createCopyMachine({ gpus: 2, confidentialComputing: true, costs, ...options });
}

/** The staging buffers of a GPU, by its index. */
export function buffersOf(m: Model, index = 0): DmaBuffer[] {
  return confComputingOf(m.gpus[index].channelManager).dma.buffers;
}

/** Staging buffers that somebody holds, besides the one of the VA space; -1 when one is free twice. */
export function takenBuffers(m: Model): number {
  let n = 0;
  for (const { channelManager } of m.gpus) {
    const { buffers, free } = confComputingOf(channelManager).dma;
    if (new Set(free).size !== free.length) return -1;
    n += buffers.length - free.length - 1;
  }
  return n;
}

/** Calls `act` at each stage of every copy. */
export function atStages(b: CopyMachine, act: (stage: CopyStage, record: CopyRecord | undefined) => void): void {
  const none = () => {};
  b.m.res.why = {
    enter: none,
    residency: none,
    prefetchLevel: none,
    prefetch: none,
    thrashing: none,
    push: none,
    copy: none,
    map: none,
    copyStage: (token, stage) => act(stage, b.space.copy.records[token - 1]),
  };
}

/** Changes a bit of the nth page from now on that a GPU encrypts: of its cipher text or its tag. */
export function tamper(m: Model, nth: number, what: 'cipher' | 'tag' = 'cipher'): void {
  let left = nth;
  confComputingResources(m).bounceWritten = (_m, index, buffer, page, toGpu) => {
    if (toGpu || --left !== 0) return;
    (buffersOf(m, index)[buffer][what].get(page) as Uint8Array)[5] ^= 2;
  };
}

/** The next push of copies to the CPU fails on each channel of a GPU. */
export function breakChannels(m: Model, index: number): void {
  const { pools, poolForType } = m.gpus[index].channelManager;
  for (const channel of pools[poolForType[CHANNEL_TYPE_GPU_TO_CPU]].channels) {
    channelInjectError(m, index, channel.index, 1);
  }
}

/** Pages of three blocks: on both GPUs, on the CPU, duplicated, and nowhere. */
export function mixedPages(b: CopyMachine): void {
  policySetReadDuplication(b.m, b.space, BASE + 1024, BASE + 1536, true);
  for (const page of [0, 1, 2, 3, 600, 1024, 1025]) cpu(b, BASE + page, 1000 + page);
  gpu(b, 0, [BASE + 1, ACCESS_WRITE, 5], [BASE + 600, ACCESS_READ], [BASE + 1024, ACCESS_READ]);
  gpu(b, 1, [BASE + 2, ACCESS_WRITE, 8], [BASE + 700, ACCESS_WRITE, 9]);
  cpu(b, BASE + 3, 77);
  contentsWrite(b.m.contents as never, 0, BASE + 3, 1023, 0xfeedf00d);
}
