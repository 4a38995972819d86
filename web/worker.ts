/** The page's worker: the model, its runs as traces, and the answers about them. */
import twoGpus from '../profiles/2xh200-nvlink.json';
import confidential from '../profiles/h100-cc.json';
import oneGpu from '../profiles/h200-pcie5.json';
import { createLive, machinesOf } from '../src/explorer/live.ts';
import { answer, type Question, transferable } from '../src/explorer/protocol.ts';

/** Set when the page is built. */
declare const UVMLAB_VERSION: string;

const machines = machinesOf({ 'h200-pcie5': oneGpu, '2xh200-nvlink': twoGpus, 'h100-cc': confidential });
const live = createLive(machines, UVMLAB_VERSION);
const port = self as unknown as {
  postMessage(message: unknown, transfer?: ArrayBuffer[]): void;
  addEventListener(type: 'message', listener: (event: { data: Question }) => void): void;
};

port.addEventListener('message', async ({ data }) => {
  const { id, method, args } = data;
  const backend =
    method === 'start'
      ? {
          start: (scenario: string) =>
            live.start(scenario, (done, steps) => port.postMessage({ id, progress: [done, steps] })),
        }
      : live;
  const said = await answer(backend as unknown as Record<string, unknown>, { id, method, args });
  port.postMessage(said, 'ok' in said && said.ok ? transferable(said.value) : []);
});
