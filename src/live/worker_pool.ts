/**
 * Threads that call into Linux, kept for the next job: the foreign-function interface holds some memory for each thread
 * that has ever called, which is not given back when the thread ends. An idle thread does not keep the process alive.
 */
import { Worker } from 'node:worker_threads';

/** The scripts that run in such threads, by their files' names. */
const SCRIPTS = { recorder_worker: './record/recorder_worker.js', copy_worker: './memory/copy_worker.js' } as const;
export type WorkerScript = keyof typeof SCRIPTS;

const idle = new Map<WorkerScript, Worker[]>();

/** An idle thread of a script, or a new one. It keeps the process alive until it is given back. */
export function takeWorker(script: WorkerScript): Worker {
  const worker = idle.get(script)?.pop() ?? new Worker(new URL(SCRIPTS[script], import.meta.url));
  worker.removeAllListeners();
  worker.ref();
  return worker;
}

/** A thread that has done its job and listens for the next one. Its listeners are taken away. */
export function giveWorkerBack(script: WorkerScript, worker: Worker): void {
  worker.removeAllListeners();
  worker.unref();
  // One that dies while it is idle is not handed out again.
  worker.once('exit', () => {
    idle.set(
      script,
      (idle.get(script) ?? []).filter((other) => other !== worker),
    );
  });
  // An idle thread that fails has nobody to tell; its exit takes it out.
  worker.on('error', () => {});
  idle.set(script, [...(idle.get(script) ?? []), worker]);
}

/** The next message of a thread; rejects when it fails. */
export function nextMessage<T>(worker: Worker): Promise<T> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      worker.off('message', received);
      worker.off('error', failed);
    };
    const received = (message: T): void => {
      settle();
      resolve(message);
    };
    const failed = (error: Error): void => {
      settle();
      reject(error);
    };
    worker.on('message', received);
    worker.on('error', failed);
  });
}
