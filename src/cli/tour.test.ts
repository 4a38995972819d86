import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { captureCli } from '../../test/support/captured_cli.ts';
import { TOUR_SCENARIO } from '../analysis/tour.ts';

const folder = mkdtempSync(join(tmpdir(), 'uvmlab-tour-'));
afterAll(() => rmSync(folder, { recursive: true }));

const captured = captureCli();

async function cli(...args: string[]): Promise<{ code: number; text: string }> {
  captured.out = '';
  const code = await captured.run(...args);
  return { code, text: captured.out };
}

const HEADINGS = [
  '1. Who calls uvm_va_block_select_residency',
  '2. The GPU page-fault routine',
  '3. One valid copy of a page in the whole system',
  '4. The custom copy',
  '5. Its rival: explicit copies',
  '6. Channel types',
  '7. How the CPU knows that a push is completed',
];

/** Every name, file and line of the notes. */
const NOTES = [
  'uvm_va_block_select_residency',
  '_main_loop',
  'nv-kthread-q.c',
  'nv_kthread_q_init_on_node',
  'uvm_gpu_init_isr',
  'uvm_gpu_isr.c:280',
  'init_queue_on_node',
  'bottom-half queue',
  'uvm_gpu_fault_buffer_init',
  'uvm_gpu_replayable_faults.c:229',
  'fault_buffer_init_replayable_faults',
  'line 122',
  'fault_buffer_info.replayable',
  'batch_service_context',
  'fault_buffer_reinit_replayable_faults',
  'seems to read from gpu buffer',
  'cached_get',
  '…read_get(parent_gpu)',
  'uvm_parent_gpu_init_isr',
  'uvm_parent_gpu_fault_buffer_init',
  'address A',
  'nextCopyAddress',
  'copyFromAddress',
  'address B',
  'To perform custom memcopy, we also need to resolve the original page fault.',
  'we are somewhat reimplementing what is already implemented. CUDA comes with explicit memcopy commands.',
  'Work Launch Channel (WLC)',
  'Launch Confirmation Indicator Channel (LCIC)',
  'Confidential Computing',
  'tracking_semaphore_value',
];

/** As one line, without the marks and breaks of the notes' lines. */
function flat(text: string): string {
  return text.replace(/\n>?\s*/g, ' ');
}

describe('tour', () => {
  it('has every item and every word of the notes, in lines that fit', async () => {
    const { code, text } = await cli('tour');
    expect([code, captured.err]).toEqual([0, '']);
    const at = HEADINGS.map((heading) => text.indexOf(`\n${heading}\n`));
    expect(at).toEqual([...at].sort((a, b) => a - b));
    expect(Math.min(...at)).toBeGreaterThan(0);
    for (const word of NOTES) expect(flat(text), word).toContain(word);
    for (const line of text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(110);
    expect(text).not.toContain('\u001b');
    expect(text).not.toMatch(/undefined|null|NaN|\[object/);
    expect((await cli('tour')).text).toBe(text);
  });

  it.each([1, 2, 3, 4, 5, 6, 7])('prints item %i alone, as it stands in the whole', async (item) => {
    const whole = (await cli('tour')).text;
    const { code, text } = await cli('tour', String(item));
    expect(code).toBe(0);
    expect(HEADINGS.filter((heading) => text.includes(`\n${heading}\n`))).toEqual([HEADINGS[item - 1]]);
    expect(whole).toContain(text.slice(text.indexOf(`${HEADINGS[item - 1]}\n`)));
  });

  it('prints the facts as JSON', async () => {
    const { items, page } = JSON.parse((await cli('tour', '--json')).text);
    expect(items.map((one: { item: number }) => one.item)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(page).toBe(5);
    const one = JSON.parse((await cli('tour', '6', '--json')).text);
    expect(one.items).toEqual([items[5]]);
  });

  it('has the values that explain has', async () => {
    const file = join(folder, 'tour.json');
    writeFileSync(file, JSON.stringify(TOUR_SCENARIO));
    const { items } = JSON.parse((await cli('tour', '7', '--json')).text);
    const { number } = JSON.parse((await cli('tour', '2', '--json')).text).items[0].fault.fault;
    const explained = JSON.parse((await cli('explain', file, '--fault', String(number), '--json')).text);
    const values = (pushes: { trackingValue: number; channel: number; begin: number; finish: number }[]) =>
      pushes.map((push) => [push.channel, push.trackingValue, push.begin, push.finish]);
    expect(explained.fault).toMatchObject({ event: 'gpuFault', page: 5 });
    expect(values(items[0].pushes.map((life: { push: never }) => life.push))).toEqual(values(explained.pushes));
  });

  it.each(['0', '8', 'x', '1.5'])('knows no item %s', async (item) => {
    expect((await cli('tour', item)).code).toBe(2);
    expect(captured.err).toContain(`item ${item}: there is none; valid: 1, 2, 3, 4, 5, 6, 7`);
    expect(captured.out).toBe('');
  });
});
