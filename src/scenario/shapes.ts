/**
 * The shapes of a scenario file, before its names and ranges are looked up: which fields there are, of which types and
 * in which bounds. Every bound says in its message what is expected; `shapeError` adds the field's path and its value.
 */
import { z } from 'zod';

/** Largest size of anything in bytes: the part of an x86-64 address space that a process owns. */
export const MAX_BYTES = 2 ** 47;
/** Largest value of a 32-bit word. */
const MAX_WORD = 2 ** 32 - 1;
/** Largest count in a kernel launch or a loop (the CUDA limit for a grid). */
const MAX_COUNT = 2 ** 31 - 1;

export const ADVICES = [
  'setPreferredLocation',
  'unsetPreferredLocation',
  'setAccessedBy',
  'unsetAccessedBy',
  'setReadMostly',
  'unsetReadMostly',
] as const;
export const KERNELS = ['streamRead', 'vecAdd', 'randomRead'] as const;
export const ALLOCATION_KINDS = ['managed', 'host'] as const;
const ACCESSES = ['read', 'write', 'atomic'] as const;

/** "a, b, c", for the valid choices in messages. */
export function choices(words: readonly string[]): string {
  return words.length === 0 ? 'none' : words.join(', ');
}

function text(what: string) {
  return z.string({ error: what }).min(1, { error: what });
}

function whole(low: number, high: number) {
  const error = high === MAX_BYTES ? `a whole number from ${low} to 2^47` : `a whole number from ${low} to ${high}`;
  return z.int({ error }).min(low, { error }).max(high, { error });
}

function word<const W extends readonly [string, ...string[]]>(words: W) {
  return z.enum(words, { error: `one of ${choices(words)}` });
}

const flag = z.boolean({ error: 'true or false' });
const buffer = text('the name of an allocation');
const processor = text('a processor: cpu, gpu0, gpu1, ...');
const offset = whole(0, MAX_BYTES);
const length = whole(1, MAX_BYTES);
const page = whole(0, MAX_BYTES / 4096);
/** Only that it is a list: the elements, which may be millions, are checked by one loop against their buffer. */
const pages = z.custom<readonly unknown[]>((v) => Array.isArray(v) && v.length > 0, {
  error: 'a list of at least one page index',
});

function accessShape<const D extends (typeof ACCESSES)[number]>(name: D) {
  return z.strictObject({
    on: processor,
    do: z.literal(name),
    buffer,
    pages: pages.optional(),
    offset: offset.optional(),
    length: length.optional(),
    stride: whole(1, MAX_BYTES).optional(),
    value: whole(0, MAX_WORD).optional(),
  });
}

/** The shape of each step by its `do`. */
export const STEP_SHAPES = {
  read: accessShape('read'),
  write: accessShape('write'),
  atomic: accessShape('atomic'),
  prefetch: z.strictObject({ do: z.literal('prefetch'), to: processor, buffer, offset, length }),
  advise: z.strictObject({
    do: z.literal('advise'),
    advice: word(ADVICES),
    processor: processor.optional(),
    buffer,
    offset,
    length,
  }),
  kernel: z.strictObject({
    on: processor,
    do: z.literal('kernel'),
    kernel: word(KERNELS),
    buffer,
    grid: whole(1, MAX_COUNT),
    block: whole(1, 1024),
    elementBytes: whole(1, 16),
    length,
    perThread: whole(1, MAX_COUNT).optional(),
    layout: z.string({ error: 'prose' }).optional(),
    generator: z.string({ error: 'prose' }).optional(),
  }),
  memset: z.strictObject({ on: processor, do: z.literal('memset'), buffer, offset, length }),
  memcpy: z.strictObject({
    do: z.literal('memcpy'),
    from: text('the name of an allocation, or host'),
    to: text('the name of an allocation, or host'),
    offset,
    length,
  }),
  setCopyFrom: z.strictObject({
    do: z.literal('setCopyFrom'),
    buffer: buffer.optional(),
    page: page.optional(),
    count: whole(1, MAX_BYTES / 4096).optional(),
  }),
  setNextCopy: z.strictObject({
    do: z.literal('setNextCopy'),
    buffer,
    page,
    arm: flag.optional(),
    async: flag.optional(),
  }),
  copyStatus: z.strictObject({ do: z.literal('copyStatus'), wait: flag.optional(), disarm: flag.optional() }),
  checkBytes: z.strictObject({
    do: z.literal('checkBytes'),
    buffer,
    page,
    sameAs: z.strictObject({ buffer, page }, { error: 'an object with buffer and page' }).optional(),
    value: whole(0, MAX_WORD).optional(),
  }),
  contend: z.strictObject({
    do: z.literal('contend'),
    gpu: processor,
    buffer,
    page,
    gpuWrites: whole(0, MAX_COUNT),
    gpuPauseCycles: whole(0, MAX_COUNT),
    cpuWrites: whole(0, MAX_COUNT),
    cpuPauseMicroseconds: whole(0, MAX_COUNT),
  }),
  free: z.strictObject({ do: z.literal('free'), buffer }),
};

