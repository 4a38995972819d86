/** Each item of an explanation as lines of text. */
import {
  type CallItem,
  type CopyItem,
  type EventItem,
  type FaultItem,
  type Item,
  type MapItem,
  type PermissionItem,
  type PopulateItem,
  type PrefetchItem,
  type PushInfo,
  type ResidencyItem,
  runPages,
  type ThrashingItem,
} from './explain_items.ts';
import {
  counted,
  countedPages,
  list,
  microseconds,
  pagesText,
  RUNS_SHOWN,
  runText,
  type TextBuilder,
} from './explain_layout.ts';

/** "gpu0 CPU_TO_GPU channel 0". */
export function channelText(push: { gpu: string; channelType: string; channel: number }): string {
  return `${push.gpu} ${push.channelType} channel ${push.channel}`;
}

/** A push in two lines: who carries it out and when, what it waited for. */
export function pushText(b: TextBuilder, depth: number, push: PushInfo): void {
  const { style } = b;
  const what = `push to ${channelText(push)} (copy engine ${push.engine})`;
  b.note(
    depth,
    `${what}: ${counted(push.methods, 'method')}, tracking value ${style.strong(String(push.trackingValue))}`,
  );
  b.note(depth + 1, `CPU ${b.at(push.begin)} to ${b.at(push.end)}, GPU ${b.at(push.start)} to ${b.at(push.finish)}`);
  for (const wait of push.acquired) {
    b.note(depth + 1, `after value ${wait.trackingValue} of ${channelText(wait)}, reached at ${b.at(wait.finish)}`);
  }
  const ptes = Object.entries(push.ptes ?? {}).map(([size, n]) => `${n} × ${size}`);
  if (ptes.length > 0) {
    const invalidates = counted(push.tlbInvalidates ?? 0, 'TLB invalidate');
    b.note(depth + 1, `page-table entries written: ${ptes.join(', ')}; ${invalidates}`);
  }
  const noticed = push.noticed === undefined ? '' : `; the driver collects it at ${b.at(push.noticed)}`;
  b.note(depth + 1, `the tracking semaphore reads ${push.trackingValue} at ${b.at(push.finish)}${noticed}`);
}

function residencyText(b: TextBuilder, depth: number, item: ResidencyItem): void {
  const { style } = b;
  const name = style.call('uvm_va_block_select_residency');
  b.line(item.time, depth, `${name} for page ${item.page}: ${style.strong(item.residency)}`);
  b.note(depth + 1, `rule ${item.ruleNumber}: ${item.rule}`);
  const resident = item.residents.length === 0 ? 'nowhere' : `on ${list(item.residents)}`;
  const closest = item.closest === null ? '' : `, closest to ${item.processor} is ${item.closest}`;
  b.note(depth + 1, `${item.processor} wants ${list(item.accesses)}; the page is resident ${resident}${closest}`);
  const duplicated = item.readDuplicated ? ', page duplicated' : '';
  b.note(
    depth + 1,
    `preferred location ${item.preferredLocation ?? 'none'}, accessed by ${list(item.accessedBy)}, ` +
      `read duplication ${item.readDuplication}${duplicated}, thrashing hint ${item.hint}`,
  );
}

/** What each step of the hint means, in words. */
const THRASHING_STEPS: Readonly<Record<string, string>> = {
  'epoch reset': 'the block was quiet for an epoch: it starts afresh',
  'below threshold': 'too few events to call it thrashing',
  'still throttled': 'its throttling period goes on',
  'lapse over': 'the last event is more than a lapse ago: service it, the migration resets the page',
  revocation: 'pinned, and still losing rights: only throttling helps',
  'preferred location reachable': 'all that thrash can map the preferred location: pin it there',
  'fast access': 'all that thrash have fast access to one place',
  'preferred and pinned': 'the requester is the preferred location, and the page is pinned',
  preferred: 'the requester is the preferred location',
  'not spared': 'another processor is spared in this period',
  spared: 'the requester is spared in this period: service it',
  'pin threshold': 'throttled often enough: pin it where it is wanted',
  'pinned within reach': 'pinned where the requester can map it',
  'pinned out of reach': 'pinned where the requester cannot map it',
  'pinned, spared': 'pinned, and the requester is spared: pin it there, or where all can reach it',
};

