/** The lanes of a trace: which rows lie on which line of the timeline, and what is between them. */
import type { Trace } from '../trace/store/trace_events.ts';
import type { Lane } from './api.ts';
import type { Batches } from './batches.ts';
import { addLaneRow, createLaneRows, type LaneIndex, type LaneRows, laneIndex, NO_ROW } from './lane_index.ts';
import { rowEnd } from './row_times.ts';

/** Column whose words the colours of a lane go by. */
type ColourKey = 'kind' | 'access' | 'cause';

interface LanePlan {
  lane: Omit<Lane, 'rows'>;
  colour: ColourKey;
}

const GROUPS = [
  'steps',
  'cpu',
  'gpu',
  'batches',
  'migrations',
  'thrashing',
  'evictions',
  'channels',
  'copies',
] as const satisfies readonly Lane['group'][];

function plan(
  group: Lane['group'],
  id: string,
  label: string,
  kinds: string[],
  shape: Lane['shape'],
  colour: ColourKey,
): LanePlan {
  return { lane: { id, label, group, kinds, shape }, colour };
}

/** The lane of a row by what it is; null for kinds that lie on none, or on one that is made otherwise. */
function planOf(kind: string, src: string, dst: string, channel: number, type: string): LanePlan | null {
  switch (kind) {
    case 'cpuFault':
      return plan('cpu', 'cpu', 'CPU faults', [kind], 'points', 'access');
    case 'gpuFault':
      return plan('gpu', `faults ${src}`, `${src} faults`, [kind], 'points', 'access');
    case 'replay':
      return plan('batches', `replays ${src}`, `${src} replays`, [kind], 'points', 'kind');
    case 'migration':
      return plan('migrations', `${src} ${dst}`, `${src} to ${dst}`, [kind], 'spans', 'cause');
    case 'mapRemote':
      return plan('migrations', 'mapRemote', 'remote mappings', [kind], 'points', 'cause');
    case 'readDuplicate':
    case 'readDuplicateInvalidate': {
      const both = ['readDuplicate', 'readDuplicateInvalidate'];
      return plan('migrations', 'readDuplicate', 'read duplication', both, 'points', 'kind');
    }
    case 'thrashing':
      return plan('thrashing', 'thrashing', 'thrashing', [kind], 'points', 'kind');
    case 'fatalFault':
      return plan('thrashing', 'fatal', 'fatal faults', [kind], 'points', 'cause');
    case 'eviction':
      return plan('evictions', 'evictions', 'evictions', [kind], 'points', 'kind');
    case 'push':
      return plan('channels', `${src}/${channel}`, `${src} channel ${channel} ${type}`, [kind], 'spans', 'cause');
    default:
      return null;
  }
}

/** Lanes that a trace may have: far more than any machine has channels. */
const LANES_MAX = 4096;
const SMALL = 256;

/** Lanes by (kind, first processor, second processor or channel): a table for the numbers that there usually are. */
class LaneTable {
  readonly #small = new Int16Array(32 * SMALL * SMALL).fill(-1);
  readonly #large = new Map<string, number>();

  get(kind: number, src: number, second: number): number {
    if (kind < 32 && src < SMALL && second < SMALL) return this.#small[(kind * SMALL + src) * SMALL + second];
    return this.#large.get(`${kind} ${src} ${second}`) ?? -1;
  }

  set(kind: number, src: number, second: number, lane: number): void {
    if (kind < 32 && src < SMALL && second < SMALL) this.#small[(kind * SMALL + src) * SMALL + second] = lane;
    else this.#large.set(`${kind} ${src} ${second}`, lane);
  }
}

/** Words of a column as numbers of a lane's colours, in the order in which they come up; at most 255. */
class Colours {
  readonly kinds: string[] = [];
  readonly #numbers: Int16Array;
  readonly #list: readonly string[];
  readonly #words: Uint16Array;

  constructor({ columns }: Trace, key: ColourKey) {
    this.#list = columns.words[key].list;
    this.#words = columns.arrays[key];
    this.#numbers = new Int16Array(this.#list.length).fill(-1);
  }

