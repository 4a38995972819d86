/** The inside of the worker that holds a server's traces: files come with it, questions as messages. */
import { parentPort, workerData } from 'node:worker_threads';
import { answer, type Question, transferable } from '../protocol.ts';
import { openTraces, type TraceFile } from './traces.ts';

const { files } = workerData as { files: TraceFile[] };
const { engine } = openTraces(files);
parentPort?.on('message', async (question: Question) => {
  const said = await answer(engine as unknown as Record<string, unknown>, question);
  const buffers = 'ok' in said && said.ok ? transferable(said.value) : [];
  parentPort?.postMessage(said, buffers);
});
