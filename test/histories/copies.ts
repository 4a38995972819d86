/**
 * Random histories with copies: between the steps of a history the copy routine is called, at once, asynchronously or
 * armed for the next step. Numbers of rules are those of docs/copy-routine.md.
 *
 * A history is carried out once with its copies and, where nothing in it depends on time, once without: the driver's
 * events and state must be the same (rule 52). Ioctl 62, which reads the same bytes in the driver's own way, is asked in
 * both, since it may create blocks.
 */
import { createPrng, type Prng, prngBelow, prngChance } from '../../src/base/prng.ts';
import {
  COPY_IOCTL_NUMBERS,
  COPY_STATUS_BYTES,
  NEXT_COPY_ARM,
  NEXT_COPY_ASYNC,
  SET_COPY_FROM_BYTES,
  SET_NEXT_COPY_BYTES,
  STATUS_DISARM,
  uvmCopyIoctl,
  uvmFileClose,
} from '../../src/model/copy_routine/ioctl.ts';
import {
  COPY_ARMED,
  COPY_DONE,
  COPY_ENDED,
  COPY_RUNNING,
  type CopyRecord,
  FORM_ARMED,
  HOW_MAPPED,
  HOW_MIGRATED,
  HOW_STALE,
} from '../../src/model/copy_routine/types.ts';
import { driverStateHash } from '../../src/model/driver_state.ts';
import { contentsWords } from '../../src/model/gpu/contents.ts';
import { nextEventTime } from '../../src/model/kernel/clock.ts';
import { mmMapPlain } from '../../src/model/kernel/mm.ts';
import type { Model } from '../../src/model/state.ts';
import { rangeGroupAllMigratable } from '../../src/model/uvm/range_group.ts';
import {
  NV_ERR_INVALID_ADDRESS,
  NV_ERR_INVALID_ARGUMENT,
  NV_ERR_INVALID_STATE,
  NV_ERR_STATE_IN_USE,
  NV_OK,
  NV_WARN_NOTHING_TO_DO,
} from '../../src/model/uvm/status.ts';
import { EVENT_THRASHING, EVENT_THROTTLING_START } from '../../src/model/uvm/tools.ts';
import { toolsReadProcessMemory } from '../../src/model/uvm/tools_access.ts';
import { pageResidentProcessors } from '../../src/model/uvm/va_block.ts';
import { vaBlockFind, vaRangeFind } from '../../src/model/uvm/va_space.ts';
import { type Coverage, count } from './coverage.ts';
import { generateHistory } from './generate.ts';
import { checkAtRest, fail, type Harness, pageAt, refill, rest, runBody } from './harness.ts';
import type { History, HistoryStep } from './history.ts';
import { runHistory } from './run.ts';

/** Plain memory of the program, far above the buffers. */
const PLAIN = 2 ** 22;
const PLAIN_PAGES = 4096;
const POLICIES = ['block', 'batch', 'batch flush', 'once'];
const HOW_NAMES: Readonly<Record<number, string>> = {
  [HOW_MIGRATED]: 'migrated',
  [HOW_MAPPED]: 'mapped',
  [HOW_STALE]: 'stale',
};

/** What the state of a run with copies adds to its harness. */
interface Copies {
  h: Harness;
  p: Prng;
  /** Copies are made; otherwise ioctl 62 alone is asked. */
  real: boolean;
  coverage: Coverage;
  /** First free page of the plain memory. */
  next: number;
  /** Asynchronous copies under way, with the bytes that must arrive. */
  open: { record: CopyRecord; want: Uint8Array }[];
  /** By token: what the page's first word was when a bottom half took an armed copy for it. */
  claimed: Map<number, number>;
  /** And when the push that copies was carried out: others may have written until they were unmapped. */
  carried: Map<number, number>;
  /** Tokens of armed copies whose end has been looked at. */
  seen: Set<number>;
}

