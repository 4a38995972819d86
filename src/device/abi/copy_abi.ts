/**
 * The description of a patched module, as a user writes it (`--copy-abi FILE`): the numbers of the copy routine's three
 * ioctls and the layouts of their parameters. JSON; what is left out is as in docs/copy-routine.md, so that `{}` is a
 * module that follows it, and examples/copy-abi.json says it all.
 *
 *     { "COPY_STATUS": { "number": 4003, "size": 48, "fields": { "state": { "type": "u16", "offset": 40 } } } }
 */
import { z } from 'zod';
import { type CopyIoctls, copyIoctls, defineIoctl, type Ioctl } from './ioctls.ts';
import { type Field, type FieldKind, field, layout } from './layout.ts';

/** A mistake in the description; the message names the field, its value and what is valid. */
export class CopyAbiError extends Error {
  override name = 'CopyAbiError';
}

export const COPY_IOCTL_NAMES = ['SET_COPY_FROM_ADDRESS', 'SET_NEXT_COPY_ADDRESS', 'COPY_STATUS'] as const;
type CopyIoctlName = (typeof COPY_IOCTL_NAMES)[number];

/** Numbers of the stock driver, and those that Linux answers itself for every file, first and last. */
const TAKEN: readonly (readonly [first: number, last: number, by: string])[] = [
  [1, 80, 'the stock driver'],
  [200, 314, 'the stock driver'],
  [2047, 2047, 'the stock driver'],
  [0x30000001, 0x30000002, 'the stock driver'],
  [0x5421, 0x5421, 'Linux'],
  [0x5450, 0x5452, 'Linux'],
  [0x5460, 0x5460, 'Linux'],
];
const MAX_NUMBER = 0xffffffff;
const NUMBER_CHOICES = `a whole number from 1 to ${MAX_NUMBER} other than 1-80, 200-314, 2047, 0x30000001, 0x30000002`;
const MAX_SIZE = 4096;

/** Types that hold every value of a field: flags and states are small, all else needs what it has. */
function typesOf(name: string, kind: FieldKind): readonly FieldKind[] {
  return name === 'flags' || name === 'state' ? ['u8', 'u16', 'u32'] : [kind];
}

function whole(low: number, high: number) {
  const error = `a whole number from ${low} to ${high}`;
  return z.int({ error }).min(low, { error }).max(high, { error });
}

/** What is expected where an object is; unknown fields of it get a message by their code. */
const OBJECT = (issue: { code?: string }) => (issue.code === 'unrecognized_keys' ? undefined : 'an object');

function ioctlShape(standard: Ioctl) {
  const fields = Object.entries(standard.params.fields as Record<string, Field>).map(([name, { kind }]) => {
    const types = typesOf(name, kind);
    const error = types.length === 1 ? types[0] : `one of ${types.join(', ')}`;
    const shape = z.strictObject({ type: z.enum(types, { error }), offset: whole(0, MAX_SIZE - 1) }, { error: OBJECT });
    return [name, shape.optional()] as const;
  });
  return z.strictObject(
    {
      number: whole(1, MAX_NUMBER).optional(),
      size: whole(1, MAX_SIZE).optional(),
      fields: z.strictObject(Object.fromEntries(fields), { error: OBJECT }).optional(),
    },
    { error: OBJECT },
  );
}

const STANDARD = copyIoctls();
const SHAPE = z.strictObject(
  {
    SET_COPY_FROM_ADDRESS: ioctlShape(STANDARD.SET_COPY_FROM_ADDRESS).optional(),
    SET_NEXT_COPY_ADDRESS: ioctlShape(STANDARD.SET_NEXT_COPY_ADDRESS).optional(),
    COPY_STATUS: ioctlShape(STANDARD.COPY_STATUS).optional(),
  },
  { error: OBJECT },
);
type Description = z.infer<typeof SHAPE>[CopyIoctlName];

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function fail(where: string, value: unknown, expected: string): never {
  throw new CopyAbiError(`copy ABI: ${where}: ${shown(value)}; expected ${expected}`);
}

