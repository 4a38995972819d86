/** The story of a page as text: one line for each thing that happened. */

import type { PushInfo } from './explain_items.ts';
import { counted, microseconds, PLAIN_STYLE, pagesText, type TextStyle, wrap } from './explain_layout.ts';
import type { FaultRef, PageEntry, PageExplanation, PageFault, PageMapping, PageMove } from './explain_page.ts';

const CALLS: Readonly<Record<string, string>> = {
  uvm_api_migrate: 'prefetch to',
  uvm_api_set_preferred_location: 'preferred location becomes',
  uvm_api_unset_preferred_location: 'no preferred location any more',
  uvm_api_set_accessed_by: 'accessed by',
  uvm_api_unset_accessed_by: 'no longer accessed by',
  uvm_api_enable_read_duplication: 'read-mostly',
  uvm_api_disable_read_duplication: 'no longer read-mostly',
  uvm_vm_close_managed: 'freed',
};

/** "gpu0 MEMOPS value 17, done at 12.345". */
function pushName(push: PushInfo): string {
  return `${push.gpu} ${push.channelType} value ${push.trackingValue}, done at ${microseconds(push.finish)}`;
}

/** "for fault 5", "with fault 5 on page 0 and 3 others". */
function becauseOf(faults: readonly FaultRef[], page: number): string {
  const own = faults.find((fault) => fault.page === page);
  if (own !== undefined) return `, for fault ${own.number}`;
  const [first] = faults;
  if (first === undefined) return '';
  const more = faults.length === 1 ? '' : ` and ${counted(faults.length - 1, 'other')}`;
  return `, with fault ${first.number} on page ${first.page}${more}`;
}

function faultText(entry: PageFault, style: TextStyle): string {
  const { event } = entry;
  const title = entry.number === null ? 'fault again' : `fault ${entry.number}`;
  let who = '';
  if (event?.event === 'cpuFault') who = `: ${event.access} by cpu`;
  if (event?.event === 'gpuFault') who = `: ${event.access} by ${event.gpu}, ${event.type}, batch ${event.batch}`;
  const { residency, thrashing } = entry;
  let end: string = entry.outcome;
  if (entry.outcome === 'serviced' && residency !== null) {
    end = `${residency.residency}, by rule ${residency.ruleNumber}: ${residency.rule}`;
  } else if (entry.outcome === 'merged') end = `merged into fault ${entry.mergedInto}`;
  else if (entry.outcome === 'duplicate') end = 'a duplicate of the entry before it';
  if (thrashing !== null && thrashing.hint !== 'none') {
    const { throttles, pinThreshold, doNotThrottle } = thrashing;
    const counts = `${throttles} of ${pinThreshold} throttles before, spared ${doNotThrottle ?? 'nobody'}`;
    end = `${entry.outcome === 'throttled' ? 'throttled' : `pinned; ${end}`} (${thrashing.step}; ${counts})`;
  }
  return `${style.strong(title)}${who} → ${end}`;
}

function moveText(entry: PageMove, page: number): string {
  const verb = entry.keepsSource ? 'copied, and stays' : 'moves';
  const company = entry.within.count === 1 ? '' : `, in a run of ${entry.within.count} ${pagesText([entry.within])}`;
  const { push } = entry;
  const why = `${entry.cause}${becauseOf(entry.faults, page)}${company}`;
  return `${verb}: ${entry.from} to ${entry.to}, ${why}; ${pushName(push)}`;
}

function mappingText(entry: PageMapping, page: number): string {
  const own = entry.faults.some((fault) => fault.page === page);
  const why = own ? '' : becauseOf(entry.faults, page);
  const by = entry.push === null ? '' : `; ${pushName(entry.push)}`;
  if (entry.protection === 'none') return `unmapped on ${entry.processor}${why}${by}`;
  const where = entry.target === entry.processor || entry.target === null ? '' : `, memory of ${entry.target}`;
  const was = entry.before === 'none' ? '' : ` (was ${entry.before})`;
  return `mapped on ${entry.processor}: ${entry.protection}${was}${where}${why}${by}`;
}

