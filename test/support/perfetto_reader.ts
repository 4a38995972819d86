/**
 * Reads a trace of Perfetto by the listing of its format in test/fixtures, and holds it to the rules that Perfetto's
 * own reader has: packets are taken by time, those of one time in the order of the file; an end closes the slice that
 * was begun last on its track; interned texts and tracks are there before they are used.
 */
import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';
import { assert } from '../../src/base/assert.ts';

interface Long {
  low: number;
  high: number;
}
interface Annotation {
  nameIid: Long;
  value: 'boolValue' | 'uintValue' | 'intValue' | 'doubleValue' | 'stringValue' | 'stringValueIid';
  boolValue: boolean;
  uintValue: Long;
  intValue: Long;
  doubleValue: number;
  stringValue: string;
  stringValueIid: Long;
}
interface Interned {
  iid: Long;
  name: string;
  str: Uint8Array;
}
interface Descriptor {
  uuid: Long;
  name: string;
  parentUuid: Long;
  process: { pid: number; processName: string } | null;
  counter: { unit: number } | null;
  siblingMergeBehavior: number;
  siblingOrderRank: number;
  processOrdering: number;
}
interface TrackEvent {
  type: number;
  trackUuid: Long;
  nameIid: Long;
  categoryIids: Long[];
  debugAnnotations: Annotation[];
  counterValue: Long;
  flowIds: Long[];
}
interface Packet {
  timestamp: Long;
  trustedPacketSequenceId: number;
  sequenceFlags: number;
  firstPacketOnSequence: boolean;
  data: 'trackEvent' | 'trackDescriptor';
  trackEvent: TrackEvent;
  trackDescriptor: Descriptor;
  internedData: Record<string, Interned[]> | null;
}

export type Args = Record<string, string | number | bigint | boolean>;
export interface ReadTrack {
  uuid: bigint;
  parent: bigint;
  name: string;
  /** Name of the process. */
  process: string;
  /** The names from below the process on, with slashes. */
  path: string;
  counter: boolean;
  merged: boolean;
}
export interface ReadEvent {
  track: ReadTrack;
  category: string;
  name: string;
  begin: bigint;
  /** The same as the begin, for an instant. */
  end: bigint;
  args: Args;
  flows: bigint[];
}
export interface ReadPerfetto {
  tracks: ReadTrack[];
  slices: ReadEvent[];
  instants: ReadEvent[];
  /** Values by track, in the order of time. */
  counters: Map<ReadTrack, { time: bigint; value: bigint }[]>;
}

const PROTO = new URL('../fixtures/perfetto-trace.proto', import.meta.url);
const Trace = protobuf.parse(readFileSync(PROTO, 'utf8')).root.lookupType('perfetto.protos.Trace');

