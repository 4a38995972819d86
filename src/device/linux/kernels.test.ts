import { describe, expect, it } from 'vitest';
import { KERNEL_NAMES, KERNELS_PTX } from './kernels.ts';

/** The parameters of each entry of the text, as [width in bits, name]. */
function entries(ptx: string): Map<string, [number, string][]> {
  const out = new Map<string, [number, string][]>();
  for (const [, name, params] of ptx.matchAll(/\.visible \.entry (\w+)\(([^)]*)\)/g)) {
    const list = params.split(',').map((param): [number, string] => {
      const match = /^\s*\.param \.u(32|64) (\w+)\s*$/.exec(param);
      if (match === null) throw new Error(`${name}: ${param}`);
      return [Number(match[1]), match[2]];
    });
    out.set(name, list);
  }
  return out;
}

/** The text of one entry's body. */
function body(name: string): string {
  const from = KERNELS_PTX.indexOf(`.entry ${name}(`);
  return KERNELS_PTX.slice(from, KERNELS_PTX.indexOf('\n}\n', from));
}

describe('the kernels', () => {
  const found = entries(KERNELS_PTX);

  it('are the entries of the text, each once, behind one head', () => {
    expect([...found.keys()]).toEqual([...KERNEL_NAMES]);
    expect(KERNELS_PTX.match(/\.entry /g)).toHaveLength(KERNEL_NAMES.length);
    expect(KERNELS_PTX.startsWith('.version 7.0\n.target sm_70\n.address_size 64\n')).toBe(true);
    expect(KERNELS_PTX.match(/^\.version|^\.target|^\.address_size/gm)).toHaveLength(3);
  });

  it.each(KERNEL_NAMES)('%s loads every parameter in its width', (name) => {
    const params = found.get(name) ?? [];
    const loads = [...body(name).matchAll(/ld\.param\.u(32|64) %(r|rd)\d+, \[(\w+)\];/g)];
    expect(loads.map(([, bits, , param]) => [Number(bits), param])).toEqual(params);
    for (const [, bits, register] of loads) expect(register).toBe(bits === '64' ? 'rd' : 'r');
  });

  it.each(KERNEL_NAMES)('%s declares every register that it uses', (name) => {
    const text = body(name);
    const declared = new Map(
      [...text.matchAll(/\.reg \.\w+ %(\w+)<(\d+)>;/g)].map(([, kind, count]) => [kind, Number(count)]),
    );
    for (const [, kind, index] of text.matchAll(/%(p|rd|r|f)(\d+)\b/g)) {
      expect(Number(index), `%${kind}${index}`).toBeLessThan(declared.get(kind) ?? 0);
    }
  });

  it.each(KERNEL_NAMES)('%s jumps to labels of its own', (name) => {
    const text = body(name);
    const labels = [...text.matchAll(/^(\w+):$/gm)].map(([, label]) => label);
    const jumps = [...text.matchAll(/\bbra (\w+);/g)].map(([, label]) => label);
    expect(new Set(labels).size).toBe(labels.length);
    expect([...new Set(jumps)].sort()).toEqual([...labels].filter((label) => jumps.includes(label)).sort());
    expect(jumps.every((label) => labels.includes(label))).toBe(true);
  });
});
