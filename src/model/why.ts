/**
 * Why, not only what: the observer of decisions. The model calls it only when `m.res.why` is not null, so nobody
 * asking costs one test at each decision. Every method takes plain numbers that are valid during the call alone.
 */
import type { ServiceBlockContext, VaBlock } from './uvm/va_block_types.ts';

export interface Why {
  /** A function of the driver is entered, in the driver's name; `detail` is plain data for reports. */
  enter(name: string, time: number, detail?: Readonly<Record<string, number | string | boolean>>): void;
  /** Residency of one page: the rule of the residency decision (number of the step) that matched, and its inputs. */
  residency(
    block: VaBlock,
    page: number,
    processor: number,
    accessMask: number,
    rule: number,
    closest: number,
    residency: number,
  ): void;
  /** One level of the prefetch tree for one faulted page. */
  prefetchLevel(
    block: VaBlock,
    page: number,
    level: number,
    first: number,
    outer: number,
    counter: number,
    size: number,
    taken: boolean,
  ): void;
  /** The prefetch decision for one service call: rule is 'whole block', 'tree', 'several residencies', 'disabled'. */
  prefetch(block: VaBlock, context: ServiceBlockContext, rule: string): void;
  /** The thrashing hint for one page and the step that gave it. */
  thrashing(block: VaBlock, page: number, processor: number, step: string, type: number): void;
  /** A push was ended. */
  push(
    purpose: number,
    gpu: number,
    channel: number,
    value: number,
    begin: number,
    start: number,
    finish: number,
    methods: number,
  ): void;
  /** Pages of a block were copied by the push that will end next, or skipped. */
  copy(block: VaBlock, first: number, count: number, from: number, to: number, cause: number): void;
  /** Pages of a block were mapped or unmapped on a processor. */
  map(block: VaBlock, processor: number, first: number, count: number, protection: number): void;
}