function thrashingText(b: TextBuilder, depth: number, item: ThrashingItem): void {
  const { style } = b;
  b.line(
    item.time,
    depth,
    `${style.call('uvm_perf_thrashing_get_hint')} for page ${item.page}: ${style.strong(item.hint)}`,
  );
  b.note(depth + 1, `${item.step}: ${THRASHING_STEPS[item.step] ?? ''}`);
  const since = item.sinceLast === 0 ? '' : `, the last ${microseconds(item.sinceLast)} µs ago`;
  b.note(
    depth + 1,
    `${counted(item.events, 'event')} (thrashing from ${item.threshold})${since} ` +
      `(lapse ${microseconds(item.lapse)} µs), by ${list(item.processors)}`,
  );
  if (item.step === 'below threshold') return;
  const end = item.throttlingEnd === 0 ? 'no period' : `period ends at ${b.at(item.throttlingEnd)}`;
  b.note(
    depth + 1,
    `${end}, spared ${item.doNotThrottle ?? 'nobody'}; throttled ${item.throttles} of ${item.pinThreshold} times; ` +
      `pinned ${item.pinned === null ? 'nowhere' : `on ${item.pinned}`}`,
  );
}

/** The tree above one page, leaf first, with the driver's test in numbers. */
function levelsText(b: TextBuilder, depth: number, item: PrefetchItem): void {
  const { style } = b;
  for (const ask of item.pages) {
    const chosen = ask.levels.filter((level) => level.passes).at(-1);
    const title = `tree above page ${ask.page}, from the leaf to the root (level 0):`;
    b.note(depth, title);
    b.row(depth, style.faint(`level           pages   set    of  set × 100   of × ${item.threshold}`));
    for (const level of ask.levels) {
      const pages = runText({ first: level.first, count: level.outer - level.first });
      const numbers = [
        String(level.level).padStart(5),
        pages.padStart(14),
        String(level.counter).padStart(4),
        String(level.size).padStart(4),
        String(level.counter * 100).padStart(9),
        level.passes ? '>' : '≤',
        String(level.size * item.threshold).padEnd(6),
      ];
      const verdict = level === chosen ? style.strong('taken: the highest that passes') : level.passes ? 'passes' : '';
      b.row(depth, `${numbers.join('  ')}  ${verdict}`);
    }
    const region = ask.region.count === 0 ? 'nothing' : pagesText([ask.region]);
    b.note(depth, `region: ${region}`);
  }
}

function prefetchText(b: TextBuilder, depth: number, item: PrefetchItem): void {
  const { style } = b;
  const result = item.prefetched === 0 ? 'nothing to prefetch' : `prefetch ${countedPages(item.runs)}`;
  b.line(item.time, depth, `${style.call('uvm_va_block_get_prefetch_hint')}: ${style.strong(result)}`);
  if (item.rule === 'several residencies') {
    b.note(depth + 1, 'the pages of this service go to several processors: no prefetch');
    return;
  }
  if (item.rule === 'disabled') {
    b.note(depth + 1, 'prefetching is disabled');
    return;
  }
  if (item.rule === 'whole block') {
    b.note(depth + 1, `first touch of the block, and ${item.destination} is its preferred location: the whole block`);
  } else {
    const parts = [`${item.resident} resident on ${item.destination}`, `${item.faulted} faulted`];
    if (item.grown > 0) parts.push(`${item.grown} by growing faults to 64 KiB`);
    const block = `block of ${counted(item.block.count, 'page')} ${runText(item.block)}`;
    b.note(depth + 1, `${block}; leaves set: ${parts.join(', ')}; ${item.thrashing} thrash`);
    levelsText(b, depth + 1, item);
    if (item.pages.length === 0) b.note(depth + 1, 'the page thrashes, so it asks the tree for nothing');
  }
  const removed = item.removed.map(({ reason, pages }) => `${pages} ${reason}`).join(', ');
  b.note(
    depth + 1,
    `asked for by all faults together: ${counted(item.asked, 'page')}; taken out: ${removed || 'none'}`,
  );
  if (item.faultCount < item.minFaults) {
    b.note(
      depth + 1,
      `${counted(item.faultCount, 'fault')} moved there in a row, ${item.minFaults} are needed: not used`,
    );
  }
}

