/** The tour as text: its beginning, and the items about one page and its copies. */
import { list, PLAIN_STYLE, pagesText, type TextStyle } from '../analysis/explain_layout.ts';
import type { Tour } from '../analysis/tour.ts';
import { COMPARISON } from '../analysis/tour_copy.ts';
import type { PageState } from '../analysis/tour_recorder.ts';
import { parseScenario } from '../scenario/scenario.ts';
import { describeStep } from './describe.ts';
import { bytes, counted, duration } from './text.ts';
import { TourPage } from './tour_page.ts';
import { channelsText, completionText } from './tour_text_channels.ts';
import { routineText, stackText } from './tour_text_routine.ts';

export const TOUR_ITEMS: readonly number[] = [1, 2, 3, 4, 5, 6, 7];

const TITLES = [
  'Who calls uvm_va_block_select_residency',
  'The GPU page-fault routine',
  'One valid copy of a page in the whole system',
  'The custom copy',
  'Its rival: explicit copies',
  'Channel types',
  'How the CPU knows that a push is completed',
];

/** The facts of one item, for `--json`. */
export function itemFacts(tour: Tour, item: number): object {
  const title = TITLES[item - 1];
  switch (item) {
    case 1:
      return { item, title, stack: tour.stack, call: tour.fault.residency };
    case 2:
      return { item, title, setUp: tour.setUp, nodeTrial: tour.nodeTrial, routine: tour.routine, fault: tour.fault };
    case 3:
      return { item, title, ...tour.oneCopy };
    case 4:
      return { item, title, ...tour.copyRun, window: tour.copyWindow };
    case 5:
      return { item, title, ...tour.explicit };
    case 6:
      return { item, title, channels: tour.channels };
    default:
      return { item, title, pushes: tour.pushes, wrapped: tour.wrapped };
  }
}

function beginText(p: TourPage, tour: Tour): void {
  const parsed = parseScenario(tour.scenario, { [tour.scenario.machine]: { gpus: 1 } });
  p.title('The GPU page-fault routine on a live run of the model, along the notes that uvmlab began with');
  p.paragraph(
    'Lines that begin with > retell the notes of the first users, in their numbering. Call stacks, names of threads ' +
      'and channels, registers, counts, addresses and times below them are read off a run of the model, made just ' +
      `now on machine ${tour.scenario.machine}; what surrounds them explains. The run:`,
  );
  if (parsed.ok) {
    const { scenario } = parsed;
    const rows = scenario.steps.map((step, i) => [
      String(i),
      describeStep(step, scenario),
      step.do === 'write' && step.on !== 0 ? `the fault of this tour; page ${tour.page} is address A` : '',
    ]);
    p.table([['step', '', ''], ...rows], 'rll');
  }
  p.paragraph(
    `The model follows driver ${tour.driver}. The notes read 535 or 545, where some functions have other names: ` +
      'both are given. Times are predicted, in µs; those with a + count from the moment when the entry of the ' +
      'fault came into the fault buffer.',
  );
}

function wordText(word: number | null): string {
  return word === null ? 'never filled' : String(word);
}

function pageRow(p: TourPage, when: string, state: PageState): string[] {
  const mapped = Object.entries(state.mapped).map(([who, protection]) => `${who}: ${protection}`);
  const { cpu, gpu0 } = state.words;
  const resident = p.style.strong(list(state.resident));
  return [when, resident, mapped.join('; ') || 'nobody', wordText(cpu), wordText(gpu0)];
}

