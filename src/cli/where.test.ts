import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { captureCli } from '../../test/support/captured_cli.ts';

const cli = captureCli();

function where(...args: string[]): Promise<number> {
  return cli.run('where', ...args);
}

/** What the first users' notes name, with what an answer must have: the place in 545, the name in 580, the model. */
const NOTES: [what: string, ...answers: string[]][] = [
  ['_main_loop', '545.29.06   _main_loop  nv-kthread-q.c:75', 'nv_kthread_q.ts:mainLoop'],
  ['nv_kthread_q_init_on_node', 'nv-kthread-q.c:220', 'nv_kthread_q.ts:nvKthreadQInitOnNode'],
  [
    'uvm_gpu_init_isr',
    'uvm_parent_gpu_init_isr: function; earlier uvm_gpu_init_isr',
    'uvm_gpu_isr.c:291',
    'parentGpuInitIsr',
  ],
  ['init_queue_on_node', 'uvm_gpu_isr.c:274', 'src/model/uvm/gpu_isr.ts'],
  ['uvm_gpu_fault_buffer_init', 'uvm_gpu_replayable_faults.c:229', 'parentGpuFaultBufferInit'],
  ['fault_buffer_init_replayable_faults', 'uvm_gpu_replayable_faults.c:122', 'faultBufferInitReplayableFaults'],
  [
    'fault_buffer_info.replayable',
    'uvm_parent_gpu_struct.fault_buffer: field; earlier uvm_parent_gpu_struct.fault_buffer_info',
    'uvm_fault_buffer_t.replayable: field; earlier uvm_fault_buffer_info_t.replayable',
    'gpu.ts:Gpu.replayable',
  ],
  ['batch_service_context', 'replayable.batch_service_context: field', 'ReplayableFaults.batch'],
  ['fault_buffer_reinit_replayable_faults', 'uvm_gpu_replayable_faults.c:102', 'faultBufferReinitReplayableFaults'],
  ['cached_get', 'uvm_fault_buffer_info_t.replayable.cached_get  uvm_gpu.h:320', 'ReplayableFaults.cachedGet'],
  [
    '…read_get(parent_gpu)',
    'uvm_fault_buffer_hal_struct.read_get',
    'uvm_volta_fault_buffer.c:49',
    'faultBufferHalReadGet',
  ],
  ['fault_buffer_read_get', 'uvm_hal_volta_fault_buffer_read_get', 'faultBufferHalReadGet'],
  [
    'uvm_va_block_select_residency',
    'uvm_va_block.c:11055',
    'service_fault_batch_block_locked (uvm_gpu_replayable_faults.c:1549)',
    'va_block_residency.ts:vaBlockSelectResidency',
  ],
  ['WLC', 'UVM_CHANNEL_TYPE_WLC: value', 'uvm_channel.h:110', 'channel.ts:CHANNEL_TYPE_WLC'],
  ['LCIC', 'UVM_CHANNEL_TYPE_LCIC: value', 'uvm_channel.h:115', 'channel.ts:CHANNEL_TYPE_LCIC'],
  ['UVM_CHANNEL_TYPE_WLC', 'uvm_channel_type_t.UVM_CHANNEL_TYPE_WLC: value'],
  ['UVM_CHANNEL_TYPE_LCIC', 'uvm_channel_type_t.UVM_CHANNEL_TYPE_LCIC: value'],
  ['tracking_semaphore_value', 'uvm_gpfifo_entry_struct.tracking_semaphore_value', 'channel.ts:GPFIFO_TRACKING_VALUE'],
];

describe('the notes of the first users', () => {
  it.each(NOTES)('%s is answered', async (what, ...answers) => {
    expect(await where(what)).toBe(0);
    for (const answer of answers) expect(cli.out).toContain(answer);
    expect(cli.out).toContain('580.105.08');
    expect(cli.out).not.toMatch(/undefined|null|NaN/);
    expect(cli.out).not.toContain('\u001b');
    expect(cli.err).toBe('');
  });

  it.each(['535', '545'])('line 280 of uvm_gpu_isr.c in %s is a call in init_queue_on_node', async (driver) => {
    expect(await where('uvm_gpu_isr.c:280', '--driver', driver)).toBe(0);
    expect(cli.out).toMatch(/^uvm_gpu_isr\.c:280 in 5[34]5\S+: init_queue_on_node \(274\.\.289\)\n/);
    expect(cli.out).toContain('call  nv_kthread_q_init_on_node, inside the call of errno_to_nv_status: on this line');
    expect(cli.out).toContain('580.105.08  init_queue_on_node  uvm_gpu_isr.c:287..302');
    expect(cli.out).toContain('src/model/uvm/gpu_isr.ts');
  });

  it('lines 229 and 122 begin the functions that the notes say', async () => {
    expect(await where('uvm_gpu_replayable_faults.c:229', '-d', '545')).toBe(0);
    expect(cli.out).toContain(': uvm_gpu_fault_buffer_init (229..267)');
    expect(cli.out).toContain('580.105.08  uvm_parent_gpu_fault_buffer_init');
    cli.out = '';
    expect(await where('uvm_gpu_replayable_faults.c:122', '-d', '535.288.01')).toBe(0);
    expect(cli.out).toContain(': fault_buffer_init_replayable_faults (122..203)');
  });
});

