/**
 * Running totals of a recording, taken from raw entries of version 2 as they come, without an object for any of them;
 * and the lines that show them while a program runs.
 */
import { MIGRATION_CAUSE_WORDS } from '../device/abi/event_words.ts';
import { EVENT_ENTRY_BYTES_V2, EVENT_TYPE, EVENT_TYPES_ALL } from '../device/abi/events.ts';

const WORDS = EVENT_ENTRY_BYTES_V2 / 4;
const HIGH = 2 ** 32;
const PAGES_PER_BLOCK = 512;
/** Rows of `bytes`: cause, and whether into a GPU, out of it, or between two. */
const DIRECTIONS = ['to gpu', 'to cpu', 'between gpus', 'between cpu nodes'] as const;

/** Plain data: it goes from one thread to another. */
export interface LiveTally {
  entries: number;
  /** Events by type number. */
  events: Float64Array;
  /** Batches of GPU faults, as far as they begin where another number was before. */
  batches: number;
  lastBatch: number;
  /** Migrated bytes by cause number and direction: cause * 4 + direction. */
  bytes: Float64Array;
  dropped: number;
  /** Faults by 2 MiB block of addresses. */
  blocks: Map<number, number>;
}

export function createLiveTally(): LiveTally {
  return {
    entries: 0,
    events: new Float64Array(EVENT_TYPES_ALL),
    batches: 0,
    lastBatch: -1,
    bytes: new Float64Array(MIGRATION_CAUSE_WORDS.length * DIRECTIONS.length),
    dropped: 0,
    blocks: new Map(),
  };
}

function tallyMigration(tally: LiveTally, w: Uint32Array, at: number): void {
  const cause = (w[at] >>> 8) & 255;
  const fromCpu = (w[at + 1] & 0xffff) === 0;
  const toCpu = w[at + 1] >>> 16 === 0;
  const direction = fromCpu ? (toCpu ? 3 : 0) : toCpu ? 1 : 2;
  if (cause < MIGRATION_CAUSE_WORDS.length) {
    tally.bytes[cause * DIRECTIONS.length + direction] += w[at + 6] + w[at + 7] * HIGH;
  }
}

/** Adds whole entries. */
export function tallyEntries(tally: LiveTally, entries: Uint8Array): void {
  const bytes = entries.byteOffset % 4 === 0 ? entries : entries.slice();
  const w = new Uint32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / 4));
  // Faults come in runs on one block: it is looked up when it changes.
  let block = -1;
  let faults = 0;
  const { blocks } = tally;
  for (let at = 0; at + WORDS <= w.length; at += WORDS) {
    const type = w[at] & 255;
    tally.events[type & (EVENT_TYPES_ALL - 1)]++;
    if (type === EVENT_TYPE.migration) tallyMigration(tally, w, at);
    if (type !== EVENT_TYPE.gpuFault && type !== EVENT_TYPE.cpuFault) continue;
    if (type === EVENT_TYPE.gpuFault && w[at + 8] !== tally.lastBatch) {
      tally.lastBatch = w[at + 8];
      tally.batches++;
    }
    const of = Math.floor((w[at + 3] * 2 ** 20 + (w[at + 2] >>> 12)) / PAGES_PER_BLOCK);
    if (of !== block) {
      if (faults > 0) blocks.set(block, (blocks.get(block) ?? 0) + faults);
      block = of;
      faults = 0;
    }
    faults++;
  }
  if (faults > 0) blocks.set(block, (blocks.get(block) ?? 0) + faults);
  tally.entries += w.length / WORDS;
}

export function tallyDrops(tally: LiveTally, count: number): void {
  tally.dropped += count;
}

/** Migrated bytes that are not zero, with words: `coherence to gpu`. */
export function migratedBytes(tally: LiveTally): { what: string; bytes: number }[] {
  const out: { what: string; bytes: number }[] = [];
  for (const [cause, word] of MIGRATION_CAUSE_WORDS.entries()) {
    for (const [direction, way] of DIRECTIONS.entries()) {
      const bytes = tally.bytes[cause * DIRECTIONS.length + direction];
      if (bytes > 0) out.push({ what: `${word} ${way}`, bytes });
    }
  }
  return out;
}

/** The 2 MiB blocks with most faults: their addresses, most first. */
export function hottestBlocks(tally: LiveTally, count: number): { address: bigint; faults: number }[] {
  return [...tally.blocks]
    .sort((a, b) => b[1] - a[1] || a[0] - b[0])
    .slice(0, count)
    .map(([block, faults]) => ({ address: BigInt(block) << 21n, faults }));
}

const number = (value: number): string => Math.round(value).toLocaleString('en-US');

function size(bytes: number): string {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  if (bytes >= 2 ** 20) return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  return `${(bytes / 2 ** 10).toFixed(0)} KiB`;
}

const clock = (seconds: number): string => `${seconds.toFixed(1)} s`;

/** One line for a log: what has been counted since the beginning. */
export function livePlainLine(tally: LiveTally, seconds: number): string {
  const { events } = tally;
  const parts = [
    `gpu faults ${number(events[EVENT_TYPE.gpuFault])} in ${number(tally.batches)} batches`,
    `cpu faults ${number(events[EVENT_TYPE.cpuFault])}`,
    ...migratedBytes(tally).map(({ what, bytes }) => `${what} ${size(bytes)}`),
  ];
  if (tally.dropped > 0) parts.push(`LOST ${number(tally.dropped)}`);
  return `${clock(seconds)}: ${parts.join(', ')}`;
}

/** Rows of hottest blocks. */
const HOTTEST = 5;

/** The view: what is there now, and the rate since the tally shown before (null: none), taken half a second apart. */
export function liveLines(before: LiveTally | null, tally: LiveTally, seconds: number, between = 0.5): string[] {
  const rate = (type: number): string => {
    if (before === null) return '';
    const perSecond = (tally.events[type] - before.events[type]) / between;
    return `  ${number(perSecond)}/s`;
  };
  const row = (name: string, type: number): string =>
    `  ${name.padEnd(12)} ${number(tally.events[type]).padStart(13)}${rate(type)}`;
  const lost = tally.dropped > 0 ? `, ${number(tally.dropped)} LOST` : '';
  const lines = [
    `recording, ${clock(seconds)}, ${number(tally.entries)} events${lost}`,
    row('gpu faults', EVENT_TYPE.gpuFault),
    `  ${'batches'.padEnd(12)} ${number(tally.batches).padStart(13)}`,
    row('replays', EVENT_TYPE.replay),
    row('cpu faults', EVENT_TYPE.cpuFault),
    row('migrations', EVENT_TYPE.migration),
    row('remote maps', EVENT_TYPE.mapRemote),
    row('thrashing', EVENT_TYPE.thrashing),
    ...migratedBytes(tally).map(({ what, bytes }) => `  ${what.padEnd(26)} ${size(bytes).padStart(10)}`),
  ];
  const hottest = hottestBlocks(tally, HOTTEST);
  if (hottest.length > 0) lines.push('  2 MiB with most faults:');
  for (const { address, faults } of hottest) lines.push(`    0x${address.toString(16)}  ${number(faults)}`);
  return lines;
}
