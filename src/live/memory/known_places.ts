/**
 * Where a recording says that pages were moved to last. What no migration moved (a page that its first access
 * populated, say) is not known from events.
 */
import { EVENT_ENTRY_BYTES_V2, EVENT_TYPE } from '../../device/abi/events.ts';
import { readRecording } from '../../trace/recording_file.ts';

export interface KnownPlaces {
  pid: number;
  /** For each page of the range: the processor that it was moved to last, or null. */
  places: (string | null)[];
  /** Why it may not be so: events were lost, the recording has ended. Empty when nothing speaks against it. */
  doubts: string[];
}

const PAGE = 4096;
const WORDS = EVENT_ENTRY_BYTES_V2 / 4;
const HIGH_PAGES = 2 ** 20;

/** The page of an address in hexadecimal, with or without 0x. */
function pageOf(hex: string): number {
  return Number(hex.replace(/^(0x)?/i, '0x')) / PAGE;
}

/** Applies the migrations among entries to the pages from `first` on. */
function applyMigrations(entries: Uint8Array, first: number, numbers: (number | null)[]): void {
  const words = new Uint32Array(entries.buffer, entries.byteOffset, entries.length / 4);
  for (let at = 0; at < words.length; at += WORDS) {
    if ((words[at] & 255) !== EVENT_TYPE.migration) continue;
    const page = words[at + 5] * HIGH_PAGES + (words[at + 4] >>> 12);
    const pages = Math.ceil((words[at + 6] + words[at + 7] * 2 ** 32) / PAGE);
    const from = Math.max(page - first, 0);
    const to = Math.min(page + pages - first, numbers.length);
    for (let i = from; i < to; i++) numbers[i] = words[at + 1] >>> 16;
  }
}

/** The pages of [address, address + length) in a recording. Throws RecordingFileError. */
export async function knownPlaces(path: string, address: bigint, length: bigint): Promise<KnownPlaces> {
  const first = Number(address / BigInt(PAGE));
  const pages = Number((address + length + BigInt(PAGE - 1)) / BigInt(PAGE)) - first;
  const numbers: (number | null)[] = new Array(pages).fill(null);
  const words = new Map<number, string>();
  const doubts: string[] = [];
  let pid = 0;
  for await (const frame of readRecording(path)) {
    if (frame.kind === 'header') {
      pid = frame.header.pid;
      for (const { number, word } of frame.header.processors) words.set(number, word);
      if (!frame.header.events.includes('migration')) doubts.push('migrations were not recorded');
    } else if (frame.kind === 'processors') {
      for (const { number, word } of frame.processors) words.set(number, word);
    } else if (frame.kind === 'events') {
      const entries = frame.entries.byteOffset % 4 === 0 ? frame.entries : frame.entries.slice();
      applyMigrations(entries, first, numbers);
    } else if (frame.kind === 'drops') {
      doubts.push('events were lost');
    } else if (frame.kind === 'maps') {
      // Memory that is gone was moved nowhere, whatever has its address later.
      const ranges = frame.maps.ranges.map(({ start, end }) => [pageOf(start), pageOf(end)]);
      for (let i = 0; i < pages; i++) {
        if (!ranges.some(([start, end]) => first + i >= start && first + i < end)) numbers[i] = null;
      }
    } else if (frame.kind === 'end') {
      doubts.push('the recording has ended, and the process has gone on');
    }
  }
  const places = numbers.map((number) => (number === null ? null : (words.get(number) ?? null)));
  return { pid, places, doubts: [...new Set(doubts)] };
}
