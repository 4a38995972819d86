/**
 * A recorded stream of faults as dense columns: what a replay reads of a recording. CPU faults and GPU batches are in
 * the order in which they are delivered; the entries of a batch are in the order in which they entered the fault
 * buffer.
 */
export const STREAM_CPU_FAULT = 0;
export const STREAM_GPU_FAULT = 1;

export interface FaultStream {
  count: number;
  kind: Uint8Array;
  /** Scenario step, or -1 where the recording names none. */
  step: Int32Array;
  /** Absolute VA page. */
  page: Float64Array;
  /** CPU: 1 for a write. GPU: the driver's access type. */
  access: Uint8Array;
  /** Hardware fault type. */
  type: Uint8Array;
  gpu: Uint8Array;
  /** Consecutive entries of one batch of one GPU have one number. */
  batch: Int32Array;
  gpc: Uint8Array;
  client: Uint8Array;
  /** CPU nanoseconds, relative to the recording's first event. */
  time: Float64Array;
}

export function createFaultStream(capacity: number): FaultStream {
  return {
    count: 0,
    kind: new Uint8Array(capacity),
    step: new Int32Array(capacity),
    page: new Float64Array(capacity),
    access: new Uint8Array(capacity),
    type: new Uint8Array(capacity),
    gpu: new Uint8Array(capacity),
    batch: new Int32Array(capacity),
    gpc: new Uint8Array(capacity),
    client: new Uint8Array(capacity),
    time: new Float64Array(capacity),
  };
}
