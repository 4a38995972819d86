/** The traces of the server and those that the page's own worker made, as one list behind one contract. */
import type { TraceBackend, TraceEntry } from '../src/explorer/api.ts';
import { compareSides, sideOf } from '../src/explorer/compare_traces.ts';
import { createHttpBackend } from '../src/explorer/http_client.ts';
import { type Answer, type Answers, createClient } from '../src/explorer/protocol.ts';

export interface Backends extends TraceBackend {
  /** Runs a scenario in the page's worker; the id of its trace. */
  start(scenario: string, onProgress: (done: number, steps: number) => void): Promise<string>;
}

/** Traces of the worker have ids of their own kind. */
const LIVE = /^run-\d+$/;

export function createBackends(): Backends {
  const server = createHttpBackend((url, init) => fetch(url, init));
  let live: ReturnType<typeof createClient> | null = null;
  // The model is loaded when it is first wanted.
  const liveClient = () => {
    if (live !== null) return live;
    const worker = new Worker('/worker.js', { type: 'module' });
    const client = createClient(worker);
    worker.addEventListener('message', (event: MessageEvent<Answer>) => client.receive(event.data));
    worker.addEventListener('error', (event) => client.fail(`the model in the page failed: ${event.message}`));
    live = client;
    return client;
  };
  const of = (trace: string): Answers => (LIVE.test(trace) ? liveClient() : server);
  return {
    traces: async () => {
      const mine: TraceEntry[] = live === null ? [] : await live.traces();
      return [...(await server.traces()), ...mine];
    },
    tile: (trace, ...rest) => of(trace).tile(trace, ...rest),
    row: (trace, row) => of(trace).row(trace, row),
    find: (trace, query) => of(trace).find(trace, query),
    space: (trace, ...rest) => of(trace).space(trace, ...rest),
    block: (trace, ...rest) => of(trace).block(trace, ...rest),
    walk: (trace, fault) => of(trace).walk(trace, fault),
    compare: async (left, right) => {
      if (LIVE.test(left) === LIVE.test(right)) return of(left).compare(left, right);
      return compareSides(sideOf(of(left), left), sideOf(of(right), right), { left, right });
    },
    start: async (scenario, onProgress) => (await liveClient().ask('start', [scenario], onProgress)) as string,
  };
}
