/** What the steps of a run share: its plain state, errors that name the step, and what its accesses read and store. */
import type { UvmFile } from '../model/copy_routine/ioctl.ts';
import { contentsRead, contentsWrite } from '../model/gpu/contents.ts';
import type { Model } from '../model/state.ts';
import { CPU_ID } from '../model/uvm/processors.ts';
import { pageIsResident } from '../model/uvm/va_block.ts';
import type { VaBlock } from '../model/uvm/va_block_types.ts';
import type { VaSpace } from '../model/uvm/va_range_types.ts';
import type { Scenario } from './scenario.ts';

/** A step that the runner cannot carry out; the message is for the user and names the step. */
export class StepError extends Error {
  override name = 'StepError';
}

/** Plain state of a run; see the head of this file. */
export interface RunState {
  step: number;
  /** Touches of the current access step that are done. */
  touch: number;
  /** Whether the current step has begun, and its start, ns. */
  begun: boolean;
  stepStart: number;
  /** Start of each step that has begun, ns. */
  begins: number[];
  /** Wall time of each finished step, microseconds. */
  wall: number[];
  /**
   * Last value stored in each page's first word, by page, NaN where an armed or asynchronous copy stores it at a time
   * of its own; null without contents.
   */
  expected: Map<number, number> | null;
  /** Reads that did not see the last write. */
  mismatches: number;
  /** Token of the last copy that gave one, for copyStatus; 0 before. */
  copyToken: number;
  /** Why the run ended early. */
  error: string | null;
}

export interface Run {
  readonly scenario: Scenario;
  m: Model;
  space: VaSpace;
  state: RunState;
  /** Client slot of the single-thread kernels, by GPU index. */
  slots: number[];
  /** The open file that the copy routine's ioctls go to. */
  file: UvmFile;
  /** What the write of a contending GPU stores that is parked now. */
  carried: { page: number; value: number } | null;
}

/** Ends the run with an error that names the step. */
export function fail(run: Run, message: string): never {
  throw new StepError(`steps[${run.state.step}]: ${message}`);
}

/** Compares what a read saw with the last value stored in the page's first word. */
export function checkRead(run: Run, processor: number, page: number): void {
  const { state, m } = run;
  if (state.expected === null || m.contents === null) return;
  const last = state.expected.get(page) ?? 0;
  if (!Number.isNaN(last) && contentsRead(m.contents, processor, page, 0) !== last) state.mismatches++;
}

/** The word that an atomic adds to: the last one stored, or what memory holds where a copy may be under way. */
export function lastStored(run: Run, processor: number, page: number): number {
  const last = run.state.expected?.get(page) ?? 0;
  return Number.isNaN(last) && run.m.contents !== null ? contentsRead(run.m.contents, processor, page, 0) : last;
}

/** Stores a word at the start of a page, and remembers it as what the next read has to see. */
export function store(run: Run, processor: number, page: number, value: number): void {
  const { state, m } = run;
  if (state.expected === null || m.contents === null) return;
  contentsWrite(m.contents, processor, page, 0, value);
  state.expected.set(page, value);
}

/** Which processor's memory a CPU access reaches: its own, or over a coherent link a GPU's. */
export function cpuTarget(block: VaBlock, page: number): number {
  if (pageIsResident(block, CPU_ID, page)) return CPU_ID;
  for (let id = 1; id <= block.gpus.length; id++) if (pageIsResident(block, id, page)) return id;
  return CPU_ID;
}