function permissionText(b: TextBuilder, depth: number, item: PermissionItem): void {
  const { style } = b;
  const name = style.call('compute_new_permission');
  b.line(item.time, depth, `${name} for page ${item.page}: ${style.strong(item.protection)}`);
  b.note(
    depth + 1,
    `${item.access} by ${item.processor} to memory of ${item.residency}; ` +
      `${item.nativeAtomics ? 'native' : 'no native'} atomics there; ` +
      `others with atomics: ${list(item.atomicElsewhere)}; ` +
      `${item.mayReadDuplicate ? 'may be' : 'never'} read-duplicated${item.discarded ? '; discarded' : ''}`,
  );
  const all = Object.entries(item.pages).map(([protection, pages]) => `${counted(pages, 'page')}: ${protection}`);
  b.note(depth + 1, `the service: ${all.join('; ')}${item.didNotMigrate ? '; this page did not migrate' : ''}`);
}

function populateText(b: TextBuilder, depth: number, item: PopulateItem): void {
  const { style } = b;
  const zeroed = item.runs.reduce((sum, run) => sum + run.zeroed, 0);
  const zero = zeroed === 0 ? 'nothing to zero' : `${counted(zeroed, 'page')} zeroed`;
  const chunks = counted(item.runs.length, 'chunk');
  const what = `${item.processor} gets ${chunks} for ${pagesText(item.runs)}; ${zero}`;
  b.line(item.time, depth, `${style.call('block_populate_pages')}: ${what}`);
  if (item.push !== null) pushText(b, depth + 1, item.push);
}

function copyText(b: TextBuilder, depth: number, item: CopyItem): void {
  const { style } = b;
  const pages = counted(runPages(item.runs), 'page');
  const what = `${style.strong(`${item.from} to ${item.to}, ${pages}`)}`;
  b.line(item.time, depth, `${style.call('block_copy_resident_pages')}: ${what}`);
  const runs = item.runs.slice(0, RUNS_SHOWN).map((run) => `${runText(run)} (${run.cause})`);
  if (item.runs.length > RUNS_SHOWN) runs.push(`${counted(item.runs.length - RUNS_SHOWN, 'more run')}`);
  b.note(depth + 1, `${counted(item.runs.length, 'run')}: ${runs.join(', ')}`);
  pushText(b, depth + 1, item.push);
}

function mapText(b: TextBuilder, depth: number, item: MapItem): void {
  const { style } = b;
  const where = item.target === null || item.target === item.processor ? '' : ` in memory of ${item.target}`;
  const gets = item.protection === 'none' ? '' : `: ${item.protection}`;
  const what = `${style.strong(item.processor)}, ${countedPages(item.runs)}${where}${gets}`;
  b.line(item.time, depth, `${style.call(item.function)}: ${what}`);
  if (item.push !== null) pushText(b, depth + 1, item.push);
}

const EVENT_TEXT: Readonly<Record<string, string>> = {
  thrashing: 'thrashing detected',
  throttlingStart: 'throttling starts',
  throttlingEnd: 'throttling ends',
  readDuplicate: 'a further copy',
  readDuplicateInvalidate: 'the other copies are dropped',
  fatalFault: 'fatal fault reported',
};

function eventText(b: TextBuilder, depth: number, item: EventItem): void {
  b.line(item.time, depth, `event ${item.event}: ${EVENT_TEXT[item.event] ?? ''}, ${countedPages(item.runs)}`);
}

/** What the driver does with a fault, after its word in FaultOutcome. */
const FAULT_OUTCOMES: Readonly<Record<string, string>> = {
  open: 'not serviced',
  serviced: 'goes into the service',
  duplicate: 'same page as the entry before it: nothing more to do',
  authorised: "allowed already by the driver's own page-table state: nothing to do",
  throttled: 'throttled: left out of this service',
  invalidPrefetch: 'prefetch of what may not be accessed: ignored',
  fatal: 'cannot be serviced: fatal',
  spurious: 'the driver believes the page is mapped: the access is tried again first',
};