export type StepWord = keyof typeof STEP_SHAPES;
/** A step of the given kind as the file has it. */
export type StepJson<D extends StepWord> = z.infer<(typeof STEP_SHAPES)[D]>;
export const STEP_WORDS = Object.keys(STEP_SHAPES) as StepWord[];

export const ALLOCATION_SHAPE = z.strictObject(
  {
    name: text('a name'),
    bytes: whole(1, MAX_BYTES),
    kind: word(ALLOCATION_KINDS).optional(),
  },
  { error: 'an object with name and bytes' },
);

const PARAMETER_ERROR = 'a number, a string, true or false';
/** The frame of a scenario: allocations and steps are read one by one afterwards. */
export const SCENARIO_SHAPE = z.strictObject({
  name: text('a name'),
  machine: text('the name of a machine profile'),
  parameters: z
    .record(z.string(), z.union([z.number(), z.string(), z.boolean()], { error: PARAMETER_ERROR }), {
      error: 'an object of module parameters',
    })
    .optional(),
  allocations: z.array(z.unknown(), { error: 'a list of allocations' }),
  steps: z.array(z.unknown(), { error: 'a list of steps' }).optional(),
});

/** A value as a message shows it: short, whatever it is. */
export function show(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  const shown = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return shown.length <= 60 ? shown : `${shown.slice(0, 57)}...`;
}

/** `steps[3].sameAs.page` from a path in pieces. */
export function pathText(path: readonly PropertyKey[]): string {
  let out = '';
  for (const piece of path) {
    if (typeof piece === 'number') out += `[${piece}]`;
    else out += out === '' ? String(piece) : `.${String(piece)}`;
  }
  return out;
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const piece of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[piece];
  return value;
}

/** The fields of the object at `path` inside a shape, for "valid fields" in messages. */
function fieldsAt(shape: z.ZodObject, path: readonly PropertyKey[]): string[] {
  let at: unknown = shape;
  for (const piece of path) {
    const field = at instanceof z.ZodObject ? at.shape[String(piece)] : undefined;
    at = field instanceof z.ZodOptional ? field.unwrap() : field;
  }
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

/**
 * One sentence for what is wrong with `input`: the field's path, its value and what is expected. A misspelt field
 * comes first, since the field that it leaves missing is only its consequence.
 */
export function shapeError(
  shape: z.ZodObject,
  error: z.ZodError,
  input: unknown,
  prefix: readonly PropertyKey[],
): string {
  const issue = error.issues.find((i) => i.code === 'unrecognized_keys') ?? error.issues[0];
  const where = [...prefix, ...issue.path];
  if (issue.code === 'unrecognized_keys') {
    return `${pathText([...where, issue.keys[0]])}: unknown field; valid: ${choices(fieldsAt(shape, issue.path))}`;
  }
  const value = valueAt(input, issue.path);
  const field = where.length === 0 ? 'scenario' : pathText(where);
  const expected = issue.path.length === 0 ? `an object with ${choices(Object.keys(shape.shape))}` : issue.message;
  return `${field}: ${value === undefined ? 'missing' : show(value)}; expected ${expected}`;
}
