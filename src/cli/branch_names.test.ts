import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { branchNames } from './branch_names.ts';
import { runCli } from './program.ts';

const folder = mkdtempSync(join(tmpdir(), 'uvmlab-names-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = join(folder, 'one.json');
writeFileSync(
  file,
  JSON.stringify({
    name: 'one',
    machine: 'h200-pcie5',
    allocations: [{ name: 'a', bytes: 8192 }],
    steps: [
      { on: 'cpu', do: 'write', buffer: 'a', pages: [0] },
      { on: 'gpu0', do: 'read', buffer: 'a', pages: [0] },
    ],
  }),
);

let out = '';
let err = '';
beforeEach(() => {
  out = '';
  err = '';
  process.exitCode = undefined;
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    err += String(text);
    return true;
  });
});

async function explain(...args: string[]): Promise<number> {
  const code = await runCli(['explain', file, ...args]);
  process.exitCode = undefined;
  return code;
}

describe('explain --names', () => {
  it('has the functions of the branch, with a mark and a footnote for those that it does not have', async () => {
    expect(await explain('--fault', '2')).toBe(0);
    const today = out;
    out = '';
    expect(await explain('--fault', '2', '--names', '545')).toBe(0);
    const [text, footnote] = out.split('\nNames of functions are those of driver 545.29.06');
    const back = text
      .replaceAll('uvm_gpu_service_replayable_faults', 'uvm_parent_gpu_service_replayable_faults')
      .replaceAll('block_service_finish_map*', 'block_service_finish_map');
    expect(back).not.toBe(text);
    expect(back).toBe(today);
    expect(footnote).toContain('* not a function of 545.29.06 under this name: block_service_finish_map\n');
  });

  it('takes a version, and needs no footnote where all is there', async () => {
    expect(await explain('--page', '0', '--names', '580.105.08')).toBe(0);
    expect(out).toMatch(/Names of functions are those of driver 580\.105\.08; what happens is what 580 does\.\n$/);
  });

  it('renames in JSON too', async () => {
    expect(await explain('--fault', '2', '--names', '550', '--json')).toBe(0);
    expect(JSON.parse(out).names).toEqual({ driver: '550.163.01', notThere: ['block_service_finish_map'] });
    expect(out).toContain('"function": "uvm_gpu_service_replayable_faults"');
    expect(out).not.toContain('uvm_parent_gpu_service_replayable_faults');
  });

  it('refuses other versions', async () => {
    expect(await explain('--fault', '2', '--names', '560')).toBe(2);
    expect(err).toContain('--names 560: not in the map; valid: 535 (535.288.01)');
  });
});

it("a name is today's where the branch has it under no other", () => {
  const names = branchNames('535');
  expect(names.marked('uvm_parent_gpu_init_isr')).toBe('uvm_gpu_init_isr');
  expect(names.marked('uvm_push_end')).toBe('uvm_push_end');
  expect(names.marked('no_such_function')).toBe('no_such_function*');
  expect(names.renamed({ function: 'uvm_parent_gpu_init_isr', other: ['uvm_parent_gpu_init_isr', null, 1] })).toEqual({
    function: 'uvm_gpu_init_isr',
    other: ['uvm_parent_gpu_init_isr', null, 1],
  });
});
