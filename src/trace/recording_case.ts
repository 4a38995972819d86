/**
 * A recording as a case: a scenario without steps, whose allocations are the managed ranges of the target over time,
 * and the recorded events. That is what `replay`, `validate` and `explain` read.
 *
 * An allocation of a scenario begins at a 2 MiB boundary, so that of a range which does not begins at the boundary
 * below, and offsets count from there: an event keeps its place in its 2 MiB of addresses.
 */
import { basename } from 'node:path';
import { PAGE_SIZE, PAGES_PER_BLOCK } from '../base/units.ts';
import { eventTypeName } from '../device/abi/events.ts';
import { MODULE_PARAMETERS, type ParameterName, parseModuleParameters } from '../model/uvm/params.ts';
import type { KnownMachines } from '../scenario/machine.ts';
import { choices } from '../scenario/shapes.ts';
import type { CaseLine } from './case_check.ts';
import type { UvmEvent } from './event.ts';
import { rebaseEvents } from './rebase_events.ts';
import { createEventDecoder, type EventDecoder } from './recording_events.ts';
import { RECORDING_SUFFIX, RecordingFileError, type RecordingHeader, readRecording } from './recording_file.ts';
import {
  createRangeFinder,
  createRangeNames,
  type RangeFinder,
  type RecordedRange,
  type RecordingSurvey,
  surveyRecording,
} from './recording_ranges.ts';

/** Events of a recording that becomes a case, at most: they are objects, about 200 bytes each. */
export const CASE_EVENTS_MAX = 4_000_000;

export interface RecordingCaseOptions {
  /** The machine profile; the header's, or that of the GPU's name, where it is left out. */
  machine?: string;
  /** The profiles that there are. Where they are left out any name is taken. */
  machines?: KnownMachines;
  /** See CASE_EVENTS_MAX. */
  eventsMax?: number;
}

interface AllocationJson {
  name: string;
  bytes: number;
}

/** What tells a machine. */
interface Named {
  machine: string | null;
  processors: readonly { word: string; name?: string | undefined }[];
}

/** The profile that fits one GPU of this name on its own. */
const H200_PROFILE = 'h200-pcie5';

/**
 * The machine of a recording, or null where neither the options nor the header nor the name of a GPU tells it; and what
 * there is to say about it. Throws RecordingFileError for an option that is no machine.
 */
export function machineOfRecording(
  path: string,
  header: Named,
  { machine, machines }: RecordingCaseOptions,
  notes: string[],
): string | null {
  const known = (name: string): boolean => machines === undefined || Object.hasOwn(machines, name);
  if (machine !== undefined) {
    if (known(machine)) return machine;
    throw new RecordingFileError(`${path}: machine ${JSON.stringify(machine)}: unknown${validMachines(machines)}`);
  }
  if (header.machine !== null && known(header.machine)) return header.machine;
  const gpus = gpuNames(header);
  const model = gpus.length === 1 ? /\bH[12]00\b/.exec(gpus[0])?.[0] : undefined;
  if (model === undefined || !known(H200_PROFILE)) return null;
  const fitted = model === 'H200' ? '' : ', whose costs were fitted to an H200: times are further off';
  notes.push(`The machine is taken from the name of the GPU, ${gpus[0]}: ${H200_PROFILE}${fitted}.`);
  return H200_PROFILE;
}

function validMachines(machines: KnownMachines | undefined): string {
  return machines === undefined ? '' : `; valid: ${choices(Object.keys(machines))}`;
}

function gpuNames({ processors }: Named): string[] {
  return processors.filter(({ word }) => word !== 'cpu').map(({ name }) => name ?? 'a GPU without a name');
}

function machineOf(path: string, header: RecordingHeader, options: RecordingCaseOptions, notes: string[]): string {
  const machine = machineOfRecording(path, header, options, notes);
  if (machine !== null) return machine;
  const said = header.machine === null ? 'names no machine profile' : `names the machine ${header.machine}`;
  const gpus = gpuNames(header).join(', ') || 'no GPU';
  throw new RecordingFileError(
    `${path}: the recording ${said}, and none belongs to its processors (${gpus}): ` +
      `name one with --machine${validMachines(options.machines)}`,
  );
}

