import { describe, expect, it } from 'vitest';
import { MODULE_PARAMETERS, type ModuleParameters, parseModuleParameters } from './params.ts';

/** As /sys/module/nvidia_uvm/parameters shows them on a machine where nobody set any. */
const SYSFS = `
uvm_ats_mode=1 uvm_block_cpu_to_cpu_copy_with_ce=0 uvm_channel_gpfifo_loc=auto uvm_channel_gpput_loc=auto
uvm_channel_num_gpfifo_entries=1024 uvm_channel_pushbuffer_loc=auto
uvm_conf_computing_channel_iv_rotation_limit=2147483648 uvm_cpu_chunk_allocation_sizes=2166784
uvm_debug_enable_push_acquire_info=0 uvm_debug_enable_push_desc=0 uvm_debug_prints=0 uvm_disable_hmm=N
uvm_downgrade_force_membar_sys=1 uvm_enable_builtin_tests=0 uvm_enable_debug_procfs=0 uvm_enable_va_space_mm=1
uvm_exp_gpu_cache_peermem=0 uvm_exp_gpu_cache_sysmem=0 uvm_fault_force_sysmem=0 uvm_force_prefetch_fault_support=0
uvm_global_oversubscription=1 uvm_leak_checker=0 uvm_page_table_location=(null) uvm_peer_copy=phys
uvm_perf_access_counter_batch_count=256 uvm_perf_access_counter_migration_enable=-1
uvm_perf_access_counter_threshold=256 uvm_perf_fault_batch_count=256 uvm_perf_fault_coalesce=1
uvm_perf_fault_max_batches_per_service=20 uvm_perf_fault_max_throttle_per_service=5 uvm_perf_fault_replay_policy=2
uvm_perf_fault_replay_update_put_ratio=50 uvm_perf_map_remote_on_eviction=1
uvm_perf_map_remote_on_native_atomics_fault=0 uvm_perf_migrate_cpu_preunmap_block_order=2
uvm_perf_migrate_cpu_preunmap_enable=1 uvm_perf_pma_batch_nonpinned_order=6 uvm_perf_prefetch_enable=1
uvm_perf_prefetch_min_faults=1 uvm_perf_prefetch_threshold=51 uvm_perf_reenable_prefetch_faults_lapse_msec=1000
uvm_perf_thrashing_enable=1 uvm_perf_thrashing_epoch=2000 uvm_perf_thrashing_lapse_usec=500
uvm_perf_thrashing_max_resets=4 uvm_perf_thrashing_nap=1 uvm_perf_thrashing_pin=300
uvm_perf_thrashing_pin_threshold=10 uvm_perf_thrashing_threshold=3 uvm_release_asserts=1
uvm_release_asserts_dump_stack=0 uvm_release_asserts_set_global_error=0`;

const LISTED = SYSFS.trim()
  .split(/\s+/)
  .map((line) => line.split('=') as [string, string]);

function parse(input: Record<string, unknown>, entries?: number): { params: ModuleParameters; notes: string[] } {
  const result = parseModuleParameters(input, entries);
  if (!result.ok) throw new Error(result.error);
  return result;
}

function refusal(input: Record<string, unknown>): string {
  const result = parseModuleParameters(input);
  return result.ok ? 'accepted' : result.error;
}

describe('defaults', () => {
  it('are those of an untouched machine, all 53', () => {
    const { params, notes } = parse({});
    expect(LISTED).toHaveLength(53);
    expect(Object.keys(MODULE_PARAMETERS)).toEqual(LISTED.map(([name]) => name));
    for (const [name, value] of LISTED) {
      const have = params[name as keyof ModuleParameters];
      expect([name, String(have)]).toEqual([name, value === 'N' ? '0' : value]);
    }
    expect(notes).toEqual([]);
  });

  it('give the derived times, and the result is frozen and flat', () => {
    const { params } = parse({});
    expect(params.thrashingLapseNs).toBe(500_000);
    expect(params.thrashingNapNs).toBe(500_000);
    expect(params.thrashingEpochNs).toBe(1_000_000_000);
    expect(params.thrashingPinNs).toBe(150_000_000);
    expect(Object.isFrozen(params)).toBe(true);
    expect(Object.values(params).filter((value) => typeof value === 'object')).toEqual([]);
  });
});

