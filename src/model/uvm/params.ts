/**
 * Models the module parameters of nvidia-uvm.ko (driver 580.105.08): the module_param lines of the files named in the
 * table, among them uvm_perf_prefetch.c, uvm_perf_thrashing.c, uvm_gpu_replayable_faults.c and uvm_channel.c, and what
 * their init functions (uvm_perf_prefetch_init, uvm_perf_thrashing_init, fault_buffer_init_replayable_faults,
 * init_channel_manager_conf, uvm_pmm_sysmem_init, uvm_access_counters_init, uvm_migrate_init, uvm_mmu_init) do with
 * values outside their range.
 *
 * Left out: parameters that can be written after the module is loaded keep the value they began with; the checks that
 * the driver makes under Confidential Computing alone; thrashing defaults of simulated GPUs.
 */

type NumericType = 'int' | 'uint' | 'ulong' | 'bool';

/** What the driver does with a value outside `[min, max]`: takes its default, or the nearest valid value. */
export interface ParameterRange {
  readonly min: number;
  readonly max: number;
  readonly outside: 'default' | 'clamp';
}

export interface NumericParameter {
  readonly type: NumericType;
  readonly default: number;
  /** Driver file that owns the parameter. */
  readonly file: string;
  /** Null: the driver takes every value of the type. */
  readonly range: ParameterRange | null;
}

export interface TextParameter {
  readonly type: 'charp';
  readonly default: string;
  readonly file: string;
  /** Values the driver knows; for others it takes its default. */
  readonly choices: readonly string[];
}

const UINT_MAX = 0xffffffff;

/** Values that the kernel's parser accepts for a type. A ulong is 64 bits wide there; here it ends where numbers do. */
const TYPE_RANGE: Readonly<Record<NumericType, readonly [number, number]>> = {
  int: [-0x80000000, 0x7fffffff],
  uint: [0, UINT_MAX],
  ulong: [0, Number.MAX_SAFE_INTEGER],
  bool: [0, 1],
};

function numeric(type: NumericType, value: number, file: string, range: ParameterRange | null = null) {
  return { type, default: value, file, range } satisfies NumericParameter;
}

const int = (value: number, file: string) => numeric('int', value, file);
const uint = (value: number, file: string, range?: ParameterRange) => numeric('uint', value, file, range);

function text(value: string, file: string, choices: readonly string[]) {
  return { type: 'charp', default: value, file, choices } satisfies TextParameter;
}

const orDefault = (min: number, max: number): ParameterRange => ({ min, max, outside: 'default' });
const clamp = (min: number, max: number): ParameterRange => ({ min, max, outside: 'clamp' });

const THRASHING = 'uvm_perf_thrashing.c';
const FAULTS = 'uvm_gpu_replayable_faults.c';
const COUNTERS = 'uvm_gpu_access_counters.c';
const LOCATIONS = ['auto', 'sys', 'vid'];

/** Sizes of CPU chunks: 2 MiB, 64 KiB and 4 KiB, or'ed. */
const CPU_CHUNK_SIZES = 0x200000 | 0x10000 | 0x1000;

/**
 * Every parameter by the driver's name, in the order of /sys/module/nvidia_uvm/parameters. The upper limit of the two
 * batch counts is the size of a hardware buffer, so the parser takes the one of the fault buffer as an argument.
 */