function pageText(p: TourPage, tour: Tour): void {
  const { before, between, after, back, migrations } = tour.oneCopy;
  const { start, finish } = tour.routine.copy.push;
  p.notes(
    'One valid copy of a page in the whole system, on the CPU or on the GPU; at first at address A on the CPU, ' +
      "brought to the GPU by the GPU's own access.",
  );
  p.paragraph(
    `Right, and here it is for page ${tour.page}: the place that the driver holds to be valid (resident on), who ` +
      'may reach it (mapped on), and the first word of the page in each memory:',
  );
  p.table(
    [
      ['when', 'resident on', 'mapped on', 'word in cpu', 'word in gpu0'],
      pageRow(p, 'before the access of the GPU', before),
      pageRow(p, `at ${p.at(between.time)}, before anybody maps it`, between),
      pageRow(p, 'after the access', after),
      pageRow(p, 'after the CPU read it again', back),
    ],
    'lllrr',
  );
  p.paragraph(
    `The frame on the CPU was not given back: after the access it still says ${wordText(after.words.cpu)}, but ` +
      'nobody maps it and the driver does not count it, so there is one valid copy. In the second line the driver ' +
      `already counts the page as the GPU's, although the copy engine works on it from ${p.at(start)} to ` +
      `${p.at(finish)}: whoever needs the bytes waits for the push, through the tracker of the block.`,
  );
  const total = migrations.reduce((sum, one) => sum + one.bytes, 0);
  const parts = migrations.map(
    (one) => `${pagesText([{ first: one.first, count: one.count }])} (${bytes(one.bytes)}, ${one.cause})`,
  );
  const [{ src, dst }] = migrations;
  p.paragraph(
    `What moved from ${src} to ${dst}: ${bytes(total)}, in ${counted(migrations.length, 'run')}: ` +
      `${parts.join('; ')}. The page itself moves because of the fault (coherence), its neighbours because of the ` +
      'prefetcher.',
  );
  p.paragraph(
    'The one exception is read duplication (cudaMemAdviseSetReadMostly): then several processors hold copies, ' +
      'all read-only, and the first write leaves one.',
  );
}

function copyText(p: TourPage, tour: Tour): void {
  const { copyWindow: window, routine } = tour;
  p.notes(
    'nextCopyAddress could already be set by an ioctl; copyFromAddress is wanted too: a user program sets ' +
      'copyFromAddress to A with one ioctl; a second sets nextCopyAddress to B and starts the routine that copies ' +
      'the page, which is on the GPU now, to address B on the CPU. "To perform custom memcopy, we also need to ' +
      'resolve the original page fault."',
  );
  p.paragraph(
    'The first ioctl only stores A: nothing is looked up, pinned or moved. The second stores B and starts. Under ' +
      'the lock of the block the valid copy is found by residency, not by mappings; if a GPU has it, one push on ' +
      'its GPU_TO_CPU channel copies the page to B. The push acquires the tracker of the block, so it comes after ' +
      'any migration under way, and is added to it, so whoever moves or frees the page next waits for it. ' +
      'Residency, mappings and prefetch state stay as they are: the page has not moved.',
  );
  p.paragraph(
    'Armed, the copy waits for the next fault on A and is made inside its service, and the original fault is ' +
      'resolved as well. Its place is in uvm_va_block_service_finish, right after the residency is updated. The ' +
      `live fault shows the gap: on the CPU from ${p.at(window.residencyUpdated)} to ${p.at(window.mapBegun)}, ` +
      `where the mapping begins; on the GPU between the end of the migration's push (${p.at(window.migrated)}) and ` +
      `the start of the push with the page-table entries (${p.at(window.mapped)} here, and later by the length of ` +
      'the copy where one is armed). The page is there, and mapped nowhere, so B gets exactly the bytes of the ' +
      'moment of the fault.',
  );
  p.paragraph(
    'And the fault is resolved with no further wait: the page-table push and the replay (value ' +
      `${routine.replay.trackingValue}, from ${p.at(window.replayed)} here) acquire the same tracker, so they come ` +
      'after the copy, and the warp goes on only then.',
  );
  copyRunText(p, tour);
}

function between(begin: number | null, end: number | null): string {
  return duration(((end ?? 0) - (begin ?? 0)) / 1000);
}