/** Steps of which nothing hangs on when exactly they happen. */
const TIMELESS = new Set<HistoryStep['do']>([
  'access',
  'stride',
  'prefetch',
  'advise',
  'memcpy',
  'free',
  'allocate',
  'group',
]);

/** Makes of a history the one that is carried out. */
export type HistoryChange = (history: History) => History;

/** The history of a seed, under the replay policy of its turn; every second one without what depends on time. */
export function copyHistory(seed: number, change: HistoryChange): History {
  const history = change(generateHistory(seed));
  history.parameters['uvm_perf_fault_replay_policy'] = seed % 4;
  history.observed = true;
  if (seed % 8 < 4) return history;
  history.parameters['uvm_perf_thrashing_enable'] = 0;
  history.steps = history.steps.filter((step) => TIMELESS.has(step.do));
  return history;
}

function isTimeless(history: History): boolean {
  return history.parameters['uvm_perf_thrashing_enable'] === 0 && history.steps.every((step) => TIMELESS.has(step.do));
}

function byteAddress(page: number, offset = 0): bigint {
  return BigInt(page) * 4096n + BigInt(offset);
}

/** Makes one ioctl; returns rmStatus. */
function ioctl(c: Copies, command: number, view: DataView, statusAt: number): number {
  const { h } = c;
  runBody(
    h,
    (function* () {
      const { m, run } = h;
      const result = yield* uvmCopyIoctl(m, run.file, run.space.mm, command, new Uint8Array(view.buffer));
      if (result !== 0) fail(`ioctl ${command} ends with ${result}`);
    })(),
  );
  return view.getUint32(statusAt, true);
}

function setCopyFrom(c: Copies, page: number, pages: number): number {
  const view = new DataView(new ArrayBuffer(SET_COPY_FROM_BYTES));
  view.setBigUint64(0, page === 0 ? 0n : byteAddress(page), true);
  view.setBigUint64(8, BigInt(pages) * 4096n, true);
  return ioctl(c, COPY_IOCTL_NUMBERS.setCopyFromAddress, view, 20);
}

function setNextCopy(c: Copies, page: number, offset: number, flags: number): { status: number; view: DataView } {
  const view = new DataView(new ArrayBuffer(SET_NEXT_COPY_BYTES));
  view.setBigUint64(0, byteAddress(page, offset), true);
  view.setUint32(8, flags, true);
  return { status: ioctl(c, COPY_IOCTL_NUMBERS.setNextCopyAddress, view, 12), view };
}

function expectStatus(have: number, want: number, what: string): void {
  if (have !== want) fail(`${what}: status 0x${have.toString(16)}, not 0x${want.toString(16)}`);
}

/** What ioctl 62 reads; null where it does not succeed to the end. */
function oracle(c: Copies, page: number, pages: number): Uint8Array | null {
  const out = new Uint8Array(pages * 4096);
  let ok = false;
  runBody(
    c.h,
    (function* () {
      yield c.h.m.k.now;
      const read = yield* toolsReadProcessMemory(c.h.m, c.h.run.space, page, 0, out);
      ok = read.status === NV_OK && read.bytes === out.length;
    })(),
  );
  return ok ? out : null;
}

/** The bytes of plain memory from byte `offset` of `page` on. */
function plainBytes(m: Model, page: number, offset: number, length: number): Uint8Array {
  if (m.contents === null) return new Uint8Array(length);
  const pages = Math.ceil((offset + length) / 4096);
  const all = new Uint8Array(pages * 4096);
  for (let i = 0; i < pages; i++) all.set(new Uint8Array(contentsWords(m.contents, 0, page + i).buffer), i * 4096);
  return all.subarray(offset, offset + length);
}

function sameBytes(have: Uint8Array, want: Uint8Array): boolean {
  return have.length === want.length && have.every((byte, i) => byte === want[i]);
}