function faultText(b: TextBuilder, depth: number, item: FaultItem): void {
  const { style } = b;
  const numbers = item.faults.length === 0 ? 'the fault again' : `fault ${item.faults[0]}`;
  const merged =
    item.faults.length > 1 ? ` with ${counted(item.faults.length - 1, 'merged entry', 'merged entries')}` : '';
  const accesses = item.accesses.length === 0 ? '' : `, ${item.accesses.join(' and ')}`;
  const title = `${style.strong(numbers)}${merged}, page ${item.page}${accesses}`;
  b.line(item.time, depth, `${title}: ${FAULT_OUTCOMES[item.outcome]}`);
  itemsText(b, depth + 1, item.items);
}

const FLUSH_MODES = ['up to the PUT known from the fetch', 'up to the PUT register', 'up to the PUT register, waiting'];

/** What a call's detail says, in words. */
function detailText(call: CallItem): string {
  const d = call.detail;
  switch (call.function) {
    case 'preprocess_fault_batch':
      return (
        `batch ${d['batch']}: ${counted(d['entries'] as number, 'entry', 'entries')}, ` +
        `${d['representatives']} after merging`
      );
    case 'service_fault_batch_dispatch':
      return `from entry ${(d['index'] as number) + 1} in service order on, page ${d['page']}`;
    case 'fault_buffer_flush_locked':
      return `${counted(d['discarded'] as number, 'entry', 'entries')} dropped, ${FLUSH_MODES[d['mode'] as number]}`;
    case 'uvm_va_block_make_resident_copy':
    case 'uvm_va_block_make_resident_read_duplicate': {
      const rest = [];
      if ((d['already'] as number) > 0) rest.push(`${d['already']} there already`);
      if ((d['nowhere'] as number) > 0) rest.push(`${d['nowhere']} resident nowhere: first touch`);
      return [`to ${d['to']}: ${counted(d['pages'] as number, 'page')}`, ...rest].join(', ');
    }
    case 'uvm_tracker_wait':
      return `the CPU waits for ${d['for']}`;
    case 'uvm_va_space_cpu_fault':
      return (d['retries'] as number) > 0 ? `again, after ${counted(d['retries'] as number, 'throttle')}` : '';
    case 'block_service_finish_revoke_prot':
      return 'rights that the new mapping rules out';
    default:
      return '';
  }
}

function callText(b: TextBuilder, depth: number, call: CallItem): void {
  const detail = detailText(call);
  const until = call.function === 'uvm_tracker_wait' && call.left !== undefined ? `, until ${b.at(call.left)}` : '';
  b.line(call.time, depth, `${b.style.call(call.function)}${detail === '' ? '' : `: ${detail}`}${until}`);
  itemsText(b, depth + 1, call.items);
}

/** The items one after another, each with what is below it. */
export function itemsText(b: TextBuilder, depth: number, items: readonly Item[]): void {
  for (const item of items) itemText(b, depth, item);
}

function itemText(b: TextBuilder, depth: number, item: Item): void {
  switch (item.kind) {
    case 'call':
      callText(b, depth, item);
      break;
    case 'fault':
      faultText(b, depth, item);
      break;
    case 'residency':
      residencyText(b, depth, item);
      break;
    case 'thrashing':
      thrashingText(b, depth, item);
      break;
    case 'prefetch':
      prefetchText(b, depth, item);
      break;
    case 'populate':
      populateText(b, depth, item);
      break;
    case 'copy':
      copyText(b, depth, item);
      break;
    case 'map':
      mapText(b, depth, item);
      break;
    case 'permission':
      permissionText(b, depth, item);
      break;
    case 'push':
      pushText(b, depth, item.push);
      break;
    case 'event':
      eventText(b, depth, item);
      break;
    case 'others':
      b.note(depth, b.style.faint(item.what));
      break;
  }
}