/** The module parameters that differ from their defaults, as far as the model knows them. */
export function differingParameters(
  parameters: Readonly<Record<string, unknown>>,
  notes: string[],
): Record<string, string | number> {
  const differing: Record<string, string | number> = {};
  const unknown: string[] = [];
  for (const [name, value] of Object.entries(parameters)) {
    const parsed = parseModuleParameters({ [name]: value as string });
    if (!parsed.ok) {
      unknown.push(name);
      continue;
    }
    const inForce = (parsed.params as unknown as Record<string, string | number>)[name];
    if (inForce !== MODULE_PARAMETERS[name as ParameterName].default) differing[name] = inForce;
  }
  if (unknown.length > 0) notes.push(`The model does not know these module parameters: ${unknown.join(', ')}.`);
  return differing;
}

/** An event with a place. */
type Placed = Exclude<UvmEvent, { event: 'replay' }>;

/** An event at an address that no snapshot has. */
interface Lost {
  event: Placed;
  page: number;
  offset: number;
}

/** An allocation around events at unknown addresses; `block` is the number of its first 2 MiB. */
export interface MadeUpAllocation extends AllocationJson {
  block: number;
}

/** Allocations of the 2 MiB blocks around pages; neighbouring blocks are one. `of` gives that of one of the pages. */
export function makeUpAllocations(
  pages: Iterable<number>,
  nameFor: (page: number) => string,
): { made: MadeUpAllocation[]; of: (page: number) => MadeUpAllocation } {
  const blocks = new Set<number>();
  for (const page of pages) blocks.add(Math.floor(page / PAGES_PER_BLOCK));
  const made: MadeUpAllocation[] = [];
  const ofBlock = new Map<number, MadeUpAllocation>();
  for (const block of [...blocks].sort((a, b) => a - b)) {
    let allocation = made[made.length - 1];
    if (allocation !== undefined && ofBlock.has(block - 1)) allocation.bytes += PAGES_PER_BLOCK * PAGE_SIZE;
    else {
      allocation = { name: nameFor(block * PAGES_PER_BLOCK), bytes: PAGES_PER_BLOCK * PAGE_SIZE, block };
      made.push(allocation);
    }
    ofBlock.set(block, allocation);
  }
  return { made, of: (page) => ofBlock.get(Math.floor(page / PAGES_PER_BLOCK)) as MadeUpAllocation };
}

/** Where a page and a byte in it lie in an allocation that was made up. */
export function madeUpOffset({ block }: MadeUpAllocation, page: number, byte: number): number {
  return (page - block * PAGES_PER_BLOCK) * PAGE_SIZE + byte;
}

/** Gives events at unknown addresses places in allocations that are made up, beside `others` that there are. */
function makeUp(lost: readonly Lost[], nameFor: (page: number) => string, others: number): AllocationJson[] {
  const { made, of } = makeUpAllocations(
    lost.map(({ page }) => page),
    nameFor,
  );
  for (const { event, page, offset } of lost) {
    const allocation = of(page);
    if (made.length + others > 1) event.buffer = allocation.name;
    event.offset = madeUpOffset(allocation, page, offset);
  }
  return made.map(({ name, bytes }) => ({ name, bytes }));
}

/** The page where a range's allocation begins. */
export function allocationPage(range: RecordedRange): number {
  return Math.floor(range.firstPage / PAGES_PER_BLOCK) * PAGES_PER_BLOCK;
}

interface Gathered {
  events: UvmEvent[];
  lost: Lost[];
  decoder: EventDecoder;
  finder: RangeFinder;
}

/** The second pass: all events, with their places. */
async function gatherEvents(survey: RecordingSurvey): Promise<Gathered> {
  const finder = createRangeFinder(survey);
  const begins = survey.ranges.map(allocationPage);
  const events: UvmEvent[] = [];
  const lost: Lost[] = [];
  let lostPage = Number.NaN;
  let lostOffset = 0;
  const several = begins.length > 1;
  const decoder = createEventDecoder(survey.header, (page, byte) => {
    const range = finder.find(page);
    lostPage = range < 0 ? page : Number.NaN;
    lostOffset = byte;
    if (range < 0) return { offset: 0 };
    const offset = (page - begins[range]) * PAGE_SIZE + byte;
    return several ? { buffer: survey.ranges[range].name, offset } : { offset };
  });
  const take = (event: UvmEvent): void => {
    events.push(event);
    if (!Number.isNaN(lostPage)) lost.push({ event: event as Placed, page: lostPage, offset: lostOffset });
    lostPage = Number.NaN;
  };
  for await (const frame of readRecording(survey.path)) {
    if (frame.kind === 'maps') finder.pass();
    else if (frame.kind === 'events') decoder.decode(frame.entries, take);
  }
  return { events, lost, decoder, finder };
}

