/**
 * Models uvm_spin_loop of uvm_common.c (driver 580.105.08), as far as it shows: a thread that waits for the GPU spins
 * until what it waits for happens, and reports every 30 seconds that it is stuck. It never gives up.
 *
 * Nothing else happens in the model while a thread spins, so where the end of a wait is known, its time moves there at
 * once, and a wait that nothing would end is an error of its own: the driver's thread would hang.
 */
import type { Model } from '../state.ts';

/** UVM_SPIN_LOOP_PRINT_TIMEOUT_SEC, in ns. */
export const SPIN_LOOP_REPORT_NS = 30_000_000_000;

/** A wait that the driver reported ("stuck waiting"). Times in ns. */
export interface SpinReport {
  /** Function of the driver that waits. */
  place: string;
  since: number;
  /** When the last report was made, and how many there were: one for each 30 s. */
  last: number;
  reports: number;
}

/** The driver would spin for ever. The message names the place, the time and what is waited for. */
export class EndlessWaitError extends Error {
  override name = 'EndlessWaitError';
}

function report(m: Model, gpu: number, place: string, since: number, until: number): void {
  const reports = Math.floor((until - since) / SPIN_LOOP_REPORT_NS);
  if (reports === 0) return;
  const last = since + reports * SPIN_LOOP_REPORT_NS;
  const list = m.gpus[gpu].channelManager.spinReports;
  const open = list.at(-1);
  // A loop that goes round more than once is one wait.
  if (open?.place === place && open.since === since) {
    open.last = last;
    open.reports = reports;
  } else list.push({ place, since, last, reports });
}

/** Injected faults that can be behind a wait without an end. */
function causes(m: Model): string {
  let text = '';
  for (const { index, channelManager } of m.gpus) {
    for (const [i, channel] of channelManager.host.channels.entries()) {
      const name = `gpu${index} channel ${i}`;
      if (channel.errorTime < Infinity) text += `; ${name} has an error that this wait does not look for`;
      if (channel.stuckFrom < Infinity) text += `; the tracking semaphore of ${name} stands still`;
      if (channel.blockedUntil === Infinity) text += `; ${name} is blocked`;
    }
  }
  return text;
}

/**
 * The thread that spins since `since` goes on at `until`, ns, at which it polls once more; an end that is past costs
 * nothing. Reports are kept with the GPU whose channels are waited for. With `until` Infinity there is one report, and
 * then an EndlessWaitError that says what is waited for (`awaited`).
 */
export function spinLoopUntil(
  m: Model,
  gpu: number,
  place: string,
  since: number,
  until: number,
  awaited: () => string,
): void {
  if (until === Infinity) {
    m.k.now = Math.max(m.k.now, since + SPIN_LOOP_REPORT_NS);
    report(m, gpu, place, since, m.k.now);
    throw new EndlessWaitError(
      `the driver would spin for ever: since ${since} ns ${place} waits for ${awaited()}, and nothing that was ` +
        `submitted ends that wait${causes(m)}`,
    );
  }
  if (until <= m.k.now) return;
  m.k.now = Math.round(until + m.cost.trackerPoll);
  report(m, gpu, place, since, m.k.now);
}