describe('values outside the range', () => {
  it.each([
    ['uvm_perf_prefetch_threshold', 0, 100, 51],
    ['uvm_perf_prefetch_min_faults', 1, 20, 1],
    ['uvm_perf_thrashing_threshold', 1, 7, 3],
    ['uvm_perf_thrashing_pin_threshold', 1, 255, 10],
    ['uvm_perf_thrashing_nap', 1, 100, 1],
    ['uvm_perf_thrashing_enable', 0, 1, 1],
    ['uvm_perf_fault_replay_policy', 0, 3, 2],
    ['uvm_perf_migrate_cpu_preunmap_block_order', 0, 10, 2],
  ] as const)('%s takes %i to %i, else its default %i', (name, min, max, fallback) => {
    for (const good of [min, max]) {
      expect(parse({ [name]: good })).toMatchObject({ params: { [name]: good }, notes: [] });
    }
    const bad = max + 1;
    expect(parse({ [name]: bad })).toMatchObject({
      params: { [name]: fallback },
      notes: [`${name} changed from ${bad} to ${fallback} (valid: ${min} to ${max})`],
    });
    if (min > 0) expect(parse({ [name]: min - 1 }).params[name]).toBe(fallback);
  });

  it.each([
    ['uvm_perf_thrashing_lapse_usec', 500],
    ['uvm_perf_thrashing_epoch', 2000],
  ] as const)('%s must not be zero', (name, fallback) => {
    expect(parse({ [name]: 0 }).params[name]).toBe(fallback);
    expect(parse({ [name]: 1 })).toMatchObject({ params: { [name]: 1 }, notes: [] });
    expect(parse({ [name]: 0xffffffff }).params[name]).toBe(0xffffffff);
  });

  it.each([
    ['uvm_perf_fault_replay_update_put_ratio', 101, 100],
    ['uvm_perf_access_counter_threshold', 0, 1],
    ['uvm_perf_access_counter_threshold', 65536, 65535],
    ['uvm_perf_access_counter_batch_count', 0, 1],
    ['uvm_perf_fault_batch_count', 0, 1],
    ['uvm_channel_num_gpfifo_entries', 31, 32],
    ['uvm_channel_num_gpfifo_entries', 1048577, 1048576],
  ] as const)('%s of %i is clamped to %i', (name, bad, used) => {
    const { params, notes } = parse({ [name]: bad });
    expect(params[name]).toBe(used);
    expect(notes).toHaveLength(1);
    expect(notes[0]).toContain(`${name} changed from ${bad} to ${used}`);
    expect(parse({ [name]: used })).toMatchObject({ params: { [name]: used }, notes: [] });
  });

  it('a batch is at most the fault buffer', () => {
    expect(parse({ uvm_perf_fault_batch_count: 8192 }, 8192)).toMatchObject({ notes: [] });
    const over = parse({ uvm_perf_fault_batch_count: 8193 }, 8192);
    expect(over.params.uvm_perf_fault_batch_count).toBe(8192);
    expect(over.notes).toEqual(['uvm_perf_fault_batch_count changed from 8193 to 8192 (valid: 1 to 8192)']);
  });

  it('GPFIFO entries in range that are no power of two become the default', () => {
    expect(parse({ uvm_channel_num_gpfifo_entries: 33 }).params.uvm_channel_num_gpfifo_entries).toBe(1024);
    expect(parse({ uvm_channel_num_gpfifo_entries: 33 }).notes).toHaveLength(1);
    expect(parse({ uvm_channel_num_gpfifo_entries: 64 }).params.uvm_channel_num_gpfifo_entries).toBe(64);
  });

  it('unknown CPU chunk sizes are dropped in silence, a mask without 4 KiB is replaced', () => {
    const name = 'uvm_cpu_chunk_allocation_sizes';
    expect(parse({ [name]: 0x1000 | 0x2000 })).toMatchObject({ params: { [name]: 0x1000 }, notes: [] });
    expect(parse({ [name]: 0x11000 })).toMatchObject({ params: { [name]: 0x11000 }, notes: [] });
    const { params, notes } = parse({ [name]: 0x210000 });
    expect(params[name]).toBe(2166784);
    expect(notes).toEqual([`${name} changed from 2162688 to 2166784 (valid: 4096, or with 65536 and 2097152)`]);
  });

  it('are not looked at while the feature is off', () => {
    const off = parse({
      uvm_perf_prefetch_enable: 0,
      uvm_perf_prefetch_threshold: 300,
      uvm_perf_thrashing_enable: 0,
      uvm_perf_thrashing_nap: 0,
      uvm_perf_migrate_cpu_preunmap_enable: 0,
      uvm_perf_migrate_cpu_preunmap_block_order: 11,
    });
    expect(off.notes).toEqual([]);
  });

  it('have no meaning for parameters that the driver does not check', () => {
    expect(parse({ uvm_perf_fault_max_batches_per_service: 0, uvm_perf_thrashing_pin: 0 })).toMatchObject({
      params: { uvm_perf_fault_max_batches_per_service: 0, thrashingPinNs: 0 },
      notes: [],
    });
  });
});