export const MODULE_PARAMETERS = {
  uvm_ats_mode: int(1, 'uvm_ats.c'),
  uvm_block_cpu_to_cpu_copy_with_ce: int(0, 'uvm_va_block.c'),
  uvm_channel_gpfifo_loc: text('auto', 'uvm_channel.c', LOCATIONS),
  uvm_channel_gpput_loc: text('auto', 'uvm_channel.c', LOCATIONS),
  uvm_channel_num_gpfifo_entries: uint(1024, 'uvm_channel.c', clamp(32, 1024 * 1024)),
  uvm_channel_pushbuffer_loc: text('auto', 'uvm_channel.c', LOCATIONS),
  uvm_conf_computing_channel_iv_rotation_limit: numeric('ulong', 2 ** 31, 'uvm_conf_computing.c'),
  uvm_cpu_chunk_allocation_sizes: uint(CPU_CHUNK_SIZES, 'uvm_pmm_sysmem.c'),
  uvm_debug_enable_push_acquire_info: uint(0, 'uvm_push.c'),
  uvm_debug_enable_push_desc: uint(0, 'uvm_push.c'),
  uvm_debug_prints: int(0, 'uvm_common.c'),
  uvm_disable_hmm: numeric('bool', 0, 'uvm_hmm.c'),
  uvm_downgrade_force_membar_sys: uint(1, 'uvm_hal.c'),
  uvm_enable_builtin_tests: int(0, 'uvm_common.c'),
  uvm_enable_debug_procfs: int(0, 'uvm_procfs.c'),
  uvm_enable_va_space_mm: int(1, 'uvm_va_space_mm.c'),
  uvm_exp_gpu_cache_peermem: uint(0, 'uvm_va_block.c'),
  uvm_exp_gpu_cache_sysmem: uint(0, 'uvm_va_block.c'),
  uvm_fault_force_sysmem: int(0, 'uvm_va_block.c'),
  uvm_force_prefetch_fault_support: uint(0, 'uvm_pascal.c'),
  uvm_global_oversubscription: int(1, 'uvm_pmm_gpu.c'),
  uvm_leak_checker: int(0, 'uvm_kvmalloc.c'),
  uvm_page_table_location: text('(null)', 'uvm_mmu.c', ['(null)', 'vid', 'sys']),
  uvm_peer_copy: text('phys', 'uvm_gpu.c', ['phys', 'virt']),
  uvm_perf_access_counter_batch_count: uint(256, COUNTERS, clamp(1, UINT_MAX)),
  uvm_perf_access_counter_migration_enable: int(-1, COUNTERS),
  uvm_perf_access_counter_threshold: uint(256, COUNTERS, clamp(1, 65535)),
  uvm_perf_fault_batch_count: uint(256, FAULTS, clamp(1, UINT_MAX)),
  uvm_perf_fault_coalesce: uint(1, FAULTS),
  uvm_perf_fault_max_batches_per_service: uint(20, FAULTS),
  uvm_perf_fault_max_throttle_per_service: uint(5, FAULTS),
  uvm_perf_fault_replay_policy: uint(2, FAULTS, orDefault(0, 3)),
  uvm_perf_fault_replay_update_put_ratio: uint(50, FAULTS, clamp(0, 100)),
  uvm_perf_map_remote_on_eviction: int(1, 'uvm_va_block.c'),
  uvm_perf_map_remote_on_native_atomics_fault: uint(0, THRASHING),
  uvm_perf_migrate_cpu_preunmap_block_order: uint(2, 'uvm_migrate.c', orDefault(0, 10)),
  uvm_perf_migrate_cpu_preunmap_enable: int(1, 'uvm_migrate.c'),
  uvm_perf_pma_batch_nonpinned_order: uint(6, 'uvm_pmm_gpu.c'),
  uvm_perf_prefetch_enable: uint(1, 'uvm_perf_prefetch.c'),
  uvm_perf_prefetch_min_faults: uint(1, 'uvm_perf_prefetch.c', orDefault(1, 20)),
  uvm_perf_prefetch_threshold: uint(51, 'uvm_perf_prefetch.c', orDefault(0, 100)),
  uvm_perf_reenable_prefetch_faults_lapse_msec: uint(1000, FAULTS),
  uvm_perf_thrashing_enable: uint(1, THRASHING, orDefault(0, 1)),
  uvm_perf_thrashing_epoch: uint(2000, THRASHING, orDefault(1, UINT_MAX)),
  uvm_perf_thrashing_lapse_usec: uint(500, THRASHING, orDefault(1, UINT_MAX)),
  uvm_perf_thrashing_max_resets: uint(4, THRASHING),
  uvm_perf_thrashing_nap: uint(1, THRASHING, orDefault(1, 100)),
  uvm_perf_thrashing_pin: uint(300, THRASHING),
  uvm_perf_thrashing_pin_threshold: uint(10, THRASHING, orDefault(1, 255)),
  uvm_perf_thrashing_threshold: uint(3, THRASHING, orDefault(1, 7)),
  uvm_release_asserts: int(1, 'uvm_common.c'),
  uvm_release_asserts_dump_stack: int(0, 'uvm_common.c'),
  uvm_release_asserts_set_global_error: int(0, 'uvm_common.c'),
} as const satisfies Readonly<Record<string, NumericParameter | TextParameter>>;

