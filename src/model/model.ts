/**
 * The executable driver as a whole: creating it, taking a snapshot, going on from one, and a hash of its state.
 *
 * Handlers, queue functions and callbacks are registered in one fixed order, because state refers to them by number.
 */
import { assert } from '../base/assert.ts';
import { copyArmedInit } from './copy_routine/armed.ts';
import { copyQueueInit, copyRecordRegister, createCopyRoutine } from './copy_routine/record.ts';
import { createContents } from './gpu/contents.ts';
import { createHwFaultBuffer } from './gpu/fault_buffer.ts';
import { hostInit } from './gpu/host.ts';
import { createMmu } from './gpu/mmu.ts';
import { createClients } from './gpu/sm.ts';
import { createKernel, registerHandler } from './kernel/clock.ts';
import { createThreads, threadsAllBlocked } from './kernel/thread.ts';
import type { Costs, MachineSpec } from './spec.ts';
import type { Model, Resources } from './state.ts';
import { createChannelManager } from './uvm/channel.ts';
import { createConfComputingChannelManager } from './uvm/channel_conf_computing.ts';
import { createConfComputingResources } from './uvm/channel_conf_computing_launch.ts';
import { confComputingSetup } from './uvm/channel_conf_computing_setup.ts';
import type { AeadCipher } from './uvm/conf_computing_types.ts';
import type { Gpu } from './uvm/gpu.ts';
import { createIsrInfo, isrInit, parentGpuInitIsr } from './uvm/gpu_isr.ts';
import { createNonReplayableFaults } from './uvm/gpu_non_replayable_faults.ts';
import { createReplayableFaults } from './uvm/gpu_replayable_faults.ts';
import type { ModuleParameters } from './uvm/params.ts';
import { createThrashingSpace } from './uvm/perf_thrashing_page.ts';
import { THRASHING_HINT_NONE } from './uvm/perf_thrashing_types.ts';
import { thrashingUnpinPages } from './uvm/perf_thrashing_unpin.ts';
import { INVALID_ID } from './uvm/processors.ts';
import { NV_OK } from './uvm/status.ts';
import { createTools, toolsInit } from './uvm/tools.ts';
import { vaBlockSelectResidency } from './uvm/va_block_residency.ts';
import { vaSpaceCreate } from './uvm/va_space.ts';
import type { Why } from './why.ts';

export interface ModelOptions {
  /** Events are recorded at a traced program's costs. */
  traced?: boolean;
  /** Keep the contents of pages. */
  contents?: boolean;
  /** Dear checks after each operation. */
  verify?: boolean;
  /** What encrypts pages, pushes and semaphores with Confidential Computing; needed there with contents. */
  aead?: AeadCipher;
  why?: Why | null;
  /** Value of every channel's tracking semaphore before the first push. */
  firstTrackingValue?: number;
}

/** Instance pointer of the one channel of the model's program, in units of 4 KiB. */
const FIRST_INSTANCE = 0x1000;

function createResources(spec: MachineSpec, options: ModelOptions): Resources {
  return {
    handlers: [],
    kthreadFunctions: [],
    pushCallbacks: [],
    threads: { generators: [], kind: -1 },
    why: options.why ?? null,
    pushWatch: null,
    verify: options.verify ?? false,
    seams: {
      selectResidency: vaBlockSelectResidency,
      serviceFinishHook: null,
      staleFaultSkipped: null,
      faultCancelled: null,
      pushEnded: null,
    },
    confComputing: spec.confidentialComputing ? createConfComputingResources(options.aead ?? null) : null,
    accessReplayed: null,
  };
}

function createGpu(m: Model, index: number, options: ModelOptions): Gpu {
  const createManager = m.spec.confidentialComputing ? createConfComputingChannelManager : createChannelManager;
  return {
    index,
    id: index + 1,
    faultBuffer: createHwFaultBuffer(m.spec.faultBufferEntries),
    mmu: createMmu(),
    clients: createClients(),
    channelManager: createManager(index, {
      gpus: m.spec.gpus,
      copyEngines: m.spec.copyEngines,
      numGpfifoEntries: m.params.uvm_channel_num_gpfifo_entries,
      firstTrackingValue: options.firstTrackingValue ?? 0,
    }),
    isr: createIsrInfo(),
    replayable: createReplayableFaults(m),
    nonReplayable: createNonReplayableFaults(m),
    instancePointers: [{ address: FIRST_INSTANCE + index, aperture: 0, vaSpace: 0 }],
    pageTree: new Map(),
    vidmemUsed: 0,
  };
}

/** Everything that has functions in it; run when a model is created and again when one is restored. */
function registerAll(m: Model): void {
  createThreads(m);
  hostInit(m);
  toolsInit(m);
  isrInit(m);
  copyRecordRegister(m);
  copyArmedInit(m);
}

