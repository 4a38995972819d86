/**
 * What a recording says beside its events, read in one pass that passes the events over: header, notes, losses, how it
 * ends, and the managed ranges of the target over time, so that an event's address finds its range.
 *
 * A range lives from one snapshot of the target's maps to another. A part of a range that is left when the rest was
 * unmapped is still the same range; what does not lie within one piece of the snapshot before is a new one. An address
 * that was unmapped and mapped anew, with the same extent, between two snapshots cannot be told from one that stayed.
 */
import { type RecordingEnd, type RecordingHeader, type RecordingMaps, readRecording } from './recording_file.ts';

/** A managed range over the time that it was there. Pages are 4 KiB page numbers of the target. */
export interface RecordedRange {
  /** Its address in hexadecimal; with a number from 2 on where the address had a range before. */
  name: string;
  firstPage: number;
  /** Behind the last one. */
  endPage: number;
  /** Snapshots, counted from 0: the first that has it, and the first that has it no longer (Infinity: none). */
  from: number;
  to: number;
}

/** Pieces of one snapshot by address: first page, page behind the end, index of the range, three numbers each. */
type Pieces = Float64Array;

export interface RecordingSurvey {
  path: string;
  /** With the processors that were known at the end. */
  header: RecordingHeader;
  /** In order of their first snapshot, then by address. */
  ranges: RecordedRange[];
  snapshots: Pieces[];
  /** Entries of all event frames. */
  events: number;
  /** Lost events by type number. */
  dropped: Map<number, number>;
  /** Frames that tell of a loss: places where the stream has gaps. */
  gaps: number;
  notes: { text: string; time?: number }[];
  /** Null where the recorder did not come to its end. */
  end: RecordingEnd | null;
  /** The last frame was cut; bytes at the end of the file that were of no use. */
  truncated: boolean;
  ignoredBytes: number;
}

/** The 4 KiB page of an address in hexadecimal: a plain number for all 64 bits. */
function pageOf(hex: string, roundUp: boolean): number {
  const value = BigInt(/^0x/i.test(hex) ? hex : `0x${hex}`);
  return Number((value + (roundUp ? 4095n : 0n)) >> 12n);
}

/** The address of a page as the ranges' names have it. */
export function pageAddress(page: number): string {
  return (BigInt(page) << 12n).toString(16);
}

/** Gives out the address of a page as a name; the second time with `-2`, and so on. */
export function createRangeNames(): (page: number) => string {
  const given = new Map<number, number>();
  return (page) => {
    const n = (given.get(page) ?? 0) + 1;
    given.set(page, n);
    return n === 1 ? pageAddress(page) : `${pageAddress(page)}-${n}`;
  };
}

/** The index in `pieces`, in numbers, of the piece that holds the page; -1 for none. */
function pieceAt(pieces: Pieces, page: number): number {
  let low = 0;
  let high = pieces.length / 3 - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (page < pieces[middle * 3]) high = middle - 1;
    else if (page >= pieces[middle * 3 + 1]) low = middle + 1;
    else return middle * 3;
  }
  return -1;
}

const NO_PIECES: Pieces = new Float64Array(0);

/** Takes a snapshot in: its ranges are pieces of those before, or new ones; what it has no longer ends. */
function addSnapshot(survey: RecordingSurvey, maps: RecordingMaps, nameFor: (page: number) => string): void {
  const { ranges, snapshots } = survey;
  const index = snapshots.length;
  const before = index === 0 ? NO_PIECES : snapshots[index - 1];
  const found = maps.ranges
    .map(({ start, end }) => [pageOf(start, false), pageOf(end, true)])
    .filter(([first, end]) => end > first)
    .sort((a, b) => a[0] - b[0]);
  const pieces = new Float64Array(found.length * 3);
  const stays = new Set<number>();
  for (const [i, [first, end]] of found.entries()) {
    const at = pieceAt(before, first);
    let range = ranges.length;
    if (at >= 0 && end <= before[at + 1]) range = before[at + 2];
    else
      ranges.push({ name: nameFor(first), firstPage: first, endPage: end, from: index, to: Number.POSITIVE_INFINITY });
    stays.add(range);
    pieces.set([first, end, range], i * 3);
  }
  for (let at = 2; at < before.length; at += 3) if (!stays.has(before[at])) ranges[before[at]].to = index;
  snapshots.push(pieces);
}