const NAMES_SHOWN = 8;

function namesText(names: readonly string[]): string {
  const rest = names.length - NAMES_SHOWN;
  return names.slice(0, NAMES_SHOWN).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}

/** What a reader of the recording should know: how it began and ended, and what is missing. */
export function recordingNotes(survey: RecordingSurvey): string[] {
  const notes: string[] = [];
  const { header, dropped, end, truncated, ignoredBytes } = survey;
  if (header.attached !== 'before the first managed allocation') {
    const when = header.attached === 'late' ? 'late' : 'nobody knows when';
    notes.push(`The recorder was attached ${when}: what happened before is not in the recording.`);
  }
  for (const { text } of survey.notes) notes.push(`The recorder noted: ${text}`);
  if (dropped.size > 0) {
    const kinds = [...dropped].map(([type, count]) => `${count} of ${eventTypeName(type) ?? `type ${type}`}`);
    notes.push(`Events were lost at ${survey.gaps} places: ${kinds.join(', ')}.`);
  }
  if (end === null) {
    const cut = truncated ? `; the last ${ignoredBytes} bytes of the file are half a frame` : '';
    notes.push(`The recording has no end: the recorder was killed, or is still at work${cut}.`);
  }
  return notes;
}

/** What had to be made of ranges and events so that they fit into a case. */
export function fittingNotes(
  survey: RecordingSurvey,
  { lost, decoder, finder }: { lost: { length: number }; decoder: EventDecoder; finder: RangeFinder },
  made: readonly AllocationJson[],
): string[] {
  const notes: string[] = [];
  const low = survey.ranges.filter((range) => range.firstPage !== allocationPage(range)).map(({ name }) => name);
  if (low.length > 0) {
    notes.push(`Ranges that do not begin at a multiple of 2 MiB begin at the one below: ${namesText(low)}.`);
  }
  if (made.length > 0) {
    const names = namesText(made.map(({ name }) => name));
    notes.push(`${lost.length} events are at addresses without a known range; made up of 2 MiB blocks: ${names}.`);
  }
  if (finder.ambiguous() > 0) {
    notes.push(
      `${finder.ambiguous()} events are at addresses that were unmapped and used again between two looks at the ` +
        'maps: they count for the range before.',
    );
  }
  for (const [what, count] of decoder.leftOut) notes.push(`Left out, ${count} times: ${what}.`);
  if (decoder.hubFaults() > 0) {
    notes.push(`${decoder.hubFaults()} GPU faults are of the hub (copy engines and the like), not of an SM.`);
  }
  return notes;
}

/**
 * The case of a recording; it stands for line 1. Throws RecordingFileError for what readRecording does not take, for
 * more events than there is memory for, and where no machine profile is known.
 */
export async function createRecordingCase(path: string, options: RecordingCaseOptions = {}): Promise<CaseLine> {
  const survey = await surveyRecording(path);
  const max = options.eventsMax ?? CASE_EVENTS_MAX;
  if (survey.events > max) {
    throw new RecordingFileError(
      `${path}: ${survey.events} events; at most ${max} fit into memory as a case. ` +
        `"uvmlab report" reads any number; record a shorter time, or fewer kinds of events, to replay them`,
    );
  }
  const notes = recordingNotes(survey);
  const machine = machineOf(path, survey.header, options, notes);
  const parameters = differingParameters(survey.header.parameters, notes);
  const gathered = await gatherEvents(survey);
  const { events } = gathered;
  const nameFor = createRangeNames();
  for (const { firstPage } of survey.ranges) nameFor(firstPage);
  const made = makeUp(gathered.lost, nameFor, survey.ranges.length);
  const ranges = survey.ranges.map((range) => ({
    name: range.name,
    bytes: (range.endPage - allocationPage(range)) * PAGE_SIZE,
  }));
  const allocations: AllocationJson[] = [...ranges, ...made];
  // The only range of the maps turned out not to be the only allocation.
  if (ranges.length === 1 && made.length > 0) {
    for (const event of events) if (event.event !== 'replay') event.buffer ??= ranges[0].name;
  }
  rebaseEvents(events);
  notes.push(...fittingNotes(survey, gathered, made));
  const name = basename(path, RECORDING_SUFFIX);
  const scenario = { name, machine, parameters, allocations, steps: [] };
  return { kind: 'case', line: 1, scenario, recordedFromStep: 0, observed: { events }, notes };
}
