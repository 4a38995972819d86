/**
 * State of the thrashing module (uvm_perf_thrashing.c, driver 580.105.08): block_thrashing_info_t,
 * page_thrashing_info_t.
 */

/** Hints (uvm_perf_thrashing_hint_type_t). */
export const THRASHING_HINT_NONE = 0;
export const THRASHING_HINT_PIN = 1;
export const THRASHING_HINT_THROTTLE = 2;

/** Reused answer of perfThrashingGetHint. */
export interface ThrashingHint {
  type: number;
  /** PIN: where the page is pinned. */
  residency: number;
  /** PIN: processors that thrash on the page. */
  processors: number;
  /** THROTTLE: end of the throttling period, ns. */
  endTime: number;
}

/** Pages of one block, one slot for each page index. Times lose their low 6 bits. */
export interface PageThrashing {
  lastTime: Float64Array;
  throttlingEnd: Float64Array;
  numEvents: Uint8Array;
  /** Bit 0: migration events, bit 1: revocation events. */
  eventKinds: Uint8Array;
  pinned: Uint8Array;
  throttlingCount: Uint8Array;
  processors: Uint32Array;
  throttledProcessors: Uint32Array;
  /** Processor id or INVALID_ID. */
  pinnedResidency: Int8Array;
  doNotThrottle: Int8Array;
}

export interface BlockThrashing {
  pages: PageThrashing | null;
  numThrashingPages: number;
  /** Masks of pages, offsets 0 (thrashing) and 16 (pinned). */
  w: Uint32Array;
  /** Only ever incremented, as in the driver. */
  pinnedCount: number;
  lastProcessor: number;
  lastTime: number;
  lastThrashingTime: number;
  resetCount: number;
}
