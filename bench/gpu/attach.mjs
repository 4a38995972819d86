/**
 * Attaching from outside: the recorder beside a queue inside of the program, event for event by kind; then the
 * hardware's highest rate of events for as long as the default ring takes to be filled a hundred times.
 *
 *     node bench/gpu/attach.mjs [FOLDER]
 */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EVENT_TYPE, RECORDED_EVENTS } from '../../dist/device/abi/events.js';
import { createLinuxDevice } from '../../dist/device/linux/linux_device.js';
import { RING_ENTRIES_DEFAULT, startRecorder } from '../../dist/live/record/recorder.js';
import { attachToProcess } from '../../dist/live/target.js';
import { report, sleep, startTarget } from './common.mjs';

const device = await createLinuxDevice();
const path = join(tmpdir(), `uvmlab-attach-${process.pid}.uvmrec`);

async function record(/** @type {number} */ pid) {
  const attachment = await attachToProcess(device, pid);
  return startRecorder(device, pid, attachment, { path, overwrite: true, attached: 'late' });
}

/** Both listen to the same rounds. */
async function sameEvents() {
  const target = await startTarget('rounds', 32);
  const recorder = await record(target.pid);
  target.send(`on ${RECORDED_EVENTS.join(',')}`);
  await target.next();
  for (let i = 0; i < 5; i++) {
    target.send('run');
    await target.next();
  }
  target.send('count');
  const inside = await target.next();
  recorder.stop('time');
  const end = await recorder.done;
  await target.end();
  const named = (/** @type {ArrayLike<number>} */ counts) =>
    Object.fromEntries(
      Object.entries(EVENT_TYPE).flatMap(([name, type]) => (counts[type] > 0 ? [[name, counts[type]]] : [])),
    );
  const [outside, within] = [named(end.tally.events), named(inside.counts)];
  const equal = JSON.stringify(outside) === JSON.stringify(within);
  return { equal, events: end.events, 'by the recorder': outside, 'in the program': within, dropped: end.dropped };
}

/** As many events as fill the ring a hundred times, as fast as the hardware makes them. */
async function highestRate() {
  const wanted = RING_ENTRIES_DEFAULT * 100;
  const latest = { entries: 0 };
  const program = await startTarget('sweep', 120, 64);
  const attachment = await attachToProcess(device, program.pid);
  const options = { path, overwrite: true, attached: /** @type {const} */ ('late') };
  const recorder = await startRecorder(device, program.pid, attachment, {
    ...options,
    onTally: (tally) => {
      latest.entries = tally.entries;
    },
  });
  const start = process.hrtime.bigint();
  const passed = () => Number(process.hrtime.bigint() - start) / 1e9;
  while (latest.entries < wanted && passed() < 110) await sleep(100);
  const seconds = passed();
  recorder.stop('time');
  const end = await recorder.done;
  program.kill('SIGTERM');
  return {
    ring: RING_ENTRIES_DEFAULT,
    wanted,
    events: end.events,
    dropped: end.dropped,
    seconds,
    perSecond: Math.round(end.events / seconds),
  };
}
const same = await sameEvents();
const rate = await highestRate();
rmSync(path, { force: true });
report('attach', { same, highestRate: rate, left: device.holds() });
process.exit(0);
