/**
 * The observer behind `tour`: which functions of the driver were entered and left, in which thread and how deep, what
 * the registers of the first GPU's fault buffer and its interrupt counts said each time, the call stack at the
 * residency decision, and where the watched page was.
 */
import type { Model } from '../model/state.ts';
import { channelGet } from '../model/uvm/channel.ts';
import { pageResidentProcessors } from '../model/uvm/va_block.ts';
import type { VaBlock } from '../model/uvm/va_block_types.ts';
import { processorName, vaBlockFind } from '../model/uvm/va_space.ts';
import type { Why } from '../model/why.ts';
import { callParent, isRoot } from './explain_calls.ts';
import { processorWords, protectionNow, pushInfo } from './explain_facts.ts';
import type { PushInfo } from './explain_items.ts';

/** The first GPU's fault buffer and interrupt, as they are between two steps of the driver. */
export interface Registers {
  /** In the GPU. */
  get: number;
  put: number;
  interruptEnabled: boolean;
  /** The driver's copies of the two. */
  cachedGet: number;
  cachedPut: number;
  disableIntrRefCount: number;
  /** Taken by a top half for its bottom half, or by a thread. */
  serviceLocked: boolean;
  /** Top halves and bottom halves so far. */
  interruptCount: number;
  bottomHalfCount: number;
}

/** A function that is entered or left; the registers are those before it does anything, or when it is done. */
export interface Moment {
  function: string;
  edge: 'enter' | 'leave';
  time: number;
  /** Kernel thread that it runs in; null outside of threads, as in an interrupt. */
  thread: string | null;
  depth: number;
  detail: Record<string, number | string | boolean>;
  registers: Registers;
}

export interface Frame {
  function: string;
  time: number;
}

/** Where a page is; `words` are the first 32 bits of it in each memory, null where no frame of it was ever filled. */
export interface PageState {
  time: number;
  resident: string[];
  mapped: Record<string, string>;
  words: Record<string, number | null>;
}

/** A channel as the driver and the memory have it. */
export interface ChannelSample {
  time: number;
  cpuPut: number;
  gpuGet: number;
  queuedValue: number;
  completedValue: number;
  /** The 32 bits that the engine wrote. */
  payload: number;
}

/**
 * A push that was ended, its entry in the GPFIFO, and the channel right after. The push is of the first GPU, whose
 * channel ids are indices.
 */
export interface Pushed {
  push: PushInfo;
  gpfifoEntry: number;
  gpfifoEntries: number;
  after: ChannelSample;
  /** The first sample in which the driver had seen a value as high as this push's; null when none had. */
  seen: { time: number; completedValue: number; function: string } | null;
}

export function readRegisters(m: Model): Registers {
  const [{ faultBuffer, replayable, isr }] = m.gpus;
  return {
    get: faultBuffer.get,
    put: faultBuffer.put,
    interruptEnabled: faultBuffer.interruptEnabled,
    cachedGet: replayable.cachedGet,
    cachedPut: replayable.cachedPut,
    disableIntrRefCount: isr.replayable.disableIntrRefCount,
    serviceLocked: isr.replayable.serviceLock.locked,
    interruptCount: isr.interruptCount,
    bottomHalfCount: isr.replayable.bottomHalfCount,
  };
}

/** `page` is absolute; the memories are those of a model that keeps contents. */
export function readPage(m: Model, page: number): PageState {
  const block = vaBlockFind(m.vaSpaces[0], page);
  const state: PageState = { time: m.k.now, resident: [], mapped: {}, words: {} };
  for (let id = 0; id <= m.spec.gpus; id++) {
    const frame = m.contents?.pages[id].get(page);
    state.words[processorName(id)] = frame === undefined ? null : (frame?.[0] ?? 0);
    if (block === null) continue;
    const protection = protectionNow(block, id, page - block.startPage);
    if (protection !== 'none') state.mapped[processorName(id)] = protection;
  }
  if (block !== null) state.resident = processorWords(pageResidentProcessors(block, page - block.startPage));
  return state;
}