type Table = typeof MODULE_PARAMETERS;
export type ParameterName = keyof Table;

/** Values the driver computes from parameters once, in nanoseconds (va_space_thrashing_info_init_params). */
export interface DerivedParameters {
  /** Two events on a page no further apart than this count as thrashing. */
  readonly thrashingLapseNs: number;
  /** Length of a throttling period. */
  readonly thrashingNapNs: number;
  /** Quiet time after which a block forgets that it thrashed. */
  readonly thrashingEpochNs: number;
  /** Time a page stays pinned; 0: forever. */
  readonly thrashingPinNs: number;
}

/** The values in force, after the driver's checks, by the driver's names; booleans are 0 and 1. Flat and frozen. */
export type ModuleParameters = {
  readonly [K in ParameterName]: Table[K] extends TextParameter ? string : number;
} & DerivedParameters;

export type ParsedParameters =
  | {
      readonly ok: true;
      readonly params: ModuleParameters;
      /** One line for each value that the driver replaces, as it tells in the kernel's log. */
      readonly notes: string[];
    }
  | { readonly ok: false; readonly error: string };

type Values = Record<string, number | string>;

/** A parameter's checks are made only if the other one is not zero. */
const CHECKED_ONLY_WITH: readonly (readonly [prefix: string, switchName: ParameterName])[] = [
  ['uvm_perf_prefetch_', 'uvm_perf_prefetch_enable'],
  ['uvm_perf_thrashing_', 'uvm_perf_thrashing_enable'],
  ['uvm_perf_migrate_cpu_preunmap_', 'uvm_perf_migrate_cpu_preunmap_enable'],
];

/** Integers as the kernel reads them: decimal, 0x hexadecimal, or octal after a leading zero. NaN for anything else. */
function parseInteger(value: string): number {
  const match = /^([+-]?)(0x[0-9a-f]+|0[0-7]*|[1-9]\d*)$/i.exec(value);
  if (match === null) return Number.NaN;
  const digits = match[2];
  const radix = /^0x/i.test(digits) ? 16 : digits.length > 1 && digits.startsWith('0') ? 8 : 10;
  const magnitude = Number.parseInt(radix === 16 ? digits.slice(2) : digits, radix);
  return match[1] === '-' ? -magnitude : magnitude;
}

function parseBool(value: string): number {
  if (/^([yt1]|on|true)$/i.test(value)) return 1;
  return /^([nf0]|off|false)$/i.test(value) ? 0 : Number.NaN;
}

function toNumber(type: NumericType, value: unknown): number {
  if (typeof value === 'boolean') return value ? 1 : 0;
  if (typeof value === 'number') return value;
  if (typeof value !== 'string') return Number.NaN;
  return type === 'bool' ? parseBool(value) : parseInteger(value);
}

/** The value of one parameter, or the reason why the kernel would refuse to load the module with it. */
function parseValue(name: ParameterName, value: unknown): { value: number | string } | { error: string } {
  const info: NumericParameter | TextParameter = MODULE_PARAMETERS[name];
  const shown = typeof value === 'string' ? `"${value}"` : String(value);
  if (info.type === 'charp') {
    if (typeof value === 'string') return { value };
    return { error: `module parameter ${name}: ${shown} is not a string; choices: ${info.choices.join(', ')}` };
  }
  const [min, max] = TYPE_RANGE[info.type];
  const number = toNumber(info.type, value);
  if (Number.isInteger(number) && number >= min && number <= max) return { value: number };
  const wanted = info.type === 'bool' ? 'Y or N' : `an integer from ${min} to ${max} (${info.type})`;
  return { error: `module parameter ${name}: ${shown} is not ${wanted}` };
}

