/**
 * A history: a machine, its module parameters, buffers and steps, as plain JSON. A seed makes one (generate.ts), run.ts
 * carries it out, and what fails is printed in this form.
 */

/** Access types by the driver's numbers, as programs issue them: prefetch, read, write, weak atomic, atomic. */
export type Access = 0 | 1 | 2 | 3 | 4;

/** Buffer of an address that nobody allocated; the page is then relative to a hole between buffers. */
export const WILD = -1;

/** One thread that makes its accesses one after the other: a warp of a GPU, or a thread of the CPU (on = 0). */
export interface Program {
  on: number;
  /** MMU client of a GPU's program. */
  gpc: number;
  client: number;
  /** Start, ns after the step's. */
  at: number;
  /** Buffer, page, access. */
  accesses: [buffer: number, page: number, access: Access][];
}

/** An entry put into a fault buffer that no program waits for: stale, late, of a type nobody can service. */
export interface RawFault {
  gpu: number;
  buffer: number;
  page: number;
  access: Access;
  /** Hardware fault type. */
  type: number;
  gpc: number;
  client: number;
  /** Arrival and the delay until the entry is valid, ns. */
  at: number;
  late: number;
}

export const ADVICES = [
  'setPreferredLocation',
  'unsetPreferredLocation',
  'setAccessedBy',
  'unsetAccessedBy',
  'setReadMostly',
  'unsetReadMostly',
] as const;
export type Advice = (typeof ADVICES)[number];

export const GROUP_OPERATIONS = ['create', 'assign', 'remove', 'prevent', 'allow', 'destroy'] as const;
export type GroupOperation = (typeof GROUP_OPERATIONS)[number];

export type HistoryStep =
  /** One thread of a processor; `pages`, or pages from `first` to `outer` with a stride. */
  | { do: 'access'; on: number; kind: 'read' | 'write' | 'atomic'; buffer: number; pages: number[] }
  | {
      do: 'stride';
      on: number;
      kind: 'read' | 'write' | 'atomic';
      buffer: number;
      first: number;
      outer: number;
      /** Bytes. */
      stride: number;
    }
  | { do: 'prefetch'; to: number; buffer: number; first: number; outer: number }
  | { do: 'advise'; advice: Advice; processor: number; buffer: number; first: number; outer: number }
  | { do: 'contend'; gpu: number; buffer: number; page: number; gpuWrites: number; cpuWrites: number; pause: number }
  | { do: 'memcpy'; from: number; to: number; first: number; outer: number }
  | { do: 'free'; buffer: number }
  /** The same addresses are allocated again. */
  | { do: 'allocate'; buffer: number }
  /** Many programs at once, entries without a program, and flushes of the fault buffer from a thread. */
  | { do: 'burst'; programs: Program[]; raw: RawFault[]; flushAt: number[] }
  | { do: 'nonReplayable'; gpu: number; faults: [buffer: number, page: number, access: Access][] }
  | { do: 'group'; operation: GroupOperation; group: number; buffer: number; first: number; outer: number }
  /** Linux drops CPU entries on its own. */
  | { do: 'drop'; buffer: number; first: number; outer: number }
  | { do: 'idle'; time: number };

export interface HistoryBuffer {
  /** Distance from the end of the buffer before it, in pages. */
  gap: number;
  pages: number;
}

export interface History {
  seed: number;
  gpus: number;
  nvlinkPeers: boolean;
  /** Not together with peers; false where it is not said. */
  confidentialComputing?: boolean;
  faultBufferEntries: number;
  /** Vidmem of each GPU, pages. */
  vidmemPages: number;
  traced: boolean;
  /** Somebody asks for decisions while it runs. */
  observed: boolean;
  /** The driver's own assertions are on. */
  verify: boolean;
  /** Percent of the profile's value, by cost. */
  costs: Record<string, number>;
  parameters: Record<string, number>;
  buffers: HistoryBuffer[];
  steps: HistoryStep[];
}