function countSources(c: Copies, page: number, pages: number): void {
  for (let i = page; i < page + pages; i++) {
    const block = vaBlockFind(c.h.run.space, i);
    const residents = block === null ? 0 : pageResidentProcessors(block, i - block.startPage);
    const many = (residents & (residents - 1)) !== 0;
    const name =
      residents === 0 ? 'nowhere' : many ? 'duplicated' : residents === 1 ? 'cpu' : residents === 2 ? 'gpu0' : 'peer';
    count(c.coverage, `source ${name}`);
  }
}

/** A range of pages in one buffer: mostly few, sometimes over a block's end. */
function someRange(c: Copies): { page: number; pages: number } {
  const { h, p } = c;
  const buffer = prngBelow(p, h.history.buffers.length);
  const size = h.history.buffers[buffer].pages;
  const first = prngBelow(p, size);
  const most = prngChance(p, 1, 4) ? size - first : Math.min(size - first, 20);
  return { page: pageAt(h, buffer, first), pages: 1 + prngBelow(p, most) };
}

function allManaged(c: Copies, page: number, pages: number): boolean {
  for (let i = page; i < page + pages; i++) if (vaRangeFind(c.h.run.space, i) === null) return false;
  return true;
}

/**
 * Rules 51 and 53: nothing changed but channels, and nobody was told. What ended meanwhile by itself, a timer or an
 * asynchronous copy before this one, is not this copy's doing.
 */
function unchanged(c: Copies, before: string, events: number, due: number): void {
  const { m } = c.h;
  if (m.k.now >= due || c.open.length > 0) count(c.coverage, 'something else ended during a copy');
  else if (driverStateHash(m) !== before) fail("rule 51: a copy changed the driver's state");
  if (m.tools.log.count !== events) fail('rule 51: a copy left an event');
}

function lastRecord(c: Copies): CopyRecord {
  return c.h.run.space.copy.records[c.h.run.space.copy.records.length - 1];
}

/** A copy at once or asynchronously, to plain memory, held against ioctl 62. */
function plainCopy(c: Copies): void {
  const { h, p } = c;
  const { page, pages } = someRange(c);
  const asynchronous = prngChance(p, 1, 3);
  const offset = !asynchronous && prngChance(p, 1, 3) ? prngBelow(p, 4096) : 0;
  const legal = allManaged(c, page, pages);
  const want = legal ? oracle(c, page, pages) : null;
  if (!c.real) return;
  const armed = h.run.space.copy.armed !== 0;
  const set = setCopyFrom(c, page, pages);
  expectStatus(set, !legal ? NV_ERR_INVALID_ADDRESS : armed ? NV_ERR_STATE_IN_USE : NV_OK, 'rule 8');
  if (set !== NV_OK || want === null) return;
  countSources(c, page, pages);
  const to = c.next;
  c.next += pages + 2;
  const before = driverStateHash(h.m);
  const events = h.m.tools.log.count;
  const due = nextEventTime(h.m);
  const { status, view } = setNextCopy(c, to, offset, asynchronous ? NEXT_COPY_ASYNC : 0);
  expectStatus(status, NV_OK, 'a copy to plain memory');
  count(c.coverage, asynchronous ? 'form async' : offset === 0 ? 'form immediate' : 'form immediate, unaligned');
  if (asynchronous && lastRecord(c).state === COPY_RUNNING) {
    c.open.push({ record: lastRecord(c), want });
    return;
  }
  if (asynchronous && h.history.confidentialComputing) count(c.coverage, 'form async that waited');
  unchanged(c, before, events, due);
  if (Number(view.getBigUint64(16, true)) !== pages * 4096) fail('bytesCopied is not the whole length');
  if (!sameBytes(plainBytes(h.m, to, offset, pages * 4096), want)) fail(`rule 53: ${pages} pages from ${page} differ`);
}