/** A machine with the driver loaded, one VA space, all GPUs registered in it, and nothing allocated. */
export function createModel(
  spec: MachineSpec,
  params: ModuleParameters,
  cost: Costs,
  options: ModelOptions = {},
): Model {
  const m: Model = {
    spec,
    params,
    cost,
    res: createResources(spec, options),
    k: createKernel(),
    gpus: [],
    vaSpaces: [],
    tools: createTools(options.traced ?? false),
    contents: options.contents ? createContents(spec.gpus + 1) : null,
    copyRoutine: createCopyRoutine(),
    globalStatus: NV_OK,
    thrashingHint: { type: THRASHING_HINT_NONE, residency: INVALID_ID, processors: 0, endTime: 0 },
  };
  assert(
    !spec.confidentialComputing || m.contents === null || options.aead !== undefined,
    'contents need a cipher here',
  );
  const unpinKind = registerHandler(m, thrashingUnpinPages);
  for (let i = 0; i < spec.gpus; i++) m.gpus.push(createGpu(m, i, options));
  registerAll(m);
  for (const gpu of m.gpus) parentGpuInitIsr(m, gpu);
  if (spec.confidentialComputing) for (const gpu of m.gpus) confComputingSetup(m, gpu.index);
  copyQueueInit(m);
  vaSpaceCreate(m, createThrashingSpace(unpinKind));
  return m;
}

/** A copy of a model's state that nothing changes any more. */
export interface Snapshot {
  readonly state: Omit<Model, 'res' | 'spec' | 'params' | 'cost'>;
}

/** Copies the state; every thread must stand at its outermost wait. */
export function takeSnapshot(m: Model): Snapshot {
  assert(threadsAllBlocked(m), 'a snapshot is taken while all threads are blocked');
  const { k, gpus, vaSpaces, tools, contents, copyRoutine, globalStatus, thrashingHint } = m;
  return { state: structuredClone({ k, gpus, vaSpaces, tools, contents, copyRoutine, globalStatus, thrashingHint }) };
}

/** A new model that goes on from a snapshot of one with the same spec, parameters, costs and options. */
export function restoreSnapshot(
  snapshot: Snapshot,
  spec: MachineSpec,
  params: ModuleParameters,
  cost: Costs,
  options: ModelOptions = {},
): Model {
  const m = createModel(spec, params, cost, options);
  Object.assign(m, structuredClone(snapshot.state));
  copyArmedInit(m);
  return m;
}

const FNV_PRIME = 0x01000193;

/** Words that turn a double into two 32-bit integers. */
const scratch = new Float64Array(1);
const scratchWords = new Uint32Array(scratch.buffer);

/** Hash of plain data, for comparing states: FNV-1a over a walk in a fixed order, with cycles cut. */
export function hashState(root: unknown): string {
  let h1 = 0x811c9dc5;
  let h2 = 0x9747b28c;
  const seen = new Map<object, number>();
  const word = (v: number): void => {
    h1 = Math.imul(h1 ^ v, FNV_PRIME);
    h2 = Math.imul(h2 ^ (v + 0x9e3779b9), 0x85ebca6b) ^ (h2 >>> 15);
  };
  const walk = (value: unknown): void => {
    if (typeof value === 'number') {
      scratch[0] = value;
      word(scratchWords[0]);
      word(scratchWords[1]);
    } else if (typeof value === 'string') {
      for (let i = 0; i < value.length; i++) word(value.charCodeAt(i));
    } else if (typeof value === 'boolean') word(value ? 1 : 2);
    else if (value === null || value === undefined) word(3);
    else if (typeof value === 'object') walkObject(value);
    else throw new TypeError(`state holds a ${typeof value}`);
  };
  const walkObject = (value: object): void => {
    if (ArrayBuffer.isView(value)) {
      // By value: whether two views are one object is no part of the state.
      const { buffer, byteOffset, byteLength } = value;
      const whole = byteOffset % 4 === 0 && byteLength % 4 === 0;
      const items = whole
        ? new Uint32Array(buffer, byteOffset, byteLength / 4)
        : new Uint8Array(buffer, byteOffset, byteLength);
      word(items.length);
      for (let i = 0; i < items.length; i++) word(items[i]);
      return;
    }
    const known = seen.get(value);
    word(known ?? 4);
    if (known !== undefined) return;
    seen.set(value, seen.size + 16);
    if (value instanceof Map) {
      for (const [key, entry] of value) {
        walk(key);
        walk(entry);
      }
    } else if (Array.isArray(value)) {
      word(value.length);
      for (const entry of value) walk(entry);
    } else {
      for (const key of Object.keys(value).sort()) {
        walk(key);
        walk((value as Record<string, unknown>)[key]);
      }
    }
  };
  walk(root);
  const hex = (v: number): string => (v >>> 0).toString(16).padStart(8, '0');
  return hex(h1) + hex(h2);
}

/** Hash of everything a snapshot holds. */
export function modelHash(m: Model): string {
  const { k, gpus, vaSpaces, tools, contents, copyRoutine, globalStatus } = m;
  return hashState({ k, gpus, vaSpaces, tools, contents, copyRoutine, globalStatus });
}
