import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { explainFault } from '../analysis/explain.ts';
import { loadMachines } from '../analysis/machines.ts';
import { runCli } from './program.ts';

const folder = mkdtempSync(join(tmpdir(), 'uvmlab-explain-'));
afterAll(() => rmSync(folder, { recursive: true }));

function scenario(name: string, allocations: unknown[] = [{ name: 'a', bytes: 2097152 }]): Record<string, unknown> {
  const steps = [
    { on: 'cpu', do: 'write', buffer: 'a', pages: [0] },
    { on: 'gpu0', do: 'read', buffer: 'a', pages: [0] },
  ];
  return { name, machine: 'h200-pcie5', allocations, steps };
}

function file(name: string, lines: unknown[]): string {
  const path = join(folder, name);
  writeFileSync(path, lines.map((line) => `${typeof line === 'string' ? line : JSON.stringify(line)}\n`).join(''));
  return path;
}

const one = file('one.json', [scenario('only')]);
const two = file('two.jsonl', [scenario('first'), scenario('second')]);
const buffers = file('buffers.json', [
  scenario('buffers', [
    { name: 'a', bytes: 4096 },
    { name: 'b', bytes: 8192 },
    { name: 'h', bytes: 4096, kind: 'host' },
  ]),
]);
const broken = file('broken.jsonl', [scenario('fine'), '{']);

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
  const code = await runCli(['explain', ...args]);
  process.exitCode = undefined;
  return code;
}

describe('explain', () => {
  it('prints the way of a fault', async () => {
    expect(await explain(one, '--fault', '2')).toBe(0);
    expect(out).toMatch(/^Fault 2 of 2 in only: read by gpu0, page 0 of a, fault type invalidPde\n/);
    expect(out).toContain('uvm_va_block_select_residency for page 0: gpu0');
    expect(err).toBe('');
  });

  it('prints it as JSON, whole', async () => {
    expect(await explain(one, '--fault', '2', '--json', '--traced')).toBe(0);
    const entry = { kind: 'case' as const, line: 1, scenario: scenario('only') };
    const result = explainFault(entry, 2, loadMachines(), { traced: true });
    expect(JSON.parse(out)).toEqual(JSON.parse(JSON.stringify(result.ok && result.explanation)));
  });

  it('takes the scenario by its name, also from a file with a bad line', async () => {
    expect(await explain(two, '--scenario', 'second', '--fault', '1')).toBe(0);
    expect(out).toMatch(/^Fault 1 of 2 in second/);
    out = '';
    expect(await explain(broken, '--scenario', 'fine', '--fault', '1')).toBe(0);
    expect(out).toMatch(/^Fault 1 of 2 in fine/);
  });

  it('takes parameters', async () => {
    expect(await explain(one, '--fault', '2', '--param', 'uvm_perf_prefetch_enable=0')).toBe(0);
    expect(out).toContain('prefetching is disabled\n');
  });

  it.each([['a:0'], ['0']])('tells the story of page %s', async (page) => {
    expect(await explain(one, '--page', page)).toBe(0);
    expect(out).toMatch(/^Page 0 of a in only: 2 faults \(1 by cpu, 1 by gpu0\), 1 copy\n/);
    expect(out).toContain('mapped on gpu0: read, write and atomics');
  });

  it('tells the story of a page as JSON', async () => {
    expect(await explain(buffers, '--page', 'b:1', '--json')).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ buffer: 'b', page: 1, entries: [], resident: [], moves: 0 });
  });
});

describe('mistakes', () => {
  it.each([
    [[one], 'explain needs --fault N, --page BUFFER:INDEX or --copy N'],
    [[one, '--fault', '1', '--page', '0'], 'and takes one of them'],
    [[one, '--fault', 'x'], '--fault x: expected a whole number from 1'],
    [[one, '--fault', '1.5'], '--fault 1.5: expected a whole number from 1'],
    [[one, '--fault', '0'], "scenario 'only' has no fault 0; valid: 1 to 2"],
    [[one, '--fault', '3'], "scenario 'only' has no fault 3; valid: 1 to 2"],
    [[one, '--page', 'a'], '--page a: expected BUFFER:INDEX, or INDEX, which counts 4 KiB pages from 0'],
    [[one, '--page', 'c:0'], "unknown buffer 'c'; valid: a"],
    [[one, '--page', 'a:512'], "buffer 'a' has no page 512; valid: 0 to 511"],
    [[buffers, '--page', '0'], 'page 0 of which buffer? write BUFFER:0; valid: a, b, h'],
    [[buffers, '--page', 'h:0'], "buffer 'h' is host memory, which has no faults"],
    [[two, '--fault', '1'], 'has 2 scenarios: choose one with --scenario; first, second'],
    [[two, '--scenario', 'third', '--fault', '1'], '--scenario third: not in'],
    [[broken, '--scenario', 'third', '--fault', '1'], 'valid: fine; besides, '],
    [[join(folder, 'missing.json'), '--fault', '1'], 'no such file'],
  ])('%j: %s', async (args, message) => {
    expect(await explain(...args)).toBe(2);
    expect(err).toContain(message);
    expect(out).toBe('');
  });

  it('of the scenario end with 1', async () => {
    const bad = file('bad.json', [{ ...scenario('bad'), machine: 'none' }]);
    expect(await explain(bad, '--fault', '1')).toBe(1);
    expect(err).toContain('machine');
    expect(await explain(bad, '--page', '0')).toBe(1);
  });
});
