/** The tour's items 6 and 7 as text: the channels, and how completion is learned of. */
import type { Tour } from '../analysis/tour.ts';
import type { PushLife } from '../analysis/tour_channels.ts';
import type { ChannelSample } from '../analysis/tour_recorder.ts';
import { count } from './text.ts';
import type { TourPage } from './tour_page.ts';

/** What each type of channel that the model has is used for. */
const USES: readonly (readonly [string, string])[] = [
  ['CPU_TO_GPU', 'copies of pages to a GPU'],
  ['GPU_TO_CPU', 'copies of pages from a GPU to the CPU'],
  ['GPU_INTERNAL', 'zeroing of new memory, page directories'],
  ['MEMOPS', 'page-table entries, TLB invalidates, replays and cancels of faults'],
  ['GPU_TO_GPU', 'copies between GPUs'],
];

/** Types and pools of the driver that the model does not have. */
const OTHERS: readonly (readonly [string, string, string])[] = [
  ['WLC', 'Confidential Computing', 'Work Launch Channel: launches work for the protected channels'],
  ['LCIC', 'Confidential Computing', "Launch Confirmation Indicator Channel: confirms the WLC's launches"],
  ['SEC2', 'Confidential Computing', 'security engine: takes signed pushes, which set up the WLCs'],
  ['CE_PROXY', 'SR-IOV heavy (vGPU)', 'a pool of one channel; takes the MEMOPS pushes of a virtual GPU'],
];

/** Item 6. */
export function channelsText(p: TourPage, tour: Tour): void {
  p.notes(
    'Channel types: the Work Launch Channel (WLC) and the Launch Confirmation Indicator Channel (LCIC), both of ' +
      'Confidential Computing.',
  );
  p.paragraph(
    'Right, and those two are the exception: with Confidential Computing off they do not exist. A type says what ' +
      'a push is for; each type has a pool, the pool of the copy engine that suits it best, and a pool has two ' +
      'channels.',
  );
  p.table([['type', 'used for'], ...USES.map(([type, use]) => [type, use])], 'll');
  p.paragraph('The channels of this run, at its end:');
  p.table(
    [
      ['channel', 'engine', 'types of its pool', 'GPFIFO entries', 'used', 'last value', 'completed', 'collected'],
      ...tour.channels.map((row) => [
        String(row.channel),
        `CE ${row.engine}`,
        row.types.join(', ') || 'none',
        count(row.gpfifoEntries),
        String(row.used),
        String(row.queuedValue),
        String(row.completedValue),
        String(row.gpuGet),
      ]),
    ],
    'rllrrrrr',
  );
  const [first] = tour.channels;
  p.paragraph(
    'used: pushes submitted; last value: the tracking value of the last one; completed: the highest value that ' +
      `the driver has seen; collected: entries whose callbacks have run. A GPFIFO of ${count(first.gpfifoEntries)} ` +
      `entries takes ${count(first.gpfifoEntries - 1)} pushes. Channels are not used in turn: the second of a pool ` +
      'is used only while the first is full.',
  );
  p.paragraph('What the driver has besides, and the model does not:');
  p.table([['type', 'belongs to', 'what it is'], ...OTHERS.map((row) => [...row])], 'lll');
}

function sampleRow(p: TourPage, when: string, s: ChannelSample): string[] {
  return [
    when,
    p.at(s.time),
    String(s.queuedValue),
    hex(s.payload),
    String(s.completedValue),
    String(s.cpuPut),
    String(s.gpuGet),
  ];
}

function hex(payload: number): string {
  return `0x${payload.toString(16).padStart(8, '0')}`;
}

function find(tour: Tour, purpose: string): PushLife {
  const life = tour.pushes.find((one) => one.push.purpose === purpose);
  if (life === undefined) throw new Error(`the tour: no push is a ${purpose}`);
  return life;
}

