/** The inside of a worker that holds one of a server's traces: the file comes with it, questions as messages. */
import { parentPort, workerData } from 'node:worker_threads';
import { answer, type Question, transferable } from '../protocol.ts';
import { openEngine, type TraceName } from './traces.ts';

/** Said once, when the trace is there or broken. */
export interface Opened {
  opened: true;
}

const engine = await openEngine(workerData as TraceName);
parentPort?.on('message', async (question: Question) => {
  const said = await answer(engine as unknown as Record<string, unknown>, question);
  const buffers = 'ok' in said && said.ok ? transferable(said.value) : [];
  parentPort?.postMessage(said, buffers);
});
parentPort?.postMessage({ opened: true } satisfies Opened);
