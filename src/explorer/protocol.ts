/**
 * Questions to a backend as messages, and their answers: what lies between a page and its worker, and between a server
 * and the worker that holds its traces. Typed arrays move without being copied.
 */
import type { TraceBackend } from './api.ts';
import type { Comparable } from './compare_traces.ts';

export interface Question {
  id: number;
  method: string;
  args: unknown[];
}
export type Answer =
  | { id: number; ok: true; value: unknown }
  | { id: number; ok: false; error: string }
  /** On the way: finished and all steps of a run. */
  | { id: number; progress: [done: number, steps: number] };

/** All that a trace is asked: by a page, and by a comparison with a trace of another place. */
export type Answers = TraceBackend & Comparable;

/** The questions, with the number of their arguments. */
export const METHODS = {
  traces: 0,
  tile: 5,
  row: 2,
  find: 2,
  space: 3,
  block: 4,
  walk: 2,
  compare: 2,
  compareTraits: 1,
  compareDigest: 2,
  compareList: 3,
} as const satisfies Record<keyof Answers, number>;

/** The buffers of an answer that can be handed over: those of typed arrays that are all of theirs. */
export function transferable(value: unknown): ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>();
  if (typeof value !== 'object' || value === null) return [];
  for (const field of Object.values(value)) {
    if (!ArrayBuffer.isView(field) || !(field.buffer instanceof ArrayBuffer)) continue;
    if (field.byteLength > 0 && field.byteLength === field.buffer.byteLength) buffers.add(field.buffer);
  }
  return [...buffers];
}

/** One question to a backend; an error becomes an answer. */
export async function answer(
  backend: Readonly<Record<string, unknown>>,
  { id, method, args }: Question,
): Promise<Answer> {
  const known = Object.hasOwn(backend, method) ? backend[method] : undefined;
  if (typeof known !== 'function') return { id, ok: false, error: `no question ${method}` };
  try {
    return { id, ok: true, value: await known(...args) };
  } catch (error) {
    return { id, ok: false, error: error instanceof Error ? error.message : String(error) };
  }
}

/** Where messages come and go: a worker, or the inside of one. */
export interface Port {
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
}

export interface Client extends Answers {
  /** A question that is none of those above. */
  ask(method: string, args: unknown[], onProgress?: (done: number, steps: number) => void): Promise<unknown>;
  /** Call with each message that comes back. */
  receive(message: Answer): void;
  /** All questions that are open, and all that come, fail with this. */
  fail(why: string): void;
}

interface Open {
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
  onProgress?: (done: number, steps: number) => void;
}

/** A backend behind a port. */
export function createClient(port: Port): Client {
  const open = new Map<number, Open>();
  let next = 1;
  let failed: string | null = null;
  const ask: Client['ask'] = (method, args, onProgress) =>
    new Promise((resolve, reject) => {
      if (failed !== null) {
        reject(new Error(failed));
        return;
      }
      const id = next++;
      open.set(id, { resolve, reject, ...(onProgress === undefined ? {} : { onProgress }) });
      port.postMessage({ id, method, args } satisfies Question, []);
    });
  const methods = Object.fromEntries(
    Object.keys(METHODS).map((method) => [method, (...args: unknown[]) => ask(method, args)]),
  ) as unknown as Answers;
  return {
    ...methods,
    ask,
    receive: (message) => {
      const its = open.get(message.id);
      if (its === undefined) return;
      if ('progress' in message) {
        its.onProgress?.(...message.progress);
        return;
      }
      open.delete(message.id);
      if (message.ok) its.resolve(message.value);
      else its.reject(new Error(message.error));
    },
    fail: (why) => {
      failed = why;
      for (const { reject } of open.values()) reject(new Error(why));
      open.clear();
    },
  };
}