function copyText(p: TourPage, copy: PushLife): void {
  const { push } = copy;
  const value = push.trackingValue;
  p.stage(
    'begin',
    push.begin,
    `uvm_push_begin_acquire reserves an entry on channel ${push.channel} (${push.channelType}).`,
  );
  p.stage(
    'end',
    push.end,
    `uvm_push_end raises the channel's queued_value to ${value}: this is the push's tracking_semaphore_value. ` +
      `Behind its ${push.methods} methods goes one more that writes ${hex(value % 2 ** 32)}, the low 32 bits, into ` +
      `the channel's tracking semaphore. GPFIFO entry ${copy.gpfifoEntry} of ${count(copy.gpfifoEntries)} is ` +
      `filled with the value and the place of the methods, and cpu_put becomes ${copy.after.cpuPut}. The CPU goes ` +
      'on: nothing is waited for.',
  );
  const after = push.acquired.map((wait) => `value ${wait.trackingValue} of channel ${wait.channel}`);
  const acquires = after.length === 0 ? '' : `, after ${after.join(', ')}, which it acquires`;
  p.stage('engine', push.start, `Copy engine ${push.engine} starts${acquires}.`);
  p.stage(
    'release',
    push.finish,
    `The copy is done and the engine writes the semaphore: it reads ${hex(value % 2 ** 32)}. That is all that ` +
      'happens: no interrupt is raised, and the CPU is told nothing. It finds out when it looks.',
  );
  if (copy.seen !== null) {
    const why = copy.seen.function === 'uvm_tracker_wait' ? ': it waits for the replay on the same channel' : '';
    p.stage(
      'seen',
      copy.seen.time,
      `The driver reads the semaphore for another reason (${copy.seen.function}${why}) and takes ` +
        `${copy.seen.completedValue} for its completed value. As ${copy.seen.completedValue} ≥ ${value}, this push ` +
        'is completed for every tracker from now on.',
    );
  }
  if (copy.collected !== null) {
    p.stage(
      'collected',
      copy.collected,
      'uvm_channel_update_progress walks the GPFIFO from gpu_get while the values are reached: the callback of ' +
        'the push runs, its migration events are delivered, its memory is free again.',
    );
  }
  p.blank();
}

/** When the driver learned that the copy was done, as far as it asked. */
function seenText(p: TourPage, copy: PushLife): string {
  if (copy.seen !== null) return `seen to be at ${p.at(copy.seen.time)} (until then the CPU did not know)`;
  return 'nobody asked (the wait for the replay, which acquired it, was enough)';
}

/** Item 7. */
export function completionText(p: TourPage, tour: Tour): void {
  const copy = find(tour, 'copy');
  const replay = find(tour, 'replay');
  const { wait } = tour.routine;
  p.notes('How the CPU knows that a push is completed: the tracking_semaphore_value of its GPFIFO entry.');
  p.paragraph(
    "Right: by comparing it with what the channel's semaphore reads. The push that copied the page, in this run:",
  );
  copyText(p, copy);
  const late = copy.collected === null ? copy.end.time : copy.collected;
  p.paragraph(
    `So this push was complete at ${p.at(copy.push.finish)}, ${seenText(p, copy)}, and its callback ran at ` +
      `${p.at(late)}. Two notions of complete come apart here: the value is reached (what ` +
      'trackers and waits test), and the entry is collected (what callbacks and tools events need), which happens ' +
      'when somebody needs room in the channel or flushes the tools events, as the end of a step does here.',
  );
  p.paragraph(`The channel on the way (cpu_put and gpu_get are the driver's ends of the GPFIFO):`);
  p.table(
    [
      ['', 'at', 'queued', 'semaphore', 'completed', 'cpu_put', 'gpu_get'],
      ...tour.pushes
        .filter((one) => one.push.channel === copy.push.channel)
        .map((one) => sampleRow(p, `${one.push.purpose} submitted`, one.after)),
      sampleRow(p, 'end of the step', copy.end),
    ],
    'lrrrrrr',
  );
  p.paragraph(
    `When the CPU has to know, it polls. After the replay (value ${replay.push.trackingValue}) uvm_tracker_wait ` +
      `reads the semaphore again and again from ${p.at(wait.begin)} until ${p.at(wait.end)}; the engine had ` +
      `released it at ${p.at(replay.push.finish)}.`,
  );
  const w = tour.wrapped;
  p.paragraph(
    'The value has 64 bits and the semaphore 32. uvm_channel_update_completed_value takes the upper half from ' +
      'the last completed value, and adds 2^32 when the lower half has become smaller. The same run with channels ' +
      `that have been used ${count(w.previousValue)} times: before the copy the semaphore reads ` +
      `${hex(w.previousPayload)}, the copy has value ${count(w.trackingValue)}, and at the end the semaphore reads ` +
      `${hex(w.payload)} while the completed value is ${count(w.completedValue)}.`,
  );
}