/** Reads all frames but the entries. Throws RecordingFileError as readRecording does. */
export async function surveyRecording(path: string): Promise<RecordingSurvey> {
  const survey: Omit<RecordingSurvey, 'header'> & { header: RecordingHeader | null } = {
    path,
    header: null,
    ranges: [],
    snapshots: [],
    events: 0,
    dropped: new Map(),
    gaps: 0,
    notes: [],
    end: null,
    truncated: false,
    ignoredBytes: 0,
  };
  const nameFor = createRangeNames();
  for await (const frame of readRecording(path, { events: false })) {
    switch (frame.kind) {
      case 'header':
        survey.header = frame.header;
        break;
      case 'processors':
        if (survey.header !== null) survey.header = { ...survey.header, processors: frame.processors };
        break;
      case 'events':
        survey.events += frame.count;
        break;
      case 'maps':
        addSnapshot(survey as RecordingSurvey, frame.maps, nameFor);
        break;
      case 'drops':
        survey.gaps++;
        for (const [type, count] of frame.dropped) survey.dropped.set(type, (survey.dropped.get(type) ?? 0) + count);
        break;
      case 'note':
        survey.notes.push(frame.note);
        break;
      case 'end':
        survey.end = frame.end;
        break;
      case 'close':
        survey.truncated = frame.truncated;
        survey.ignoredBytes = frame.ignoredBytes;
        break;
    }
  }
  return survey as RecordingSurvey;
}

/** Finds ranges for the addresses of a second pass over the events. */
export interface RangeFinder {
  /** Says that the stream has come to the next snapshot. */
  pass(): void;
  /** The index of the page's range in `ranges`, or -1 where no snapshot ever had the page. */
  find(page: number): number;
  /** Pages that both a range before and another one after them may have had; the earlier one was taken. */
  ambiguous(): number;
}

/**
 * An event between two snapshots may be of a range that only the earlier one has, or only the later one. Where neither
 * has it (events come late, and so do snapshots) the range is the one that was there last, then the one that comes
 * next.
 */
export function createRangeFinder({ ranges, snapshots }: RecordingSurvey): RangeFinder {
  let passed = 0;
  let earlier = NO_PIECES;
  let later = snapshots.length > 0 ? snapshots[0] : NO_PIECES;
  let ambiguous = 0;
  let far = -1;
  // Snapshots between here and the range's life. Any range that was there before is nearer than the next one.
  const distance = (range: RecordedRange): number => {
    if (range.to <= passed) return passed - range.to;
    return range.from < passed ? 0 : snapshots.length + range.from - passed;
  };
  const farRange = (page: number): number => {
    const has = (i: number): boolean => page >= ranges[i].firstPage && page < ranges[i].endPage;
    if (far >= 0 && has(far)) return far;
    far = -1;
    for (let i = 0; i < ranges.length; i++) {
      if (has(i) && (far < 0 || distance(ranges[i]) < distance(ranges[far]))) far = i;
    }
    return far;
  };
  return {
    pass: () => {
      earlier = later;
      passed++;
      later = passed < snapshots.length ? snapshots[passed] : earlier;
      far = -1;
    },
    find: (page) => {
      const a = pieceAt(earlier, page);
      const b = later === earlier ? -1 : pieceAt(later, page);
      if (a >= 0) {
        if (b >= 0 && earlier[a + 2] !== later[b + 2]) ambiguous++;
        return earlier[a + 2];
      }
      return b >= 0 ? later[b + 2] : farRange(page);
    },
    ambiguous: () => ambiguous,
  };
}
