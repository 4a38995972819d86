/**
 * Perfetto's trace format as packets: one sequence of TracePacket with track descriptors, track events and interned
 * texts (protos/perfetto/trace of google/perfetto). Names and numbers of the fields are held to the published ones by
 * test/fixtures/perfetto-trace.proto and scripts/check-perfetto-proto.mjs.
 */
import {
  createProtoBuffer,
  type ProtoBuffer,
  putBuffer,
  putBufferField,
  putDoubleField,
  putFixedField,
  putInt64,
  putMessageField,
  putNumberField,
  putSum,
  putTextField,
  putVarint,
  varintSize,
} from './protobuf.ts';

const TRACE = { packet: 1 } as const;
const PACKET = {
  timestamp: 8,
  trustedPacketSequenceId: 10,
  trackEvent: 11,
  internedData: 12,
  sequenceFlags: 13,
  trackDescriptor: 60,
  firstPacketOnSequence: 87,
} as const;
const STATE_CLEARED = 1;
const NEEDS_STATE = 2;
const DESCRIPTOR = {
  uuid: 1,
  name: 2,
  process: 3,
  parentUuid: 5,
  counter: 8,
  childOrdering: 11,
  siblingOrderRank: 12,
  description: 14,
  siblingMergeBehavior: 15,
  processOrdering: 19,
} as const;
const PROCESS = { pid: 1, processName: 6 } as const;
const COUNTER = { unit: 3 } as const;
const EXPLICIT = 3;
const PROCESS_ORDERING_EXPLICIT = 1;
const MERGE_BY_NAME = 1;
const MERGE_NONE = 2;
const EVENT = {
  categoryIids: 3,
  debugAnnotations: 4,
  type: 9,
  nameIid: 10,
  trackUuid: 11,
  counterValue: 30,
  flowIds: 47,
} as const;
const ANNOTATION = {
  nameIid: 1,
  boolValue: 2,
  uintValue: 3,
  intValue: 4,
  doubleValue: 5,
  stringValue: 6,
  stringIid: 17,
};
const INTERNED = { eventCategories: 1, eventNames: 2, annotationNames: 3, annotationStrings: 29 } as const;

export const SLICE_BEGIN = 1;
export const SLICE_END = 2;
export const INSTANT = 3;
const COUNTER_EVENT = 4;

export const UNIT_COUNT = 2;
export const UNIT_BYTES = 3;

/** The one sequence of packets. */
const SEQUENCE = 1;
/** Bytes that are collected before they go to the sink. */
const CHUNK = 1 << 20;

export interface TrackOptions {
  name: string;
  /** 0 for none. */
  parent: number;
  /** Its place among the tracks beside it. */
  rank: number;
  description?: string;
  process?: { pid: number; name: string };
  /** Of a counter, its unit. */
  counter?: number;
  /** Shown as one with the tracks beside it that have the same name. */
  lane?: boolean;
}

export interface PerfettoCounts {
  tracks: number;
  slices: number;
  instants: number;
  counters: number;
  bytes: number;
}

/** Numbers of interned texts, for the words of a column by their number there. */
export type WordIds = (word: number) => number;

export interface PerfettoWriter {
  readonly counts: PerfettoCounts;
  /** Describes a new track; its uuid. */
  track(options: TrackOptions): number;
  /** Numbers for names of events, for categories, and for texts of annotations. */
  nameId(text: string): number;
  categoryId(text: string): number;
  /** Of the name of an annotation. */
  keyId(text: string): number;
  textId(text: string): number;
  /** The same for each word of a list, looked up once. */
  wordIds(list: readonly string[], idOf: (text: string) => number): WordIds;
  /** Begins an event: SLICE_BEGIN or INSTANT. Annotations and flows follow, then `close`. */
  open(type: number, track: number, name: number, category: number): void;
  annotateNumber(key: number, value: number): void;
  /** A text that is not interned. */
  annotateText(key: number, value: string): void;
  annotateBoolean(key: number, value: boolean): void;
  annotateId(key: number, text: number): void;
  flow(id: number): void;
  /** Writes the event that is open, at a whole number of ns. */
  close(time: number): void;
  /** The end of the slice that was begun last on a track. */
  endSlice(track: number, time: number): void;
  counter(track: number, time: number, value: number): void;
  /** Hands over what is left. Nothing may be written afterwards. */
  finish(): void;
}

/**
 * A writer that hands chunks of about 1 MiB to `sink`, which must be done with one when it returns. `shift` is added to
 * all times: they must not be negative then.
 */
