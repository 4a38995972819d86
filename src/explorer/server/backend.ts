/**
 * The traces of a server in a thread of their own, so that a long question, or the opening of a large file, does not
 * keep the server from answering others.
 */
import { Worker } from 'node:worker_threads';
import type { TraceBackend } from '../api.ts';
import { type Answer, createClient } from '../protocol.ts';
import { openTraces, type TraceFile } from './traces.ts';

export interface ServedTraces {
  backend: TraceBackend;
  close(): Promise<void>;
}

/** Threads run compiled files alone: from source, as in a test, the traces are held by the caller's thread. */
const COMPILED = import.meta.url.endsWith('.js');

export function serveTraces(files: readonly TraceFile[], inThread = COMPILED): ServedTraces {
  if (!inThread) {
    const { engine, done } = openTraces(files);
    return { backend: engine, close: () => done };
  }
  const worker = new Worker(new URL('./trace_worker.js', import.meta.url), { workerData: { files } });
  const client = createClient(worker);
  worker.on('message', (message: Answer) => client.receive(message));
  worker.on('error', (error) => client.fail(`the traces are lost: ${error.message}`));
  worker.on('exit', () => client.fail('the traces are lost: their thread ended'));
  return {
    backend: client,
    close: async () => {
      await worker.terminate();
    },
  };
}