  of(row: number): number {
    const word = this.#words[row];
    const number = this.#numbers[word];
    return number >= 0 ? number : this.#add(word);
  }

  #add(word: number): number {
    const text = this.#list[word];
    const number = this.kinds.length < 255 ? this.kinds.push(text === '' ? 'other' : text) - 1 : 254;
    this.#numbers[word] = number;
    return number;
  }
}

/** The id of the lane of a row by what it is, or null; a lane without times is not there. */
export function laneIdOf({ columns }: Trace, row: number): string | null {
  const { arrays: a, words } = columns;
  const kind = words.kind.list[a.kind[row]];
  const src = words.src.list[a.src[row]];
  if (kind === 'throttlingStart' || kind === 'throttlingEnd') return `throttled ${src}`;
  const channel = columns.pushes ? Math.max(0, a.channel[row]) : 0;
  return planOf(kind, src, words.dst.list[a.dst[row]], channel, '')?.lane.id ?? null;
}

function rowLanes(trace: Trace, begins: Float64Array): LaneIndex[] {
  const { columns } = trace;
  const { arrays: a, words } = columns;
  const isPush = words.kind.numbers.get('push') ?? -1;
  const table = new LaneTable();
  const plans: (LanePlan | null)[] = [];
  const byId = new Map<string, number>();
  const counts: number[] = [];
  const lanes = new Int16Array(columns.count);
  const { kind: kindOf, src: srcOf, dst: dstOf, channel: channelOf } = a;
  for (let i = 0; i < columns.count; i++) {
    const kind = kindOf[i];
    const second = kind === isPush ? Math.max(0, channelOf[i]) : dstOf[i];
    let lane = table.get(kind, srcOf[i], second);
    if (lane < 0) {
      const { list } = words.src;
      const type = columns.loaded.has('type') ? words.type.list[a.type[i]] : '';
      const its = planOf(words.kind.list[kind], list[a.src[i]], words.dst.list[a.dst[i]], second, type);
      const id = its?.lane.id ?? '';
      lane = byId.get(id) ?? plans.push(its) - 1;
      byId.set(id, lane);
      table.set(kind, srcOf[i], second, lane);
      counts[lane] ??= 0;
      if (plans.length > LANES_MAX) throw new RangeError(`the trace has more than ${LANES_MAX} lanes`);
    }
    lanes[i] = lane;
    counts[lane]++;
  }
  const rows: (LaneRows | null)[] = plans.map((its, lane) =>
    its === null ? null : createLaneRows(counts[lane], its.lane.shape),
  );
  const colours = plans.map((its) => new Colours(trace, its?.colour ?? 'kind'));
  for (let i = 0; i < columns.count; i++) {
    const its = plans[lanes[i]];
    const into = rows[lanes[i]];
    if (its === null || into === null) continue;
    const begin = begins[i];
    if (Number.isNaN(begin)) continue;
    const end = into.last.length > 0 ? rowEnd(trace, i, begin) : begin;
    addLaneRow(into, begin, end, i, colours[lanes[i]].of(i));
  }
  return plans.flatMap((its, lane) => {
    const into = rows[lane];
    return its === null || into === null ? [] : [laneIndex(its.lane, colours[lane].kinds, into)];
  });
}

function stepLane({ info }: Trace): LaneIndex[] {
  if (info.steps === null || info.steps.length === 0) return [];
  const rows = createLaneRows(info.steps.length, 'spans');
  const scenario = info.scenario as { steps?: { do?: unknown; on?: unknown }[] } | null;
  const kinds: string[] = [];
  for (const { step, begin, end } of info.steps) {
    const its = scenario?.steps?.[step];
    const word = String(its?.do ?? 'step');
    let kind = kinds.indexOf(word);
    if (kind < 0) kind = kinds.push(word) - 1;
    addLaneRow(rows, begin, end, NO_ROW, kind);
  }
  return [laneIndex({ id: 'steps', label: 'steps', group: 'steps', kinds: [], shape: 'spans' }, kinds, rows)];
}

