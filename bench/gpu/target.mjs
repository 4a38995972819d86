/**
 * A CUDA program to record and to copy from. It does what its first argument says, on managed memory within the limit
 * of src/device/linux/managed_limit.ts, and prints one JSON line for each thing that its watcher wants to know.
 *
 *   sweep SECONDS [MIB]   every thread of the grid reads the same pages, again and again from the CPU's memory: faults
 *                         at the hardware's highest rate
 *   stay MIB              pages are written by the GPU and stay there; each line on stdin makes the GPU read them all
 *   faults N              page after page, N times: the CPU writes it, then the GPU counts it up until stopped
 *   stream ROUNDS MIB     a kernel streams over memory that the CPU has just taken back: a program that faults a lot
 *   rounds MIB            the same on demand: `run` on stdin is one round, which says how long its kernel took; `on
 *                         KINDS` and `off` attach an event queue in this program, which nobody drains, and detach it;
 *                         `count` says what the queue holds, by type number
 */
import { createInterface } from 'node:readline';
import {
  closeEventSource,
  drainEvents,
  enableEvents,
  flushEvents,
  openEventSource,
} from '../../dist/device/event_source.js';
import { CUDA_CPU, startCuda } from '../../dist/device/linux/cuda.js';
import { loadLibc } from '../../dist/device/linux/libc.js';
import { createLinuxDevice } from '../../dist/device/linux/linux_device.js';
import { attachToProcess } from '../../dist/live/target.js';

const MIB = 2 ** 20;
const [mode, ...rest] = process.argv.slice(2);
const [first, second] = rest.map(Number);
const say = (/** @type {object} */ value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const cuda = await startCuda();
const libc = await loadLibc();
const out = cuda.alloc(4096);
const GRID = 132;

/** @param {number} bytes */
function managed(bytes) {
  const address = cuda.allocManaged(bytes);
  return { address, bytes, words: new Int32Array(libc.view(address, bytes)) };
}

function sweep() {
  const memory = managed((second || 64) * MIB);
  const pages = memory.bytes / 4096;
  memory.words.fill(1);
  say({ ready: true, pid: process.pid, address: `0x${memory.address.toString(16)}`, bytes: memory.bytes });
  const until = libc.clockRaw() + first * 1e9;
  let rounds = 0;
  for (; libc.clockRaw() < until; rounds++) {
    cuda.prefetch(memory.address, memory.bytes, CUDA_CPU);
    cuda.synchronize();
    // Every 16th page: enough apart that few pages come with the tree's prefetch of another one.
    const args = [{ u64: memory.address }, { u32: pages }, { u32: 16 }, { u64: out }];
    cuda.launch('sweep', GRID, 1024, args);
    cuda.synchronize();
  }
  say({ rounds });
}

async function stay() {
  const memory = managed(first * MIB);
  const word = memory.bytes / 4;
  for (let i = 0; i < word; i++) memory.words[i] = (i * 2654435761) | 0;
  const touch = () => {
    cuda.launch('streamRead', GRID, 1024, [{ u64: memory.address }, { u64: BigInt(memory.bytes / 16) }, { u64: out }]);
    cuda.synchronize();
  };
  cuda.prefetch(memory.address, memory.bytes, 0);
  cuda.synchronize();
  touch();
  say({ ready: true, pid: process.pid, address: `0x${memory.address.toString(16)}`, bytes: memory.bytes });
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'end') break;
    const start = libc.clockRaw();
    touch();
    say({ touched: true, nanoseconds: libc.clockRaw() - start });
  }
}

async function faults() {
  const pages = 512;
  const memory = managed(pages * 4096);
  say({ ready: true, pid: process.pid, address: `0x${memory.address.toString(16)}`, bytes: memory.bytes });
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  for (let i = 0; i < first; i++) {
    const page = (i * 37) % pages;
    cuda.prefetch(memory.address, memory.bytes, CUDA_CPU);
    cuda.synchronize();
    memory.words[page * 1024] = 1_000_000 * (i + 1);
    const go = await lines.next();
    if (go.done || go.value === 'end') break;
    // One GPU thread: the first store faults; it goes on counting the word up as soon as it is let go.
    const address = memory.address + BigInt(page * 4096);
    cuda.launch('pound', 1, 1, [{ u64: address }, { u32: 200 }, { u64: 0n }, { u64: out }]);
    cuda.synchronize();
    say({ page, before: 1_000_000 * (i + 1), after: memory.words[page * 1024] });
  }
}

function stream() {
  const memory = managed((second || 64) * MIB);
  say({ ready: true, pid: process.pid });
  memory.words.fill(1);
  const times = [];
  for (let i = 0; i < first; i++) {
    cuda.prefetch(memory.address, memory.bytes, CUDA_CPU);
    cuda.synchronize();
    const start = libc.clockRaw();
    cuda.launch('streamRead', GRID, 256, [{ u64: memory.address }, { u64: BigInt(memory.bytes / 16) }, { u64: out }]);
    cuda.synchronize();
    times.push((libc.clockRaw() - start) / 1000);
  }
  say({ microseconds: times });
}

/** An event queue of this program on itself. */
async function attachSelf(/** @type {string[]} */ kinds) {
  const device = await createLinuxDevice();
  const attachment = await attachToProcess(device, process.pid);
  const source = await openEventSource(device, attachment.uvm, { entries: 2 ** 18 });
  await enableEvents(source, /** @type {any} */ (kinds));
  return { device, attachment, source };
}

async function rounds() {
  const memory = managed(first * MIB);
  memory.words.fill(1);
  const round = () => {
    // The CPU takes some pages back by faults, and the rest by a prefetch.
    for (let i = 0; i < memory.words.length; i += 2 ** 19) memory.words[i]++;
    cuda.prefetch(memory.address, memory.bytes, CUDA_CPU);
    cuda.synchronize();
    const start = libc.clockRaw();
    cuda.launch('streamRead', GRID, 256, [{ u64: memory.address }, { u64: BigInt(memory.bytes / 16) }, { u64: out }]);
    cuda.synchronize();
    return (libc.clockRaw() - start) / 1000;
  };
  round();
  say({ ready: true, pid: process.pid });
  /** @type {Awaited<ReturnType<typeof attachSelf>> | null} */
  let queue = null;
  for await (const line of createInterface({ input: process.stdin })) {
    const [word, kinds] = line.split(' ');
    if (word === 'end') break;
    if (word === 'run') say({ microseconds: round() });
    if (word === 'on') {
      queue = await attachSelf(kinds.split(','));
      say({ on: true });
    }
    if (word === 'count' && queue !== null) {
      const counts = new Array(64).fill(0);
      await flushEvents(queue.source);
      const { dropped } = drainEvents(queue.source, (entries) => {
        for (let at = 0; at < entries.length; at += 72) counts[entries[at]]++;
      });
      say({ counts, dropped });
    }
    if (word === 'off' && queue !== null) {
      await closeEventSource(queue.source);
      await queue.device.close(queue.attachment.uvm);
      queue = null;
      say({ off: true });
    }
  }
}

const modes = { rounds, sweep, stay, faults, stream };
const act = modes[/** @type {keyof typeof modes} */ (mode)];
if (act === undefined) throw new Error(`mode ${mode}; valid: ${Object.keys(modes).join(', ')}`);
await act();
cuda.close();
process.exit(0);