/** A copy to managed memory: staged, and B's faults are B's. */
function managedCopy(c: Copies): void {
  const { h } = c;
  const from = someRange(c);
  const to = someRange(c);
  const pages = Math.min(from.pages, to.pages, 4);
  const { run } = h;
  const apart = Math.abs(from.page - to.page) >= pages;
  const legal = allManaged(c, from.page, pages) && allManaged(c, to.page, pages);
  const want = legal ? oracle(c, from.page, pages) : null;
  if (!c.real || want === null || run.space.copy.armed !== 0 || h.scarce) return;
  if (!rangeGroupAllMigratable(run.space, to.page, to.page + pages)) return;
  expectStatus(setCopyFrom(c, from.page, pages), NV_OK, 'rule 8');
  const { status } = setNextCopy(c, to.page, 0, 0);
  expectStatus(status, apart ? NV_OK : NV_ERR_INVALID_ARGUMENT, 'rule 12');
  if (status !== NV_OK) return;
  count(c.coverage, 'form immediate, staged');
  runBody(h, rest(h));
  const have = oracle(c, to.page, pages);
  if (have === null || !sameBytes(have, want)) fail('rule 14: what was staged is not what arrived');
  const words = new Uint32Array(want.buffer);
  for (let i = 0; i < pages; i++) run.state.expected?.set(to.page + i, words[i * 1024]);
}

/** The page that the next step's GPU will touch, or any page. */
function likelyPage(c: Copies, step: HistoryStep | undefined): number {
  const { h, p } = c;
  if (step?.do === 'access' && step.on > 0) return pageAt(h, step.buffer, step.pages[prngBelow(p, step.pages.length)]);
  if (step?.do === 'stride' && step.on > 0) return pageAt(h, step.buffer, step.first);
  if (step?.do === 'burst') {
    const programs = step.programs.filter(({ on, accesses }) => on > 0 && accesses.length > 0);
    if (programs.length > 0) {
      const [buffer, page] = programs[prngBelow(p, programs.length)].accesses[0];
      return pageAt(h, buffer, page);
    }
  }
  return someRange(c).page;
}

/** Arms a copy for the next step; a second arming is refused. */
function armCopy(c: Copies, step: HistoryStep | undefined): void {
  const { p } = c;
  const cleared = prngChance(p, 1, 4);
  const page = likelyPage(c, step);
  if (!c.real) return;
  const { copy } = c.h.run.space;
  if (copy.armed === 0) {
    const set = setCopyFrom(c, cleared ? 0 : page, 1);
    expectStatus(set, cleared || allManaged(c, page, 1) ? NV_OK : NV_ERR_INVALID_ADDRESS, 'rule 8');
    if (set !== NV_OK) return;
    if (cleared) expectStatus(setNextCopy(c, c.next, 0, 0).status, NV_ERR_INVALID_STATE, 'rule 11');
  }
  const busy = copy.armed !== 0;
  const { status } = setNextCopy(c, c.next, 0, NEXT_COPY_ARM);
  c.next += 2;
  expectStatus(status, busy ? NV_ERR_STATE_IN_USE : NV_OK, busy ? 'rule 31' : 'rule 30');
  if (!busy) count(c.coverage, cleared ? 'form armed, A cleared' : 'form armed, A set');
}

function disarmCopy(c: Copies): void {
  const token = c.h.run.space.copy.armed;
  if (token === 0) return;
  const view = new DataView(new ArrayBuffer(COPY_STATUS_BYTES));
  view.setBigUint64(0, BigInt(token), true);
  view.setUint32(8, STATUS_DISARM, true);
  expectStatus(ioctl(c, COPY_IOCTL_NUMBERS.copyStatus, view, 12), NV_OK, 'rule 31');
  expectStatus(view.getUint32(16, true), COPY_ENDED, 'the state of a disarmed copy');
  expectStatus(view.getUint32(20, true), NV_WARN_NOTHING_TO_DO, 'the status of a disarmed copy');
  c.seen.add(token);
  count(c.coverage, 'armed disarmed');
}