/** Number of edits that turn one string into the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}

/** At most three names that the unknown one may have been meant to be, best first. */
function nearNames(unknown: string): string[] {
  const wanted = unknown.toLowerCase().replaceAll('-', '_');
  return Object.keys(MODULE_PARAMETERS)
    .map((name) => ({ name, score: wanted.length > 3 && name.includes(wanted) ? 0 : distance(wanted, name) }))
    .filter(({ name, score }) => score <= Math.max(3, name.length / 5))
    .sort((a, b) => a.score - b.score)
    .slice(0, 3)
    .map(({ name }) => name);
}

function unknownName(name: string): string {
  const near = nearNames(name);
  const hint = near.length > 0 ? `; did you mean ${near.join(' or ')}?` : '.';
  return (
    `unknown module parameter "${name}"${hint} ` +
    'The valid names are those of /sys/module/nvidia_uvm/parameters; "uvmlab parameters" lists them.'
  );
}

/** Applies a range to one number; tells the note, or null when the value stands. */
function checkRange(name: string, value: number, fallback: number, range: ParameterRange): [number, string | null] {
  if (value >= range.min && value <= range.max) return [value, null];
  const used = range.outside === 'default' ? fallback : Math.min(Math.max(value, range.min), range.max);
  return [used, changed(name, value, used, `valid: ${range.min} to ${range.max}`)];
}

function changed(name: string, from: number | string, to: number | string, valid: string): string {
  return `${name} changed from ${from} to ${to} (${valid})`;
}

/** Out of range, a number becomes its default or the nearest valid one; only for switches that are on. */
function checkNumbers(values: Values, faultBufferEntries: number, notes: string[]): void {
  // Each switch precedes its dependants in the table, or has no range itself.
  for (const name of Object.keys(MODULE_PARAMETERS) as ParameterName[]) {
    const info: NumericParameter | TextParameter = MODULE_PARAMETERS[name];
    if (info.type === 'charp' || info.range === null) continue;
    const switched = CHECKED_ONLY_WITH.find(([prefix]) => name.startsWith(prefix));
    if (switched !== undefined && values[switched[1]] === 0) continue;
    const limited = name === 'uvm_perf_fault_batch_count' ? { ...info.range, max: faultBufferEntries } : info.range;
    const [used, note] = checkRange(name, values[name] as number, info.default, limited);
    values[name] = used;
    if (note !== null) notes.push(note);
  }
}

/** Numbers whose check is more than a range. */
function checkBits(values: Values, given: Values, notes: string[]): void {
  const entries = 'uvm_channel_num_gpfifo_entries';
  // Clamped first, so that the default is taken only for numbers in range that are no power of two.
  if (!Number.isInteger(Math.log2(values[entries] as number))) {
    values[entries] = MODULE_PARAMETERS[entries].default;
    notes.push(changed(entries, given[entries], values[entries], 'valid: powers of two from 32 to 1048576'));
  }
  const sizes = 'uvm_cpu_chunk_allocation_sizes';
  // Unknown sizes are dropped without a word; only a mask without the 4 KiB size is replaced, and told.
  const known = (values[sizes] as number) & CPU_CHUNK_SIZES;
  values[sizes] = (known & 0x1000) !== 0 ? known : CPU_CHUNK_SIZES;
  if ((known & 0x1000) === 0) {
    notes.push(changed(sizes, known, CPU_CHUNK_SIZES, 'valid: 4096, or with 65536 and 2097152'));
  }
}

