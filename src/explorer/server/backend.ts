/**
 * The traces of a server, each in a thread of its own: a long question, or the opening of a large file, keeps neither
 * the server nor the other traces from answering, and a trace for which there is not enough memory takes nothing else
 * with it.
 */
import { Worker } from 'node:worker_threads';
import type { TraceEntry } from '../api.ts';
import { compareSides, sideOf } from '../compare_traces.ts';
import { noTrace, whyNotReady } from '../engine.ts';
import { type Answer, type Answers, createClient, METHODS } from '../protocol.ts';
import type { Opened } from './trace_worker.ts';
import { openEngine, type TraceFile, type TraceName, traceNames } from './traces.ts';

export interface ServedTraces {
  backend: Answers;
  close(): Promise<void>;
}

interface Opening {
  ready: Promise<Answers>;
  close(): Promise<void>;
}

/** Threads run compiled files alone: from source, as in a test, the traces are held by the caller's thread. */
const COMPILED = import.meta.url.endsWith('.js');
/** Files that are opened at once. */
const OPENING_MAX = 2;

/** Resolves when the trace is there or broken. `lost` is called when the thread ends before it was told to. */
function openInThread(
  name: TraceName,
  lost: (why: string) => void,
): { ready: Promise<Answers>; close(): Promise<void> } {
  const worker = new Worker(new URL('./trace_worker.js', import.meta.url), { workerData: name });
  const client = createClient(worker);
  let closed = false;
  const ready = new Promise<Answers>((resolve, reject) => {
    const fail = (why: string): void => {
      client.fail(why);
      reject(new Error(why));
      if (!closed) lost(why);
    };
    worker.on('message', (message: Answer | Opened) => {
      if ('opened' in message) resolve(client);
      else client.receive(message);
    });
    worker.on('error', (error: NodeJS.ErrnoException) => {
      fail(error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? 'there is not enough memory for it' : error.message);
    });
    worker.on('exit', () => fail('its thread ended'));
  });
  return {
    ready,
    close: async () => {
      closed = true;
      await worker.terminate();
    },
  };
}

function openHere(name: TraceName): Opening {
  const ready = openEngine(name);
  return { ready, close: async () => void (await ready) };
}

/** Opens the files in the background, in their order; questions about one that is not there yet reject. */
export function serveTraces(files: readonly TraceFile[], inThread = COMPILED): ServedTraces {
  const names = traceNames(files);
  const entries = new Map<string, TraceEntry>(names.map(({ id, label }) => [id, { state: 'opening', id, label }]));
  const holders = new Map<string, Answers>();
  const begun: Opening[] = [];
  let closed = false;

  const open = async (name: TraceName): Promise<void> => {
    const { id, label } = name;
    const broken = (error: string): void => {
      holders.delete(id);
      entries.set(id, { state: 'broken', id, label, error });
    };
    const opening = inThread ? openInThread(name, broken) : openHere(name);
    begun.push(opening);
    try {
      const holder = await opening.ready;
      const [entry] = await holder.traces();
      holders.set(id, holder);
      entries.set(id, entry);
      if (entry.state === 'broken') await opening.close();
    } catch (error) {
      broken(error instanceof Error ? error.message : String(error));
    }
  };
  const queue = [...names];
  const lane = async (): Promise<void> => {
    for (let name = queue.shift(); name !== undefined && !closed; name = queue.shift()) await open(name);
  };
  const done = Promise.all(Array.from({ length: OPENING_MAX }, lane));

  const get = (id: string): Answers => {
    const entry = entries.get(id);
    const its = holders.get(id);
    if (entry === undefined) throw new RangeError(noTrace(String(id), [...entries.keys()]));
    if (entry.state === 'ready' && its !== undefined) return its;
    throw new RangeError(whyNotReady(id, entry.state === 'broken' ? entry.error : null));
  };
  const asked = Object.keys(METHODS).map((method) => [
    method,
    async (id: string, ...args: unknown[]) => {
      const holder = get(id) as unknown as Record<string, (...all: unknown[]) => Promise<unknown>>;
      return holder[method](id, ...args);
    },
  ]);
  return {
    backend: {
      ...(Object.fromEntries(asked) as unknown as Answers),
      traces: async () => [...entries.values()],
      compare: async (left, right) => compareSides(sideOf(get(left), left), sideOf(get(right), right), { left, right }),
    },
    close: async () => {
      closed = true;
      if (inThread) await Promise.all(begun.map((one) => one.close()));
      await done;
    },
  };
}