export function readChannel(m: Model, id: number): ChannelSample {
  const channel = channelGet(m, id);
  const { trackingSem } = channel;
  return {
    time: m.k.now,
    cpuPut: channel.cpuPut,
    gpuGet: channel.gpuGet,
    queuedValue: trackingSem.queuedValue,
    completedValue: trackingSem.completedValue,
    payload: m.gpus[channel.gpu].channelManager.host.semaphorePages[trackingSem.page][trackingSem.index],
  };
}

type Detail = Readonly<Record<string, number | string | boolean>>;

export class TourRecorder implements Why {
  /** Calls while the driver was set up. */
  readonly setup: { function: string; depth: number; detail: Detail }[] = [];
  /** While `watch` is on. */
  readonly moments: Moment[] = [];
  readonly pushed: Pushed[] = [];
  /** Open calls, outermost first, when the residency of the watched page was decided. */
  stack: Frame[] = [];
  /** When the page's residency had been updated and nobody mapped it yet. */
  unmapped: PageState | null = null;
  /** The watched page, absolute. */
  page = -1;
  #m: Model | null = null;
  #watching = false;
  /** By thread: the open calls. */
  #open = new Map<number, Frame[]>();

  /** Call once the model exists. */
  attach(m: Model, page: number): void {
    this.#m = m;
    this.page = page;
    this.#open.clear();
  }

  /** Begins and ends the recording. */
  watch(watching: boolean): void {
    this.#watching = watching;
  }

  #push(thread: number, frame: Frame): Frame[] {
    const open = this.#open.get(thread) ?? [];
    this.#open.set(thread, open);
    const names = open.map((one) => one.function);
    // What a queue's thread runs is called by its main loop.
    open.length = isRoot(frame.function) && names[0] === '_main_loop' ? 1 : callParent(names, frame.function);
    if (frame.function === '_main_loop') open.length = 0;
    open.push(frame);
    return open;
  }

  enter(name: string, time: number, detail: Detail = {}): void {
    const m = this.#m;
    const open = this.#push(m === null ? -1 : m.k.currentThread, { function: name, time });
    if (m === null) this.setup.push({ function: name, depth: open.length - 1, detail });
    else if (this.#watching) this.#moment(m, name, 'enter', time, open.length - 1, detail);
    if (m !== null && this.#watching && name === 'block_service_finish_map') this.unmapped ??= readPage(m, this.page);
  }

  leave(name: string, time: number): void {
    const m = this.#m;
    if (m === null) return;
    const open = this.#open.get(m.k.currentThread) ?? [];
    const at = open.findLastIndex((frame) => frame.function === name);
    if (at < 0) return;
    open.length = at;
    if (this.#watching) this.#moment(m, name, 'leave', time, at, {});
  }

  #moment(m: Model, name: string, edge: 'enter' | 'leave', time: number, depth: number, detail: Detail): void {
    const thread = m.k.threads[m.k.currentThread]?.name ?? null;
    const registers = readRegisters(m);
    this.moments.push({ function: name, edge, time, thread, depth, detail: { ...detail }, registers });
    this.#look(m, name);
  }

  /** Which values the driver has seen by now. */
  #look(m: Model, name: string): void {
    for (const one of this.pushed) {
      const { completedValue } = channelGet(m, one.push.channel).trackingSem;
      if (one.seen === null && completedValue >= one.push.trackingValue) {
        one.seen = { time: m.k.now, completedValue, function: name };
      }
    }
  }

  residency(block: VaBlock, page: number): void {
    const m = this.#m;
    if (m === null || !this.#watching || block.startPage + page !== this.page || this.stack.length > 0) return;
    this.stack = [
      ...(this.#open.get(m.k.currentThread) ?? []),
      { function: 'uvm_va_block_select_residency', time: m.k.now },
    ];
  }

  push(purpose: number, gpu: number, channel: number, value: number): void {
    const m = this.#m;
    if (m === null || !this.#watching) return;
    const { cpuPut, numGpfifoEntries } = channelGet(m, channel);
    this.pushed.push({
      push: pushInfo(m, purpose, gpu, channel, value),
      gpfifoEntry: (cpuPut + numGpfifoEntries - 1) % numGpfifoEntries,
      gpfifoEntries: numGpfifoEntries,
      after: readChannel(m, channel),
      seen: null,
    });
  }

  prefetchLevel(): void {}
  prefetch(): void {}
  thrashing(): void {}
  copy(): void {}
  map(): void {}
}