/** Rule 49: with Confidential Computing the bottom half waits for a copy out of a GPU, and the record says how long. */
function checkLengthened(c: Copies, record: CopyRecord): void {
  const [push] = record.pushes;
  if (push === undefined || !c.h.history.confidentialComputing) return;
  if (record.bottomHalfTime < push.end - push.begin || record.end <= push.end) {
    fail('rule 49: the bottom half did not wait for the copy and decrypt');
  }
  count(c.coverage, 'armed, with a longer bottom half');
}

/** What an armed copy that was taken must be, at rest. */
function checkArmed(c: Copies, record: CopyRecord): void {
  const { m } = c.h;
  if (record.state === COPY_ENDED) {
    count(c.coverage, 'armed ended by a cancelled fault');
    if (record.status === NV_OK || record.bytes !== 0) fail('rule 35: a copy that ended says that it copied');
    return;
  }
  count(c.coverage, `armed ${HOW_NAMES[record.how]}`);
  count(c.coverage, `armed under policy ${POLICIES[m.params.uvm_perf_fault_replay_policy]}`);
  if (m.spec.gpus > 1) count(c.coverage, 'armed with several GPUs');
  checkLengthened(c, record);
  if (record.status !== NV_OK || record.bytes !== 4096) fail('an armed copy that was taken copied no page');
  if (record.how === HOW_STALE && record.snapshot) fail('rule 40: a stale fault gives no snapshot');
  if (record.how === HOW_MIGRATED && !record.snapshot) fail('rule 39: a page that moved gives a snapshot');
  if (!record.snapshot) return;
  count(c.coverage, 'armed snapshot');
  const { pageTablePush, replay } = record;
  if (replay === null) fail('rule 47: no replay followed the copy');
  else if (record.end > replay.begin) fail('rule 55: the replay begins before the copy has ended');
  if (pageTablePush !== null && record.end > pageTablePush.begin)
    fail('rule 55: the page is mapped before the copy ends');
  if (pageTablePush !== null && replay !== null && pageTablePush.begin > replay.begin) {
    fail('rule 55: the replay begins before the page is mapped');
  }
  const have = new Uint32Array(plainBytes(m, record.toPage, 0, 4096).slice().buffer)[0];
  const want = c.claimed.get(record.token);
  if (have === want) return;
  // Whoever had the page mapped before the migration wrote on until the GPU unmapped it; rule 55 tells that this was
  // before the copy.
  if (have === c.carried.get(record.token)) count(c.coverage, 'armed snapshot, written until it was unmapped');
  else fail(`rule 39: the snapshot of page ${record.fromPage} begins with ${have}, not with ${want}`);
}

/** Rule 49: whatever happened, all staging buffers were given back but the one that belongs to the VA space. */
function checkBuffers(m: Model): void {
  for (const { channelManager } of m.gpus) {
    const { confComputing } = channelManager;
    if (confComputing === null) continue;
    const { buffers, free } = confComputing.dma;
    if (new Set(free).size !== buffers.length - 1 || free.length !== buffers.length - 1) {
      fail('rule 49: a staging buffer was not given back, or twice');
    }
  }
}

/** What must hold of all copies at rest. */
function checkCopies(c: Copies): void {
  const { m, run } = c.h;
  checkBuffers(m);
  for (const { record, want } of c.open.splice(0)) {
    if (record.state === COPY_RUNNING && record.end > m.k.now) fail('a copy is under way at rest');
    const have = plainBytes(m, record.toPage, 0, record.pages * 4096);
    // Rule 29: whoever has the page mapped for writing may write it while it is copied.
    if (!sameBytes(have, want) && record.writableOn === 0) fail('rule 20: a copy under way was overtaken');
  }
  for (const record of run.space.copy.records) {
    if (record.form !== FORM_ARMED || c.seen.has(record.token)) continue;
    if (record.state === COPY_ARMED) {
      if (run.space.copy.armed !== record.token) fail('rule 5: an armed copy that is not the armed one');
      continue;
    }
    c.seen.add(record.token);
    checkArmed(c, record);
  }
}

