/**
 * Event queues over the model: what uvm_tools.c (driver 580.105.08) does between recording an event and the ring. Rows
 * of the model's log are offered to the queues in order, each to those that have its type enabled.
 *
 * They are offered before a call changes who listens and before a call returns. Between two calls nobody reads the
 * rings, so what is in them, what is dropped and who is woken is as if each row had been offered when it was recorded.
 */
import { rangeGroupRangeFind } from '../../model/uvm/range_group.ts';
import { enqueueEvent } from '../abi/event_queue.ts';
import { EVENT_ENTRY_BYTES_V1, EVENT_ENTRY_BYTES_V2 } from '../abi/events.ts';
import type { ModelDriver } from './driver.ts';
import { type EntryContext, putEntryV1, putEntryV2 } from './log_entries.ts';
import { landCopies } from './user_memory.ts';

/** Reused for every entry. */
const wordsV1 = new Uint32Array(EVENT_ENTRY_BYTES_V1 / 4);
const wordsV2 = new Uint32Array(EVENT_ENTRY_BYTES_V2 / 4);
const entryV1 = new Uint8Array(wordsV1.buffer);
const entryV2 = new Uint8Array(wordsV2.buffer);

/**
 * Offers the queues all that the model has logged since the last time, and lets finished copies of the copy routine
 * arrive in the memory of the processes.
 */
export function deliverEvents(driver: ModelDriver): void {
  const { m, trackers } = driver;
  landCopies(driver);
  const { log } = m.tools;
  const space = m.vaSpaces[0];
  const context: EntryContext = {
    pid: space.pid,
    rangeGroup: (page) => rangeGroupRangeFind(space, page)?.group.id ?? 0,
  };
  for (; driver.delivered < log.count; driver.delivered++) {
    const i = driver.delivered;
    const type = log.kind[i];
    let encoded1 = false;
    let encoded2 = false;
    for (const tracker of trackers) {
      if (tracker.enabled[type] === 0) continue;
      if (tracker.version === 1) {
        if (!encoded1) putEntryV1(wordsV1, log, i, context);
        encoded1 = true;
        enqueueEvent(tracker.writer, entryV1);
      } else {
        if (!encoded2) putEntryV2(wordsV2, log, i, context);
        encoded2 = true;
        enqueueEvent(tracker.writer, entryV2);
      }
    }
  }
}

/** uvm_tools_record_event, _v2: puts a given entry into the queues of its version that have its type enabled. */
export function recordEntry(driver: ModelDriver, version: 1 | 2, entry: Uint8Array): void {
  for (const tracker of driver.trackers) {
    if (tracker.version === version && tracker.enabled[entry[0]] !== 0) enqueueEvent(tracker.writer, entry);
  }
}