const unsigned = ({ low, high }: Long): bigint => (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
const signed = (long: Long): bigint => BigInt.asIntN(64, unsigned(long));

/** A table of interned texts; a number is defined once, and before it is used. */
function createTable(): { define(list: Interned[] | undefined): void; text(id: Long): string } {
  const texts = new Map<bigint, string>();
  return {
    define: (list) => {
      for (const { iid, name, str } of list ?? []) {
        const id = unsigned(iid);
        assert(id > 0n && !texts.has(id), 'an interned text has no number of its own');
        texts.set(id, str === undefined || str.length === 0 ? name : new TextDecoder().decode(str));
      }
    },
    text: (id) => {
      const text = texts.get(unsigned(id));
      assert(text !== undefined, 'an interned text is used before it is defined');
      return text;
    },
  };
}

/** Reads a whole trace. Throws at the first rule that it breaks. */
export function readPerfetto(bytes: Uint8Array): ReadPerfetto {
  const { packet: packets } = Trace.decode(bytes) as unknown as { packet: Packet[] };
  const names = createTable();
  const categories = createTable();
  const keys = createTable();
  const strings = createTable();
  const tracks = new Map<bigint, ReadTrack>();
  const pids = new Set<number>();
  const timed: { time: bigint; type: number; event: ReadEvent; value: bigint }[] = [];

  const argsOf = (annotations: Annotation[]): Args => {
    const args: Args = {};
    for (const one of annotations) {
      const key = keys.text(one.nameIid);
      assert(!Object.hasOwn(args, key), 'an annotation is there twice');
      if (one.value === 'stringValueIid') args[key] = strings.text(one.stringValueIid);
      else if (one.value === 'uintValue') args[key] = unsigned(one.uintValue);
      else if (one.value === 'intValue') args[key] = signed(one.intValue);
      else args[key] = one[one.value];
    }
    return args;
  };
  const describeTrack = (d: Descriptor): void => {
    const uuid = unsigned(d.uuid);
    if (uuid === 0n) {
      assert(d.processOrdering === 1 && d.process === null, 'the root is no root');
      return;
    }
    assert(!tracks.has(uuid), 'two tracks have one uuid');
    assert(d.name !== '', 'a track has no name');
    const parent = unsigned(d.parentUuid);
    const above = tracks.get(parent);
    if (d.process !== null) {
      assert(parent === 0n, 'a process has a parent');
      assert(d.process.pid > 0 && !pids.has(d.process.pid), 'a process has no pid of its own');
      pids.add(d.process.pid);
    } else assert(above !== undefined && !above.counter, 'the parent of a track is not known, or is a counter');
    const inProcess = above !== undefined && above.path !== '';
    const path = above === undefined ? '' : inProcess ? `${above.path}/${d.name}` : d.name;
    const process = d.process !== null ? d.process.processName : (above as ReadTrack).process;
    const merged = d.siblingMergeBehavior === 1;
    const twin = [...tracks.values()].find((one) => one.parent === parent && one.name === d.name);
    assert(
      twin === undefined || (merged && twin.merged) || parent === 0n,
      'two tracks beside each other have one name',
    );
    tracks.set(uuid, { uuid, parent, name: d.name, process, path, counter: d.counter !== null, merged });
  };

  for (const [i, packet] of packets.entries()) {
    assert(packet.trustedPacketSequenceId === 1, 'a packet is of another sequence');
    assert(packet.sequenceFlags === (i === 0 ? 3 : 2), 'the state of the sequence begins with its first packet alone');
    assert(packet.firstPacketOnSequence === (i === 0), 'the first packet says so, and no other');
    const data = packet.internedData;
    if (data !== null) {
      names.define(data['eventNames']);
      categories.define(data['eventCategories']);
      keys.define(data['debugAnnotationNames']);
      strings.define(data['debugAnnotationStringValues']);
    }
    if (packet.data === 'trackDescriptor') {
      describeTrack(packet.trackDescriptor);
      continue;
    }
    const e = packet.trackEvent;
    const track = tracks.get(unsigned(e.trackUuid));
    assert(track !== undefined, 'an event is on a track that is not known');
    assert(track.counter === (e.type === 4), 'a counter has an event, or a track a value');
    const time = unsigned(packet.timestamp);
    assert(time < 2n ** 63n, 'a time is more than Perfetto takes');
    const event: ReadEvent = { track, category: '', name: '', begin: time, end: time, args: {}, flows: [] };
    if (e.type === 1 || e.type === 3) {
      assert(e.categoryIids.length === 1, 'an event has not one category');
      event.category = categories.text(e.categoryIids[0]);
      event.name = names.text(e.nameIid);
      event.args = argsOf(e.debugAnnotations);
      event.flows = e.flowIds.map(unsigned);
    }
    timed.push({ time, type: e.type, event, value: e.type === 4 ? signed(e.counterValue) : 0n });
  }

  const read: ReadPerfetto = { tracks: [...tracks.values()], slices: [], instants: [], counters: new Map() };
  const open = new Map<ReadTrack, ReadEvent[]>();
  timed.sort((one, other) => (one.time < other.time ? -1 : one.time > other.time ? 1 : 0));
  for (const { time, type, event, value } of timed) {
    const { track } = event;
    const stack = open.get(track) ?? [];
    open.set(track, stack);
    if (type === 1) {
      assert(stack.length === 0, 'slices overlap on a track');
      stack.push(event);
      read.slices.push(event);
    } else if (type === 2) {
      const slice = stack.pop();
      assert(slice !== undefined, 'an end has no begin');
      slice.end = time;
    } else if (type === 3) read.instants.push(event);
    else {
      const values = read.counters.get(track) ?? [];
      assert(values.length === 0 || values[values.length - 1].time < time, 'a counter has two values at one time');
      values.push({ time, value });
      read.counters.set(track, values);
    }
  }
  for (const stack of open.values()) assert(stack.length === 0, 'a slice has no end');
  return read;
}