/** Rules 26 and 50: after the close nothing is held. */
function checkReleased(c: Copies): void {
  const { m, run } = c.h;
  if (run.space.copy.armed !== 0) count(c.coverage, 'armed still waiting');
  runBody(c.h, uvmFileClose(m, run.file));
  runBody(c.h, rest(c.h));
  for (const record of run.space.copy.records) {
    if (record.state !== COPY_DONE && record.state !== COPY_ENDED) fail(`rule 50: copy ${record.token} is not over`);
    if (record.pin >= 0 || record.mappedGpus !== 0 || record.retainedGpus !== 0) {
      fail(`rule 26: copy ${record.token} still holds memory or GPUs`);
    }
  }
  if (m.k.pins.some(({ live }) => live)) fail('rule 26: memory stays pinned');
}

/** Between two steps: some copies, and maybe one that is armed for the next step. */
function act(c: Copies, step: HistoryStep | undefined): void {
  const { p, h } = c;
  for (let i = prngBelow(p, 3); i > 0; i--) {
    refill(h);
    if (prngChance(p, 1, 5) && !isTimeless(h.history)) managedCopy(c);
    else plainCopy(c);
  }
  if (prngChance(p, 1, 12)) disarmCopy(c);
  if (prngChance(p, 3, 5)) armCopy(c, step);
}

/** Watches the stages of copies: what a page held when its copy was taken, and that nothing is let go too early. */
function watchStages(
  m: Model,
  { claimed, carried }: Pick<Copies, 'claimed' | 'carried'>,
  runOf: () => Harness | null,
): void {
  const before = m.res.why;
  if (before === null) return;
  const word = (h: Harness, page: number): number => h.run.state.expected?.get(page) ?? 0;
  m.res.why = {
    ...before,
    pushRun: (gpu, channelIndex, value, time) => {
      before.pushRun?.(gpu, channelIndex, value, time);
      const h = runOf();
      for (const token of claimed.keys()) {
        const record = h?.run.space.copy.records[token - 1];
        const [push] = record?.pushes ?? [];
        if (h === null || record === undefined || push === undefined || carried.has(token)) continue;
        if (push.gpu === gpu && push.channel % 64 === channelIndex && push.value === value) {
          carried.set(token, word(h, record.fromPage));
        }
      }
    },
    copyStage: (token, stage, time, detail) => {
      before.copyStage?.(token, stage, time, detail);
      const h = runOf();
      if (h === null) return;
      const record = h.run.space.copy.records[token - 1];
      if (stage === 'claimed') claimed.set(token, word(h, Number(detail['page'])));
      if (stage === 'released' && record !== undefined && record.pushes.some(({ end }) => end > time)) {
        fail(`rule 26: copy ${token} lets go before it has ended`);
      }
    },
  };
}

interface Outcome {
  failure: string | null;
  step: number;
  harness: Harness | null;
}

function carryOut(
  history: History,
  seed: number,
  real: boolean,
  coverage: Coverage,
  plant?: (m: Model) => void,
): Outcome {
  let c: Copies | null = null;
  const watched = { claimed: new Map<number, number>(), carried: new Map<number, number>() };
  const begin = (h: Harness): Copies => {
    mmMapPlain(h.m.k, h.run.space.mm, PLAIN, PLAIN_PAGES * 16);
    return { h, p: createPrng(seed), real, coverage, next: PLAIN, open: [], ...watched, seen: new Set() };
  };
  let at = 0;
  const outcome = runHistory(
    history,
    new Map(),
    (m) => {
      watchStages(m, watched, () => c?.h ?? null);
      plant?.(m);
    },
    (h) => {
      c ??= begin(h);
      if (real) checkCopies(c);
      at++;
      act(c, history.steps[at]);
      refill(h);
      if (at < history.steps.length && c.open.length === 0) {
        runBody(h, rest(h));
        checkAtRest(h);
      }
      if (at < history.steps.length) return;
      runBody(h, rest(h));
      if (real) checkCopies(c);
      if (real) checkReleased(c);
      checkAtRest(h);
    },
  );
  return outcome;
}