function eventText(event: { event: string }): string {
  const fields = event as unknown as Record<string, unknown>;
  switch (event.event) {
    case 'thrashing':
      return `thrashing detected, by ${String(fields['processors']).replaceAll(',', ', ')}`;
    case 'throttlingStart':
      return `throttling of ${String(fields['processor'])} starts`;
    case 'throttlingEnd':
      return `throttling of ${String(fields['processor'])} ends`;
    case 'readDuplicate':
      return `copies now on ${String(fields['processors']).replaceAll(',', ', ')}`;
    case 'readDuplicateInvalidate':
      return `other copies dropped, ${String(fields['resident'])} keeps its own`;
    default:
      return `${event.event}: ${String(fields['reason'] ?? '')}`;
  }
}

function entryText(entry: PageEntry, page: number, style: TextStyle): string {
  switch (entry.kind) {
    case 'fault':
      return faultText(entry, style);
    case 'move':
      return moveText(entry, page);
    case 'firstTouch':
      return `first touch: lives on ${entry.processor}${becauseOf(entry.faults, page)}`;
    case 'mapping':
      return mappingText(entry, page);
    case 'event':
      return eventText(entry.event);
    case 'thrashingReset':
      return 'thrashing data reset';
    case 'resumed': {
      const end = entry.cancelled ? 'is cancelled' : `goes on at ${microseconds(entry.resume)}`;
      return `access of ${entry.processor} replayed by value ${entry.trackingValue}, ${end}`;
    }
    case 'call': {
      const what = CALLS[entry.function] ?? '';
      const who = entry.processor === null ? '' : ` ${entry.processor}`;
      return `${style.call(entry.function)}: ${what}${who}`;
    }
  }
}

/** A fault that is throttled because its period goes on: one more of the kind. */
function isStillThrottled(entry: PageEntry | undefined): entry is PageFault {
  return entry?.kind === 'fault' && entry.outcome === 'throttled' && entry.thrashing?.step === 'still throttled';
}

const START_WIDTH = 20;
/** Repeats from this number on are told in one line. */
const REPEATS_MIN = 3;

/** The entries as lines; a GPU that is throttled faults again and again, which is told once. */
function entryLines(e: PageExplanation, style: TextStyle, width: number): string[] {
  const lines: string[] = [];
  const add = (time: number, step: number, text: string): void => {
    const column = `${microseconds(time).padStart(12)}  ${String(step).padStart(4)}`;
    for (const [i, part] of wrap(text, width - START_WIDTH - 2).entries()) {
      lines.push(i === 0 ? `${style.faint(column)}  ${part}` : `${' '.repeat(START_WIDTH + 2)}${part}`);
    }
  };
  for (let i = 0; i < e.entries.length; i++) {
    const entry = e.entries[i];
    let last = i;
    while (isStillThrottled(entry) && isStillThrottled(e.entries[last + 1])) last++;
    const end = e.entries[last];
    if (last - i + 1 < REPEATS_MIN || entry.kind !== 'fault' || end.kind !== 'fault') {
      add(entry.time, entry.step, entryText(entry, e.page, style));
      continue;
    }
    const title = style.strong(`faults ${entry.number} to ${end.number}`);
    const until = microseconds(end.time);
    add(entry.time, entry.step, `${title}: ${last - i + 1} times throttled in the same period, the last at ${until}`);
    i = last;
  }
  return lines;
}

/** The whole story as text, in lines of at most `width` columns. */
export function pageExplanationText(e: PageExplanation, style: TextStyle = PLAIN_STYLE, width = 120): string {
  const faults = Object.entries(e.faults).map(([who, n]) => `${n} by ${who}`);
  const total = Object.values(e.faults).reduce((sum, n) => sum + n, 0);
  const list = faults.length === 0 ? '' : ` (${faults.join(', ')})`;
  const nobody = 'no processor';
  const mapped = Object.entries(e.mapped).map(([who, protection]) => `${who} (${protection})`);
  const lines = [
    style.strong(
      `Page ${e.page} of ${e.buffer} in ${e.scenario}: ` +
        `${counted(total, 'fault')}${list}, ${counted(e.moves, 'copy', 'copies')}`,
    ),
    `  at the end  resident on ${e.resident.join(', ') || nobody}; mapped on ${mapped.join(', ') || nobody}`,
    ...e.notes.map((note) => `  note        ${note}`),
    '',
  ];
  if (e.entries.length === 0) lines.push('Nothing happened to it.');
  else lines.push(`${'µs'.padStart(12)}  step`);
  lines.push(...entryLines(e, style, Math.max(width, 80)));
  return `${lines.join('\n')}\n`;
}
