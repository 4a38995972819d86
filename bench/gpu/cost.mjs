/**
 * What recording costs the recorded program: a kernel that streams over 64 MiB of memory of the CPU, timed (a) without
 * any recording, (b) with an event queue in the program itself that nobody drains, (c) with the recorder; interleaved.
 * Then (b) for each class of events alone, against (a).
 *
 *     node bench/gpu/cost.mjs [FOLDER] [RUNS]
 */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RECORDED_EVENTS } from '../../dist/device/abi/events.js';
import { createLinuxDevice } from '../../dist/device/linux/linux_device.js';
import { startRecorder } from '../../dist/live/record/recorder.js';
import { attachToProcess } from '../../dist/live/target.js';
import { report, startTarget, statistics } from './common.mjs';

const RUNS = Number(process.argv[3] ?? 40);
/** Rounds of one run: their median is the run. */
const ROUNDS = 3;
const device = await createLinuxDevice();
const path = join(tmpdir(), `uvmlab-cost-${process.pid}.uvmrec`);
const target = await startTarget('rounds', 64);
let dropped = 0;

async function run() {
  const times = [];
  for (let i = 0; i < ROUNDS; i++) {
    target.send('run');
    times.push((await target.next()).microseconds);
  }
  return times.sort((a, b) => a - b)[1];
}

async function inProcess(/** @type {readonly string[]} */ kinds) {
  target.send(`on ${kinds.join(',')}`);
  await target.next();
  const time = await run();
  target.send('off');
  await target.next();
  return time;
}

async function recorded() {
  const attachment = await attachToProcess(device, target.pid);
  const recorder = await startRecorder(device, target.pid, attachment, { path, overwrite: true, attached: 'late' });
  const time = await run();
  recorder.stop('time');
  dropped += (await recorder.done).dropped;
  return time;
}

const none = [];
const queue = [];
const ours = [];
for (let i = 0; i < RUNS; i++) {
  // The order goes round, so that what comes after what does not matter.
  const ways = [
    async () => none.push(await run()),
    async () => queue.push(await inProcess(RECORDED_EVENTS)),
    async () => ours.push(await recorded()),
  ];
  for (let k = 0; k < 3; k++) await ways[(i + k) % 3]();
}

/** @type {Record<string, readonly string[]>} */
const CLASSES = {
  faults: ['cpuFault', 'gpuFault'],
  replays: ['replay'],
  migrations: ['migration'],
  'remote maps': ['mapRemote'],
  'thrashing and throttling': ['thrashing', 'throttlingStart', 'throttlingEnd'],
  'faults and replays': ['cpuFault', 'gpuFault', 'replay'],
  all: RECORDED_EVENTS,
};
/** @type {Record<string, { none: number[], on: number[] }>} */
const byClass = Object.fromEntries(Object.keys(CLASSES).map((name) => [name, { none: [], on: [] }]));
for (let i = 0; i < RUNS; i++) {
  for (const [name, kinds] of Object.entries(CLASSES)) {
    byClass[name].none.push(await run());
    byClass[name].on.push(await inProcess(kinds));
  }
}
await target.end();
rmSync(path, { force: true });

const a = statistics(none);
const b = statistics(queue);
const c = statistics(ours);
const classes = Object.fromEntries(
  Object.entries(byClass).map(([name, { none: off, on }]) => {
    const [without, with_] = [statistics(off), statistics(on)];
    return [
      name,
      { without: without.median, with: with_.median, ratio: with_.median / without.median, q1: with_.q1, q3: with_.q3 },
    ];
  }),
);
report('cost', {
  runs: RUNS,
  microseconds: { 'a: no recording': a, 'b: queue in the program, not drained': b, 'c: recorder': c },
  'c/b': c.median / b.median,
  'b/a': b.median / a.median,
  classes,
  dropped,
});
process.exit(0);