/** The identity of a run's events: everything but times. */
function identities(m: Model): string {
  const { log } = m.tools;
  const { kind, a, b, src, dst, processors, page, pages, step } = log;
  const rows: string[] = [];
  for (let i = 0; i < log.count; i++) {
    rows.push([kind[i], a[i], b[i], src[i], dst[i], processors[i], page[i], pages[i], step[i]].join(' '));
  }
  // Migrations and replays are delivered when somebody looks: their order among the others is a matter of time.
  return rows.sort().join('\n');
}

/**
 * A hash of the driver's state at the end of a history. With Confidential Computing without the log, which is compared
 * by its identities: the copy's push makes a small ring full earlier, and whoever finds it full collects, so that the
 * same events come out in another order.
 */
function stateAtEnd(history: History, m: Model): string {
  if (!history.confidentialComputing) return driverStateHash(m, false);
  const { log } = m.tools;
  const { count: all } = log;
  log.count = 0;
  const hash = driverStateHash(m, false);
  log.count = all;
  return hash;
}

function thrashes(m: Model): boolean {
  const { kind, count: n } = m.tools.log;
  return kind.subarray(0, n).some((k) => k === EVENT_THRASHING || k === EVENT_THROTTLING_START);
}

/** Carries out the history of a seed with its copies, changed where that is asked for; returns what is wrong, or null. */
export function checkCopySeed(
  seed: number,
  coverage: Coverage,
  plant?: (m: Model) => void,
  change: HistoryChange = (history) => history,
): string | null {
  const history = copyHistory(seed, change);
  if (history.steps.length === 0) return null;
  const counted: Coverage = new Map();
  const withCopies = carryOut(history, seed, true, counted, plant);
  for (const [name, by] of counted) count(coverage, name, by);
  const where = `seed ${seed}, step ${withCopies.step}`;
  if (withCopies.failure !== null) return `${where}: ${withCopies.failure}`;
  if (!isTimeless(history) || withCopies.harness === null || thrashes(withCopies.harness.m)) return null;
  const without = carryOut(history, seed, false, new Map());
  if (without.failure !== null) return `${where}, without copies: ${without.failure}`;
  if (without.harness === null) return null;
  count(coverage, 'compared with the same history without copies');
  const [m, other] = [withCopies.harness.m, without.harness.m];
  if (identities(m) !== identities(other)) return `${where}: rule 52: events differ from those without copies`;
  if (stateAtEnd(history, m) !== stateAtEnd(history, other)) return `${where}: rule 52: the state differs`;
  return null;
}

/** Names that no run of many histories may leave at zero. */
export const COPY_REQUIRED: readonly string[] = [
  ...['cpu', 'gpu0', 'peer', 'nowhere', 'duplicated'].map((name) => `source ${name}`),
  'form immediate',
  'form immediate, unaligned',
  'form immediate, staged',
  'form async',
  'form armed, A set',
  'form armed, A cleared',
  ...Object.values(HOW_NAMES).map((name) => `armed ${name}`),
  ...POLICIES.map((name) => `armed under policy ${name}`),
  'armed snapshot',
  'armed disarmed',
  'armed still waiting',
  'armed ended by a cancelled fault',
  'armed with several GPUs',
  'compared with the same history without copies',
];

/** And with Confidential Computing. */
export const COPY_REQUIRED_CONF_COMPUTING: readonly string[] = [
  ...COPY_REQUIRED,
  'form async that waited',
  'armed, with a longer bottom half',
];