/** Strings: an unknown one gives way to the default. */
function checkTexts(values: Values, notes: string[]): void {
  // The driver's test of a location looks at the GPFIFO's whichever of the three it is asked about: a bad one there
  // replaces all three, and a bad one elsewhere passes and then acts as the default without a word.
  const { choices } = MODULE_PARAMETERS.uvm_channel_gpfifo_loc;
  const valid = choices.includes(values.uvm_channel_gpfifo_loc as string);
  for (const name of ['uvm_channel_pushbuffer_loc', 'uvm_channel_gpfifo_loc', 'uvm_channel_gpput_loc']) {
    if (!valid && values[name] !== 'auto') {
      notes.push(changed(name, values[name], 'auto', `valid: ${choices.join(', ')}`));
    }
    if (!valid || !choices.includes(values[name] as string)) values[name] = 'auto';
  }
  for (const name of ['uvm_page_table_location', 'uvm_peer_copy'] as const) {
    const info: TextParameter = MODULE_PARAMETERS[name];
    if (info.choices.includes(values[name] as string)) continue;
    notes.push(changed(name, values[name], info.default, `valid: ${info.choices.join(', ')}`));
    values[name] = info.default;
  }
}

/** A push can use this many IVs; and a channel has 2^32 - 1, of which at least one is used between two rotations. */
const IV_LIMIT_MIN = 2342;
const IV_LIMIT_MAX = 0xfffffffe;
/** With the driver's tests on, a channel that has used 500 IVs gets new ones. */
const IV_LIMIT_TESTS = 2 ** 32 - 500;

/** uvm_conf_computing_gpu_init */
function checkIvLimit(values: Values, notes: string[]): void {
  const name = 'uvm_conf_computing_channel_iv_rotation_limit';
  const { default: fallback } = MODULE_PARAMETERS[name];
  if (values.uvm_enable_builtin_tests !== 0 && values[name] === fallback) values[name] = IV_LIMIT_TESTS;
  const range: ParameterRange = { min: IV_LIMIT_MIN, max: IV_LIMIT_MAX, outside: 'default' };
  const [used, note] = checkRange(name, values[name] as number, fallback, range);
  values[name] = used;
  if (note !== null) notes.push(note);
}

/** About 52 days. The driver's 64-bit products can be longer, and wrap; no run is, and numbers here must stay exact. */
const LAPSES_MAX_NS = 2 ** 52;

function derive(values: Values): DerivedParameters {
  const lapse = (values.uvm_perf_thrashing_lapse_usec as number) * 1000;
  return {
    thrashingLapseNs: lapse,
    thrashingNapNs: Math.min(lapse * (values.uvm_perf_thrashing_nap as number), LAPSES_MAX_NS),
    thrashingEpochNs: Math.min(lapse * (values.uvm_perf_thrashing_epoch as number), LAPSES_MAX_NS),
    thrashingPinNs: Math.min(lapse * (values.uvm_perf_thrashing_pin as number), LAPSES_MAX_NS),
  };
}

/**
 * Turns what a user asked for into the values the driver would run with. Numbers may be given as numbers or as strings
 * in the kernel's spelling ("0x201000"), switches also as true and false.
 *
 * @param input parameters by the driver's names; those not named keep their defaults
 * @param faultBufferEntries size of the replayable fault buffer, the upper limit of a batch
 * @param confidentialComputing the machine's GPUs run with it: only then its limit of IVs is checked
 * @returns the values and notes, or an error for an unknown name or a value that the kernel would refuse
 */
export function parseModuleParameters(
  input: Record<string, unknown>,
  faultBufferEntries = UINT_MAX,
  confidentialComputing = false,
): ParsedParameters {
  const values: Values = {};
  for (const [name, info] of Object.entries(MODULE_PARAMETERS)) values[name] = info.default;
  for (const [name, value] of Object.entries(input)) {
    if (!Object.hasOwn(MODULE_PARAMETERS, name)) return { ok: false, error: unknownName(name) };
    const parsed = parseValue(name as ParameterName, value);
    if ('error' in parsed) return { ok: false, error: parsed.error };
    values[name] = parsed.value;
  }
  const given = { ...values };
  const notes: string[] = [];
  checkNumbers(values, faultBufferEntries, notes);
  checkBits(values, given, notes);
  checkTexts(values, notes);
  if (confidentialComputing) checkIvLimit(values, notes);
  const params = Object.freeze({ ...values, ...derive(values) });
  return { ok: true, params: params as unknown as ModuleParameters, notes };
}