/** The two forms as they were carried out, on a run of their own. */
function copyRunText(p: TourPage, { copyRun: { immediate, armed, word } }: Tour): void {
  const [push] = immediate.copy.pushes;
  p.paragraph(
    'Both forms, carried out on a run of their own. The CPU writes 42 to the page and gpu0 reads it, so it lives on ' +
      `${immediate.copy.residentOn}. At once: SET_COPY_FROM_ADDRESS, SET_NEXT_COPY_ADDRESS. One push of ` +
      `${push.gpu}, tracking value ${push.value} on channel ${push.channel}, copies ${bytes(immediate.copy.bytes)} ` +
      `in ${between(push.begin, push.end)}; B begins with ${immediate.word}; the driver records ` +
      `${counted(immediate.events, 'event')}, and the page has not moved.`,
  );
  const { copy } = armed;
  const { pageTablePush, replay } = copy;
  p.paragraph(
    'Then the CPU writes 43, which brings the page back, a copy is armed, and gpu0 writes 7. Its fault moves the ' +
      `page, and the copy is made on the way: it is ${copy.snapshot ? '' : 'not '}a snapshot. Counted from its begin:`,
  );
  const since = (time: number | null | undefined): string => (time == null ? '-' : `+${between(copy.begin, time)}`);
  p.table(
    [
      ['', 'begins', 'ends', 'value'],
      ['copy to B', since(copy.begin), since(copy.end), `${copy.pushes[0]?.value ?? '-'}`],
      ['page-table entries', since(pageTablePush?.begin), since(pageTablePush?.end), `${pageTablePush?.value ?? '-'}`],
      ['replay', since(replay?.begin), since(replay?.end), `${replay?.value ?? '-'}`],
    ],
    'lrrr',
  );
  p.paragraph(
    `B begins with ${armed.word}, the value of the moment of the fault, and the page itself with ${word}: the ` +
      'original fault was resolved too. `uvmlab explain FILE --copy N` shows any copy as a timeline of locks, pushes ' +
      'and semaphore values.',
  );
}

function rivalText(p: TourPage, tour: Tour): void {
  const { explicit } = tour;
  p.notes(
    'Its rival: "we are somewhat reimplementing what is already implemented. CUDA comes with explicit memcopy ' +
      'commands."',
  );
  p.paragraph(
    `Step 2 of the run is such a command: it copies the ${bytes(explicit.bytes)} of page ${tour.page} to host ` +
      `memory, in ${duration(explicit.duration / 1000)} as predicted, with ${counted(explicit.events, 'event')} of ` +
      'the driver. The page:',
  );
  p.table(
    [
      ['when', 'resident on', 'mapped on', 'word in cpu', 'word in gpu0'],
      pageRow(p, 'before it', explicit.before),
      pageRow(p, 'after it', explicit.after),
    ],
    'lllrr',
  );
  p.paragraph(
    'So the objection holds where it was made: an explicit copy does not move the page either. A copy engine ' +
      'reads the page where it lives, as the routine would, and both learn of the end from a semaphore.',
  );
  p.paragraph('What the routine of item 4 adds is not the copy but who may make it, and when:');
  p.table(
    [
      ['', 'explicit copy', 'copy routine'],
      ['who', 'the process, in its CUDA context', "any process with the VA space's file"],
      ['when', 'in its turn in a stream', 'at once; armed, at the fault, before the replay'],
      ['page not there yet', 'a fault of the copy engine', 'waits for the migration, through the tracker'],
    ],
    'lll',
  );
  p.paragraph(`\`${COMPARISON}\` sets the two beside a prefetch and a plain read: time, bytes, faults, residency.`);
}

const TEXTS: readonly ((p: TourPage, tour: Tour) => void)[] = [
  stackText,
  routineText,
  pageText,
  copyText,
  rivalText,
  channelsText,
  completionText,
];

/** The items as text, in lines of at most `width` columns. */
export function tourText(
  tour: Tour,
  items: readonly number[],
  style: TextStyle = PLAIN_STYLE,
  width: number = 110,
): string {
  const p = new TourPage(tour.zero, style, width);
  beginText(p, tour);
  for (const item of items) {
    p.heading(item, TITLES[item - 1]);
    TEXTS[item - 1](p, tour);
  }
  return p.text;
}