describe('lines', () => {
  it('without --driver are those of 580, and other branches are told', async () => {
    expect(await where('kernel-open/nvidia-uvm/uvm_gpu_isr.c:280')).toBe(0);
    expect(cli.out).toMatch(/^uvm_gpu_isr\.c:280 in 580\.105\.08: uvm_isr_top_half/);
    expect(cli.out).toContain('535 init_queue_on_node, 545 init_queue_on_node, 550 init_queue_on_node');
  });

  it('after a call have the nearest one before them', async () => {
    expect(await where('uvm_gpu_isr.c:281', '--driver', '545')).toBe(0);
    expect(cli.out).toContain('nearest before it, on line 280');
  });

  it('of a structure have the field, and between definitions its neighbours', async () => {
    expect(await where('uvm_gpu.h:366')).toBe(0);
    expect(cli.out).toContain('cached_get of ');
    cli.out = '';
    expect(await where('uvm_gpu_isr.c:273', '--driver', '545')).toBe(0);
    expect(cli.out).toContain('between definitions: after uvm_isr_top_half_entry (269..272) before init_queue_on_node');
  });

  it('are data with --json', async () => {
    expect(await where('uvm_gpu_isr.c:280', '--driver', '545', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toMatchObject({
      branch: '545',
      tag: '545.29.06',
      file: 'uvm_gpu_isr.c',
      line: 280,
      definition: { name: 'init_queue_on_node', from: 274, to: 289 },
      calls: [
        { name: 'nv_kthread_q_init_on_node', line: 280 },
        { name: 'errno_to_nv_status', line: 280 },
      ],
      item: { kind: 'function' },
    });
  });
});

describe('names', () => {
  it('of parameters come with default and range', async () => {
    expect(await where('uvm_perf_prefetch_threshold')).toBe(0);
    expect(cli.out).toContain('default           51; valid: 0 to 100');
    expect(cli.out).toContain('src/model/uvm/params.ts');
    cli.out = '';
    expect(await where('uvm_channel_gpfifo_loc')).toBe(0);
    expect(cli.out).toContain('default           auto; valid: auto, sys, vid');
  });

  it('that a branch does not have are not there', async () => {
    expect(await where('block_service_finish_map')).toBe(0);
    expect(cli.out).toContain('570.211.01  not there');
    expect(cli.out).toContain('580.105.08  block_service_finish_map');
    expect(cli.out).toContain('va_block_service.ts:finishMap, whose comment names it');
  });

  it('of types are found under both forms, and ways through structures', async () => {
    expect(await where('uvm_va_block_t')).toBe(0);
    expect(cli.out).toMatch(/^uvm_va_block_struct: structure\n/);
    cli.out = '';
    expect(await where('parent_gpu->fault_buffer_info.replayable.cached_get')).toBe(0);
    expect(cli.out).toContain('uvm_fault_buffer_t.replayable.cached_get: field');
    expect(cli.out).not.toContain('uvm_fault_buffer_entry_struct');
  });

  it('are data with --json', async () => {
    expect(await where('uvm_gpu_init_isr', '--json')).toBe(0);
    const { items } = JSON.parse(cli.out);
    expect(items).toHaveLength(1);
    expect(items[0]).toMatchObject({
      kind: 'function',
      name: 'uvm_parent_gpu_init_isr',
      names: ['uvm_gpu_init_isr', 'uvm_parent_gpu_init_isr'],
      model: { path: 'src/model/uvm/gpu_isr.ts', symbol: 'parentGpuInitIsr', by: 'name' },
    });
    expect(items[0].branches).toHaveLength(7);
    expect(items[0].branches[1]).toMatchObject({ branch: '545', at: [{ name: 'uvm_gpu_init_isr', from: 291 }] });
  });
});

describe('mistakes', () => {
  it.each([
    [['uvm_va_blok_select_residency'], 'did you mean uvm_va_block_select_residency'],
    [['zzzzzzzzzzzzzzz'], 'no function, type, field or module parameter has this name\n'],
    [['...'], 'no function, type, field or module parameter has this name'],
    [['locked'], 'locked: which one? '],
    [
      ['uvm_gpu_isr.c:280', '--driver', '546'],
      '--driver 546: not in the map; valid: 535 (535.288.01), 545 (545.29.06)',
    ],
    [['uvm_push_end', '--driver', '600'], '--driver 600: not in the map; valid: '],
    [['uvm_gpu_isr.c:0'], 'LINE is a whole number from 1'],
    [['uvm_gpu_isr.c:x'], 'LINE is a whole number from 1'],
    [['uvm_gpu_irs.c:1'], 'the map of 580.105.08 has no file uvm_gpu_irs.c; did you mean uvm_gpu_isr.c'],
    [['uvm_pascal_fault_buffer.c:1', '--driver', '595'], 'there is one in 535, 545, 550, 570, 580, 590'],
  ])('%j: %s', async (args, message) => {
    expect(await where(...args)).toBe(2);
    expect(cli.err).toContain(message);
    expect(cli.out).toBe('');
  });
});

it('answers as the README says', async () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  expect(await where('uvm_gpu_init_isr')).toBe(0);
  expect(readme).toContain(cli.out.replace(/^/gm, '    ').trimEnd());
});

it('has help with examples', async () => {
  expect(await where('--help')).toBe(0);
  expect(cli.out).toContain('uvmlab where uvm_gpu_isr.c:280 --driver 545');
  expect(cli.out).toContain('Exit codes:');
});