describe('strings', () => {
  it('a bad GPFIFO location replaces all three locations, a bad one elsewhere only itself and in silence', () => {
    const all = parse({ uvm_channel_gpfifo_loc: 'x', uvm_channel_gpput_loc: 'sys' });
    expect(all.params).toMatchObject({ uvm_channel_gpfifo_loc: 'auto', uvm_channel_gpput_loc: 'auto' });
    expect(all.notes).toHaveLength(2);
    const one = parse({ uvm_channel_gpfifo_loc: 'vid', uvm_channel_gpput_loc: 'x', uvm_channel_pushbuffer_loc: 'sys' });
    expect(one).toMatchObject({
      params: { uvm_channel_gpfifo_loc: 'vid', uvm_channel_gpput_loc: 'auto', uvm_channel_pushbuffer_loc: 'sys' },
      notes: [],
    });
  });

  it('other unknown strings give way to the default, with a note', () => {
    const { params, notes } = parse({ uvm_peer_copy: 'fast', uvm_page_table_location: 'moon' });
    expect(params).toMatchObject({ uvm_peer_copy: 'phys', uvm_page_table_location: '(null)' });
    expect(notes).toHaveLength(2);
    expect(parse({ uvm_peer_copy: 'virt', uvm_page_table_location: 'sys' }).notes).toEqual([]);
  });
});

describe('spellings', () => {
  it.each([
    ['51', 51],
    ['0x33', 51],
    ['063', 51],
    ['0', 0],
    [true, 1],
    [false, 0],
  ])('%o is the number %i', (given, value) => {
    expect(parse({ uvm_perf_prefetch_threshold: given }).params.uvm_perf_prefetch_threshold).toBe(value);
  });

  it('signs are for signed parameters', () => {
    expect(parse({ uvm_perf_access_counter_migration_enable: '-1' }).params).toMatchObject({
      uvm_perf_access_counter_migration_enable: -1,
    });
    expect(refusal({ uvm_perf_prefetch_threshold: '-1' })).toContain('0 to 4294967295 (uint)');
  });

  it.each([
    ['Y', 1],
    ['n', 0],
    ['1', 1],
    ['off', 0],
    [true, 1],
  ])('%o is the switch %i', (given, value) => {
    expect(parse({ uvm_disable_hmm: given }).params.uvm_disable_hmm).toBe(value);
  });
});

describe('errors', () => {
  it.each([
    ['uvm_perf_prefetch_threshold', 'high', '"high" is not an integer from 0 to 4294967295 (uint)'],
    ['uvm_perf_prefetch_threshold', 1.5, '1.5 is not an integer'],
    ['uvm_perf_prefetch_threshold', 4294967296, '4294967296 is not an integer'],
    ['uvm_perf_prefetch_threshold', '09', '"09" is not an integer'],
    ['uvm_perf_prefetch_threshold', null, 'null is not an integer'],
    ['uvm_ats_mode', 2147483648, '2147483648 is not an integer from -2147483648 to 2147483647 (int)'],
    ['uvm_disable_hmm', 'maybe', '"maybe" is not Y or N'],
    ['uvm_peer_copy', 1, '1 is not a string; choices: phys, virt'],
  ])('%s = %o', (name, value, message) => {
    expect(refusal({ [name]: value })).toContain(`module parameter ${name}: ${message}`);
  });

  it('an unknown name gets near ones, and where the valid ones are', () => {
    const typo = refusal({ uvm_perf_prefetch_treshold: 51 });
    expect(typo).toContain('unknown module parameter "uvm_perf_prefetch_treshold"');
    expect(typo).toContain('did you mean uvm_perf_prefetch_threshold');
    expect(typo).toContain('/sys/module/nvidia_uvm/parameters');
    expect(refusal({ 'thrashing-nap': 1 })).toContain('did you mean uvm_perf_thrashing_nap?');
  });

  it('names from far away, and those every object has, are unknown without a guess', () => {
    for (const name of ['volume', 'constructor', '__proto__']) {
      const input = Object.fromEntries([[name, 1]]);
      expect(refusal(input)).toContain(`unknown module parameter "${name}".`);
    }
  });
});

describe('the limit of IVs', () => {
  const name = 'uvm_conf_computing_channel_iv_rotation_limit';
  const limit = (input: Record<string, number>, confidentialComputing = true) => {
    const parsed = parseModuleParameters(input, 1024, confidentialComputing);
    if (!parsed.ok) throw new Error(parsed.error);
    return [parsed.params[name], parsed.notes.length];
  };

  it('has a range with Confidential Computing alone, outside of which the default holds', () => {
    expect([2341, 2342, 0xfffffffe, 0xffffffff].map((value) => limit({ [name]: value }))).toEqual([
      [2 ** 31, 1],
      [2342, 0],
      [0xfffffffe, 0],
      [2 ** 31, 1],
    ]);
    expect(limit({ [name]: 2341 }, false)).toEqual([2341, 0]);
  });

  it('leaves 500 IVs when the driver tests itself and nobody set another', () => {
    expect(limit({ uvm_enable_builtin_tests: 1 })).toEqual([2 ** 32 - 500, 0]);
    expect(limit({ uvm_enable_builtin_tests: 1, [name]: 5000 })).toEqual([5000, 0]);
    expect(limit({ uvm_enable_builtin_tests: 1 }, false)).toEqual([2 ** 31, 0]);
  });
});