export function createPerfettoWriter(sink: (chunk: Uint8Array) => void, shift: number): PerfettoWriter {
  const out = createProtoBuffer(CHUNK + (CHUNK >> 2));
  const head = createProtoBuffer(256);
  const body = createProtoBuffer(1024);
  const interned = createProtoBuffer(1024);
  const scratch = createProtoBuffer(256);
  const counts: PerfettoCounts = { tracks: 0, slices: 0, instants: 0, counters: 0, bytes: 0 };
  let opened = 0;

  const flush = (): void => {
    if (out.at === 0) return;
    counts.bytes += out.at;
    sink(out.bytes.subarray(0, out.at));
    out.at = 0;
  };
  /** Puts a packet out: its head, and the message of a field. */
  const putPacket = (field: number, message: ProtoBuffer): void => {
    const tag = field * 8 + 2;
    putVarint(out, TRACE.packet * 8 + 2);
    putVarint(out, head.at + varintSize(tag) + varintSize(message.at) + message.at);
    putBuffer(out, head);
    putVarint(out, tag);
    putVarint(out, message.at);
    putBuffer(out, message);
    if (out.at >= CHUNK) flush();
  };
  const beginHead = (flags: number): void => {
    head.at = 0;
    putNumberField(head, PACKET.trustedPacketSequenceId, SEQUENCE);
    putNumberField(head, PACKET.sequenceFlags, flags);
  };
  const putDescriptor = (flags: number, fill: (b: ProtoBuffer) => void): void => {
    beginHead(flags);
    if ((flags & STATE_CLEARED) !== 0) putNumberField(head, PACKET.firstPacketOnSequence, 1);
    scratch.at = 0;
    fill(scratch);
    putPacket(PACKET.trackDescriptor, scratch);
  };
  const putEvent = (time: number): void => {
    beginHead(NEEDS_STATE);
    putVarint(head, PACKET.timestamp * 8);
    putSum(head, time, shift);
    if (interned.at > 0) {
      putBufferField(head, PACKET.internedData, interned);
      interned.at = 0;
    }
    putPacket(PACKET.trackEvent, body);
  };
  const beginBody = (type: number, track: number): void => {
    body.at = 0;
    putNumberField(body, EVENT.type, type);
    putNumberField(body, EVENT.trackUuid, track);
  };
  /** A text gets its number with the first packet that has it. */
  const interner = (field: number): ((text: string) => number) => {
    const ids = new Map<string, number>();
    return (text) => {
      const known = ids.get(text);
      if (known !== undefined) return known;
      const id = ids.size + 1;
      ids.set(text, id);
      putMessageField(interned, field, (b) => {
        putNumberField(b, 1, id);
        putTextField(b, 2, text);
      });
      return id;
    };
  };
  /** Begins an annotation whose length, below 128, is filled in by endSmall. */
  const beginSmall = (key: number): number => {
    putVarint(body, EVENT.debugAnnotations * 8 + 2);
    body.at++;
    const from = body.at;
    putNumberField(body, ANNOTATION.nameIid, key);
    return from;
  };
  const endSmall = (from: number): void => {
    body.bytes[from - 1] = body.at - from;
  };

  // The root, uuid 0, says how processes are ordered; and being first, its packet begins the state of the sequence.
  putDescriptor(STATE_CLEARED | NEEDS_STATE, (b) => {
    putNumberField(b, DESCRIPTOR.uuid, 0);
    putNumberField(b, DESCRIPTOR.processOrdering, PROCESS_ORDERING_EXPLICIT);
  });
  return {
    counts,
    track: ({ name, parent, rank, description, process, counter, lane }) => {
      const uuid = ++counts.tracks;
      putDescriptor(NEEDS_STATE, (b) => {
        putNumberField(b, DESCRIPTOR.uuid, uuid);
        if (parent !== 0) putNumberField(b, DESCRIPTOR.parentUuid, parent);
        putTextField(b, DESCRIPTOR.name, name);
        putNumberField(b, DESCRIPTOR.siblingOrderRank, rank);
        if (description !== undefined) putTextField(b, DESCRIPTOR.description, description);
        if (process !== undefined) {
          putMessageField(b, DESCRIPTOR.process, (p) => {
            putNumberField(p, PROCESS.pid, process.pid);
            putTextField(p, PROCESS.processName, process.name);
          });
          return;
        }
        putNumberField(b, DESCRIPTOR.childOrdering, EXPLICIT);
        putNumberField(b, DESCRIPTOR.siblingMergeBehavior, lane === true ? MERGE_BY_NAME : MERGE_NONE);
        if (counter !== undefined) {
          putMessageField(b, DESCRIPTOR.counter, (c) => putNumberField(c, COUNTER.unit, counter));
        }
      });
      return uuid;
    },
    nameId: interner(INTERNED.eventNames),
    categoryId: interner(INTERNED.eventCategories),
    keyId: interner(INTERNED.annotationNames),
    textId: interner(INTERNED.annotationStrings),
    wordIds: (list, idOf) => {
      const ids = new Uint32Array(list.length);
      return (word) => {
        if (ids[word] === 0) ids[word] = idOf(list[word]);
        return ids[word];
      };
    },
    open: (type, track, name, category) => {
      opened = type;
      beginBody(type, track);
      putNumberField(body, EVENT.nameIid, name);
      putNumberField(body, EVENT.categoryIids, category);
    },
    annotateNumber: (key, value) => {
      const from = beginSmall(key);
      if (!Number.isInteger(value) || Math.abs(value) >= 2 ** 63) putDoubleField(body, ANNOTATION.doubleValue, value);
      else {
        putVarint(body, (value < 0 ? ANNOTATION.intValue : ANNOTATION.uintValue) * 8);
        putInt64(body, value);
      }
      endSmall(from);
    },
    annotateText: (key, value) => {
      scratch.at = 0;
      putNumberField(scratch, ANNOTATION.nameIid, key);
      putTextField(scratch, ANNOTATION.stringValue, value);
      putBufferField(body, EVENT.debugAnnotations, scratch);
    },
    annotateBoolean: (key, value) => {
      const from = beginSmall(key);
      putNumberField(body, ANNOTATION.boolValue, value ? 1 : 0);
      endSmall(from);
    },
    annotateId: (key, text) => {
      const from = beginSmall(key);
      putNumberField(body, ANNOTATION.stringIid, text);
      endSmall(from);
    },
    flow: (id) => putFixedField(body, EVENT.flowIds, id),
    close: (time) => {
      if (opened === INSTANT) counts.instants++;
      putEvent(time);
    },
    endSlice: (track, time) => {
      counts.slices++;
      beginBody(SLICE_END, track);
      putEvent(time);
    },
    counter: (track, time, value) => {
      counts.counters++;
      beginBody(COUNTER_EVENT, track);
      putNumberField(body, EVENT.counterValue, value);
      putEvent(time);
    },
    finish: flush,
  };
}
