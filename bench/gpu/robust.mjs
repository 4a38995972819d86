/**
 * Two recordings of two programs at once; a target that is killed; a recorder that is killed; a ring that is too small;
 * and a thousand attaches to one program, which leave nothing behind.
 *
 *     node bench/gpu/robust.mjs [FOLDER]
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createLinuxDevice } from '../../dist/device/linux/linux_device.js';
import { readUvmFds } from '../../dist/device/linux/proc.js';
import { startRecorder } from '../../dist/live/record/recorder.js';
import { attachToProcess } from '../../dist/live/target.js';
import { readRecording } from '../../dist/trace/recording_file.js';
import { report, sleep, startTarget } from './common.mjs';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const device = await createLinuxDevice();
const fileOf = (/** @type {string} */ name) => join(tmpdir(), `uvmlab-robust-${process.pid}-${name}.uvmrec`);

async function start(/** @type {number} */ pid, /** @type {string} */ name, /** @type {object} */ more = {}) {
  const attachment = await attachToProcess(device, pid);
  return startRecorder(device, pid, attachment, { path: fileOf(name), overwrite: true, attached: 'late', ...more });
}

/** What a file holds. */
async function contents(/** @type {string} */ name) {
  const found = { events: 0, dropped: 0, end: /** @type {string | null} */ (null), truncated: false, pages: new Set() };
  for await (const frame of readRecording(fileOf(name))) {
    if (frame.kind === 'events') found.events += frame.count;
    if (frame.kind === 'drops') for (const [, count] of frame.dropped) found.dropped += count;
    if (frame.kind === 'end') found.end = frame.end.reason;
    if (frame.kind === 'close') found.truncated = frame.truncated;
  }
  const { events, dropped, end, truncated } = found;
  return { events, dropped, end, truncated };
}

async function rounds(/** @type {import('./common.mjs').Target} */ target, /** @type {number} */ count) {
  for (let i = 0; i < count; i++) {
    target.send('run');
    await target.next();
  }
}

async function twoAtOnce() {
  const [one, two] = [await startTarget('rounds', 32), await startTarget('rounds', 16)];
  const [first, second] = [await start(one.pid, 'one'), await start(two.pid, 'two')];
  await Promise.all([rounds(one, 10), rounds(two, 10)]);
  first.stop('time');
  second.stop('time');
  await Promise.all([first.done, second.done]);
  await Promise.all([one.end(), two.end()]);
  return { one: await contents('one'), two: await contents('two') };
}

async function targetKilled() {
  const target = await startTarget('sweep', 60, 32);
  const recorder = await start(target.pid, 'killed');
  await sleep(1500);
  target.kill('SIGKILL');
  const { reason, dropped } = await recorder.done;
  return { reason, dropped, ...(await contents('killed')) };
}

async function recorderKilled() {
  const target = await startTarget('sweep', 8, 32);
  const args = [MAIN, 'record', '--pid', String(target.pid), '-o', fileOf('cut'), '--overwrite', '-q'];
  const recorder = spawn(process.execPath, args, { stdio: 'ignore' });
  await sleep(2500);
  recorder.kill('SIGKILL');
  await new Promise((resolve) => recorder.once('exit', resolve));
  const alive = readUvmFds(target.pid).length > 0;
  target.kill('SIGTERM');
  return { targetGoesOn: alive, ...(await contents('cut')) };
}

async function smallRing() {
  const target = await startTarget('rounds', 32);
  const recorder = await start(target.pid, 'small', { ringEntries: 64 });
  await rounds(target, 5);
  recorder.stop('time');
  const { events, dropped } = await recorder.done;
  await target.end();
  return { ring: 64, events, dropped, inFile: await contents('small') };
}

/** Descriptors and mappings of this process. */
function held() {
  const maps = readFileSync('/proc/self/maps', 'latin1').split('\n').length;
  return { fds: readdirSync('/proc/self/fd').length, maps };
}

async function thousandAttaches() {
  const target = await startTarget('stay', 8);
  const theirs = readUvmFds(target.pid).length;
  for (let i = 0; i < 20; i++) await device.close((await attachToProcess(device, target.pid)).uvm);
  const before = held();
  for (let i = 0; i < 1000; i++) await device.close((await attachToProcess(device, target.pid)).uvm);
  const after = held();
  const recordings = 20;
  const recordAgain = async () => {
    for (let i = 0; i < recordings; i++) {
      const recorder = await start(target.pid, 'again');
      recorder.stop('time');
      await recorder.done;
    }
    return held();
  };
  // The allocator keeps some memory of threads that have ended, up to a bound: so the second twenty count.
  const beforeRecordings = await recordAgain();
  const afterRecordings = await recordAgain();
  target.send('touch');
  await target.next();
  const theirsAfter = readUvmFds(target.pid).length;
  await target.end();
  return { before, after, recordings, beforeRecordings, afterRecordings, theirs, theirsAfter, holds: device.holds() };
}

const result = {
  twoAtOnce: await twoAtOnce(),
  targetKilled: await targetKilled(),
  recorderKilled: await recorderKilled(),
  smallRing: await smallRing(),
  thousandAttaches: await thousandAttaches(),
};
for (const name of ['one', 'two', 'killed', 'cut', 'small', 'again']) rmSync(fileOf(name), { force: true });
report('robust', result);
process.exit(0);