/** What lies at a path of the description. */
function valueAt(json: unknown, path: readonly PropertyKey[]): unknown {
  let value = json;
  for (const key of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[key];
  return value;
}

/** The fields that are valid at a path where an unknown one was found. */
function choicesAt(path: readonly PropertyKey[]): string {
  const [name, part, ...rest] = path;
  if (name === undefined) return COPY_IOCTL_NAMES.join(', ');
  if (part === undefined) return 'number, size, fields';
  if (rest.length > 0) return 'type, offset';
  return Object.keys(STANDARD[name as CopyIoctlName].params.fields).join(', ');
}

function failShape(json: unknown, issue: z.core.$ZodIssue): never {
  if (issue.code === 'unrecognized_keys') {
    const path = [...issue.path, issue.keys[0]];
    fail(path.join('.'), valueAt(json, path), `no such field, but one of ${choicesAt(issue.path)}`);
  }
  fail(issue.path.length === 0 ? 'the file' : issue.path.join('.'), valueAt(json, issue.path), issue.message);
}

function checkNumbers(calls: CopyIoctls): void {
  const seen = new Map<number, string>();
  for (const name of COPY_IOCTL_NAMES) {
    const { number } = calls[name];
    for (const [first, last, by] of TAKEN) {
      if (number < first || number > last) continue;
      fail(`${name}.number`, number, `a number that ${by} does not use: ${NUMBER_CHOICES}`);
    }
    const other = seen.get(number);
    if (other !== undefined) fail(`${name}.number`, number, `another number than ${other} has`);
    seen.set(number, name);
  }
}

/** A layout is sound: every field ends within the size, and no two share a byte. */
function checkLayout(name: CopyIoctlName, size: number, fields: Readonly<Record<string, Field>>): void {
  let end = 0;
  let last = '';
  for (const [key, { kind, offset, step }] of Object.entries(fields).sort((a, b) => a[1].offset - b[1].offset)) {
    const where = `${name}.fields.${key}.offset`;
    if (offset + step > size) {
      const room = size < step ? `a size of at least ${step}` : `a whole number from 0 to ${size - step}`;
      fail(where, offset, `${room}, since a ${kind} must end within the ${size} bytes of ${name}.size`);
    }
    if (offset < end) fail(where, offset, `a byte that ${last} does not take: it ends at byte ${end}`);
    end = offset + step;
    last = key;
  }
}

/** One ioctl: the standard one with what the description says. */
function describe<K extends CopyIoctlName>(name: K, given: Description): CopyIoctls[K] {
  const { number, params } = STANDARD[name];
  const fields: Record<string, Field> = { ...params.fields };
  for (const [key, item] of Object.entries(given?.fields ?? {})) {
    if (item !== undefined) fields[key] = field(item.type, item.offset);
  }
  const size = given?.size ?? params.size;
  checkLayout(name, size, fields);
  // The types that a field may have are read and written as the same JavaScript type.
  return defineIoctl(given?.number ?? number, layout(params.name, size, fields)) as unknown as CopyIoctls[K];
}

/**
 * The copy routine's ioctls of a module from its description, the text of a JSON file. Throws CopyAbiError for the
 * first mistake.
 */
export function parseCopyAbi(text: string): CopyIoctls {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new CopyAbiError(`copy ABI: not JSON: ${(error as Error).message}`);
  }
  const parsed = SHAPE.safeParse(json);
  if (!parsed.success) failShape(json, parsed.error.issues[0]);
  const calls = {
    SET_COPY_FROM_ADDRESS: describe('SET_COPY_FROM_ADDRESS', parsed.data.SET_COPY_FROM_ADDRESS),
    SET_NEXT_COPY_ADDRESS: describe('SET_NEXT_COPY_ADDRESS', parsed.data.SET_NEXT_COPY_ADDRESS),
    COPY_STATUS: describe('COPY_STATUS', parsed.data.COPY_STATUS),
  };
  checkNumbers(calls);
  return calls;
}