/** Throttlings of a processor: from the start on a page to the end on it. */
function throttleLanes(trace: Trace, begins: Float64Array): LaneIndex[] {
  const { columns } = trace;
  const { arrays: a, words } = columns;
  const start = words.kind.numbers.get('throttlingStart') ?? -1;
  const end = words.kind.numbers.get('throttlingEnd') ?? -1;
  if (start < 0) return [];
  const open = new Map<string, number>();
  const spans = new Map<number, { begin: number; end: number; row: number }[]>();
  for (let i = 0; i < columns.count; i++) {
    const kind = a.kind[i];
    if (kind !== start && kind !== end) continue;
    const key = `${a.src[i]} ${a.buffer[i]} ${a.offset[i]}`;
    const time = begins[i];
    const its = spans.get(a.src[i]) ?? [];
    spans.set(a.src[i], its);
    if (kind === start) {
      open.set(key, its.push({ begin: time, end: time, row: i }) - 1);
      continue;
    }
    const at = open.get(key);
    if (at !== undefined) its[at].end = time;
    open.delete(key);
  }
  return [...spans].map(([src, its]) => {
    const rows = createLaneRows(its.length, 'spans');
    for (const span of its) addLaneRow(rows, span.begin, span.end, span.row, 0);
    const word = words.src.list[src];
    const kinds = ['throttlingStart'];
    const lane = { id: `throttled ${word}`, label: `${word} throttled`, group: 'thrashing', shape: 'spans' } as const;
    return laneIndex({ ...lane, kinds }, ['throttled'], rows);
  });
}

function copyLane({ info }: Trace): LaneIndex[] {
  const spans = info.copies.filter(({ begin, end }) => Number.isFinite(begin) && Number.isFinite(end));
  if (spans.length === 0) return [];
  const rows = createLaneRows(spans.length, 'spans');
  const kinds: string[] = [];
  for (const { begin, end, form } of spans) {
    const word = String(form ?? 'copy');
    let kind = kinds.indexOf(word);
    if (kind < 0) kind = kinds.push(word) - 1;
    addLaneRow(rows, begin as number, end as number, NO_ROW, kind);
  }
  return [laneIndex({ id: 'copies', label: 'copy routine', group: 'copies', kinds: [], shape: 'spans' }, kinds, rows)];
}

function batchLanes(trace: Trace, all: Map<number, Batches>, begins: Float64Array): LaneIndex[] {
  return [...all].map(([src, batches]) => {
    const rows = createLaneRows(batches.count, 'spans');
    for (let i = 0; i < batches.count; i++) {
      const row = batches.firstRow[i];
      const begin = begins[row];
      addLaneRow(rows, begin, begin + batches.length[i], row, batches.replayed[i]);
    }
    const word = trace.columns.words.src.list[src];
    const lane = {
      id: `batches ${word}`,
      label: `${word} batches`,
      group: 'batches',
      kinds: [],
      shape: 'spans',
    } as const;
    return laneIndex({ ...lane, kinds: [] }, ['without a replay', 'batch'], rows);
  });
}

/** All lanes of a trace that have something on them, in the order in which they should stand. */
export function buildLanes(trace: Trace, batches: Map<number, Batches>, begins: Float64Array): LaneIndex[] {
  const lanes = [
    ...stepLane(trace),
    ...rowLanes(trace, begins),
    ...batchLanes(trace, batches, begins),
    ...throttleLanes(trace, begins),
    ...copyLane(trace),
  ].filter(({ lane }) => lane.rows > 0);
  // Numbers in labels in their own order: channel 8 before channel 10.
  const collator = new Intl.Collator('en', { numeric: true });
  return lanes.sort(
    (x, y) =>
      GROUPS.indexOf(x.lane.group) - GROUPS.indexOf(y.lane.group) || collator.compare(x.lane.label, y.lane.label),
  );
}
