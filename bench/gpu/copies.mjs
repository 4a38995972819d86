/**
 * Copying pages of another process that live on the GPU: bytes, events, faults afterwards, throughput by the number of
 * copies in flight; and armed copies of best effort.
 *
 *     node bench/gpu/copies.mjs [FOLDER] [FAULTS]
 */
import { RECORDED_EVENTS } from '../../dist/device/abi/events.js';
import {
  closeEventSource,
  drainEvents,
  enableEvents,
  flushEvents,
  openEventSource,
} from '../../dist/device/event_source.js';
import { createLinuxDevice } from '../../dist/device/linux/linux_device.js';
import { createBestEffort } from '../../dist/live/memory/best_effort.js';
import { createCopyTeam } from '../../dist/live/memory/copy_out.js';
import { pagePlaces } from '../../dist/live/memory/page_place.js';
import { attachToProcess } from '../../dist/live/target.js';
import { report, startTarget, statistics } from './common.mjs';

const FAULTS = Number(process.argv[3] ?? 1000);
const MIB = 128;
const device = await createLinuxDevice();

async function copies() {
  const target = await startTarget('stay', MIB);
  const attachment = await attachToProcess(device, target.pid);
  const source = await openEventSource(device, attachment.uvm, { entries: 2 ** 16 });
  await enableEvents(source, RECORDED_EVENTS);
  const events = async () => {
    await flushEvents(source);
    return drainEvents(source, () => {}).entries;
  };
  const from = BigInt(target.ready.address);
  const length = BigInt(target.ready.bytes);
  const expected = new Int32Array(target.ready.bytes / 4);
  for (let i = 0; i < expected.length; i++) expected[i] = (i * 2654435761) | 0;
  const bytes = new Uint8Array(expected.buffer);
  await events();
  let different = 0;
  /** @type {Record<string, object>} */
  const throughput = {};
  for (const inFlight of [1, 2, 3, 4, 6, 8, 12, 16]) {
    const team = await createCopyTeam(device, attachment.uvm, inFlight);
    const rates = [];
    for (let i = 0; i < 7; i++) {
      let at = 0;
      const nanoseconds = await team.copy(from, length, (piece) => {
        if (i === 0 && Buffer.compare(piece, bytes.subarray(at, at + piece.length)) !== 0) different++;
        at += piece.length;
      });
      rates.push(Number(length) / nanoseconds);
    }
    await team.close();
    const { median, min, max } = statistics(rates);
    throughput[inFlight] = { gigabytesPerSecond: median, min, max };
  }
  const eventsWhileCopying = await events();
  const mappedByCpu = pagePlaces(target.pid, from, length).filter((place) => place === 'mapped by the CPU').length;
  target.send('touch');
  const touch = await target.next();
  const eventsOfTheNextAccess = await events();
  await closeEventSource(source);
  await device.close(attachment.uvm);
  await target.end();
  return {
    mib: MIB,
    different,
    eventsWhileCopying,
    mappedByCpu,
    eventsOfTheNextAccess,
    touchMicroseconds: touch.nanoseconds / 1000,
    throughput,
  };
}

async function armed() {
  const target = await startTarget('faults', FAULTS);
  const attachment = await attachToProcess(device, target.pid);
  const armedCopy = await createBestEffort(device, attachment.uvm);
  const base = BigInt(target.ready.address);
  const delays = [];
  const likely = { 'before the replay': 0, 'after the replay': 0, unknown: 0 };
  let changed = 0;
  let missed = 0;
  let changedThoughBefore = 0;
  for (let i = 0; i < FAULTS; i++) {
    armedCopy.discard();
    target.send('go');
    const copy = armedCopy.wait(null, 2000);
    const told = await target.next();
    if (copy === null || copy.status !== 0 || copy.page !== base + BigInt(told.page * 4096)) {
      missed++;
      continue;
    }
    const word = new DataView(copy.bytes.buffer, copy.bytes.byteOffset).getInt32(0, true);
    delays.push((copy.copyEnd - copy.faultTime) / 1000);
    likely[copy.likely]++;
    if (word !== told.before) {
      changed++;
      if (copy.likely === 'before the replay') changedThoughBefore++;
    }
  }
  await armedCopy.close();
  await device.close(attachment.uvm);
  await target.end();
  return { faults: FAULTS, missed, delayMicroseconds: statistics(delays), likely, changed, changedThoughBefore };
}

const copy = await copies();
const bestEffort = await armed();
report('copies', { copy, bestEffort, left: device.holds() });
process.exit(0);
