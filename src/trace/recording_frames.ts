/**
 * What the frames of a recording hold (recording_file.ts writes and reads them): their kinds, and the shapes of those
 * that are JSON. Fields that are not known are passed over.
 */
import { z } from 'zod';

export const RECORDING_SUFFIX = '.uvmrec';
export const FRAME_KIND = { header: 1, events: 2, maps: 3, drops: 4, note: 5, end: 6, processors: 7 } as const;

/** A file that is no recording, or that cannot be read or written; the message begins with its path. */
export class RecordingFileError extends Error {
  override name = 'RecordingFileError';
}

const text = (what: string) => z.string({ error: what });
const whole = z.int({ error: 'a whole number from 0' }).min(0, { error: 'a whole number from 0' });
const nullableText = z.string({ error: 'a text or null' }).nullable();
const HEX = /^(0x)?[0-9a-f]{1,16}$/i;
const address = z.string({ error: 'an address in hexadecimal' }).regex(HEX, { error: 'an address in hexadecimal' });

const PROCESSORS = z.array(
  z.object({
    number: whole,
    word: text('a processor (cpu, gpu0, gpu1, ...)').regex(/^(cpu|gpu(0|[1-9]\d{0,3}))$/, {
      error: 'a processor (cpu, gpu0, gpu1, ...)',
    }),
    uuid: text('a uuid'),
    name: text('a name').optional(),
    cc: text('a compute capability').optional(),
  }),
  { error: 'a list of processors' },
);

export const HEADER_SHAPE = z.looseObject({
  format: z.literal(1, { error: '1, the format that this version reads' }),
  uvmlab: text('the version of uvmlab'),
  driver: nullableText,
  kernel: nullableText,
  pid: whole,
  command: z.array(text('a text'), { error: 'a list of texts, or null' }).nullable(),
  executable: nullableText,
  processors: PROCESSORS,
  events: z.array(text('the name of an event type'), { error: 'a list of event types' }),
  ringEntries: whole,
  machine: nullableText,
  parameters: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]), {
    error: 'an object of module parameters',
  }),
  attached: z.enum(['before the first managed allocation', 'late', 'unknown'], {
    error: '"before the first managed allocation", "late" or "unknown"',
  }),
  cpuClock: z.literal('CLOCK_MONOTONIC_RAW', { error: '"CLOCK_MONOTONIC_RAW"' }),
});
export const MAPS_SHAPE = z.looseObject({
  time: z.number({ error: 'nanoseconds' }),
  ranges: z.array(z.looseObject({ start: address, end: address }), { error: 'a list of ranges' }),
});
export const DROPS_SHAPE = z.looseObject({
  dropped: z.record(z.string().regex(/^\d{1,2}$/), whole, { error: 'an object of counts by type number' }),
});
export const PROCESSORS_SHAPE = z.looseObject({ processors: PROCESSORS });
export const NOTE_SHAPE = z.looseObject({ text: text('a text'), time: z.number({ error: 'nanoseconds' }).optional() });
export const END_SHAPE = z.looseObject({ reason: text('a text'), events: whole, dropped: whole });

/**
 * What a recording begins with. `processors` says what the numbers in entries of version 2 mean, as far as it was known
 * then (later ones: RecordingProcessors); `events` are names of
 * EVENT_TYPE that were enabled; `machine` is the name of a machine profile; `parameters` are the module's, as the
 * system shows them.
 */
export type RecordingHeader = z.infer<typeof HEADER_SHAPE>;
/**
 * The managed ranges of the target at one moment: `time` in nanoseconds of CLOCK_MONOTONIC_RAW, addresses in
 * hexadecimal, `end` behind the last byte.
 */
export type RecordingMaps = z.infer<typeof MAPS_SHAPE>;
/** Processors that a VA space had when the frame was written: a program registers its GPUs after it has begun. */
export type RecordingProcessors = z.infer<typeof PROCESSORS_SHAPE>;
/** Events lost between the frames before and after it, by EVENT_TYPE number. */
export type RecordingDrops = z.infer<typeof DROPS_SHAPE>;
/** `time` in nanoseconds of CLOCK_MONOTONIC_RAW. */
export type RecordingNote = z.infer<typeof NOTE_SHAPE>;
/** `events` and `dropped` count the whole recording. */
export type RecordingEnd = z.infer<typeof END_SHAPE>;
