import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MODULE_PARAMETERS } from '../model/uvm/params.ts';
import { type Branch, findBranch, loadDriverMap } from './driver_map.ts';
import { allNames, FIELD_RENAMES, newestName, RENAMES, type Rename } from './driver_renames.ts';
import { packageRoot } from './machines.ts';

const map = loadDriverMap();
const BRANCHES = ['535', '545', '550', '570', '580', '590', '595'];

function branchOf(name: string): Branch {
  const branch = findBranch(map, name);
  if (branch === null) throw new Error(`no branch ${name}`);
  return branch;
}

/** First lines by branch, read off the sources by hand or by a search of the text. */
const SAMPLES: [file: string, name: string, ...lines: number[]][] = [
  ['uvm_va_block.c', 'uvm_va_block_service_copy', 10310, 11171, 11860, 11709, 11928, 11901, 11534],
  ['uvm_va_block.c', 'uvm_va_block_service_finish', 10427, 11288, 11977, 11854, 12325, 12298, 11919],
  ['uvm_va_block.c', 'uvm_va_block_service_locked', 10697, 11558, 12256, 12133, 12422, 12395, 12014],
  ['uvm_va_block.c', 'uvm_va_block_make_resident_finish', 3794, 4571, 5003, 4950, 5050, 5029, 4911],
];

describe('the map', () => {
  it('has one version of each branch, and is small', () => {
    expect(map.branches.map(({ branch }) => branch)).toEqual(BRANCHES);
    expect(map.branches[4].tag).toBe('580.105.08');
    expect(statSync(join(packageRoot(), 'data/driver-map.json')).size).toBeLessThan(410_000);
    for (const { byName, byFile, fields, calls } of map.branches) {
      expect(byName.size).toBeGreaterThan(2500);
      expect(byFile.size).toBeGreaterThan(100);
      expect(fields.length).toBeGreaterThan(500);
      expect(calls.size).toBeGreaterThan(200);
    }
  });

  it.each(SAMPLES)('has %s: %s where the sources have it', (file, name, ...lines) => {
    const at = map.branches.map((branch) => branch.byName.get(name)?.filter((one) => one.file === file) ?? []);
    expect(at.map((found) => found.map(({ from, conditional }) => [from, conditional]))).toEqual(
      lines.map((line) => [[line, false]]),
    );
  });

  it('has the calls of a function with their lines', () => {
    const lines = map.branches.map(({ calls }) =>
      calls
        .get('uvm_va_block.c:uvm_va_block_service_finish')
        ?.filter(({ name }) => name === 'uvm_va_block_make_resident_finish')
        .map(({ line }) => line),
    );
    expect(lines).toEqual([[10443], [11304], [11994], [11871], [12340], [12313], [11934]]);
  });

  it('keeps definitions inside one another or apart, and calls inside their function', () => {
    for (const { byFile, byName, calls } of map.branches) {
      for (const definitions of byFile.values()) {
        const functions = definitions.filter(({ kind }) => kind === 'function');
        for (const [i, one] of functions.entries()) {
          expect(one.to).toBeGreaterThanOrEqual(one.from);
          if (i > 0) expect(one.from, one.name).toBeGreaterThan(functions[i - 1].to - 1);
        }
      }
      for (const [key, list] of calls) {
        const [file, name] = key.split(':');
        const of = byName.get(name)?.find((one) => one.file === file);
        for (const { line } of list) {
          expect(line, key).toBeGreaterThanOrEqual(of?.from ?? Number.POSITIVE_INFINITY);
          expect(line, key).toBeLessThanOrEqual(of?.to ?? 0);
        }
      }
    }
  });

  it('marks what stands under a condition, and has both sides', () => {
    const found = branchOf('580').byName.get('uvm_hmm_is_enabled') ?? [];
    expect(found.map(({ file, conditional }) => [file, conditional])).toEqual([
      ['uvm_hmm.c', true],
      ['uvm_hmm.h', true],
    ]);
  });

  it('has every module parameter of the model', () => {
    const known = branchOf('580').byName;
    for (const [name, { file }] of Object.entries(MODULE_PARAMETERS)) {
      expect(
        known
          .get(name)
          ?.filter(({ kind }) => kind === 'parameter')
          .map((one) => one.file),
        name,
      ).toEqual([file]);
    }
  });
});

describe('places in the model', () => {
  it('exist; after a change of the model: node scripts/driver-map.mjs', () => {
    const texts = new Map<string, string>();
    for (const { path, symbol } of [...map.places.values(), ...map.fieldPlaces.values()]) {
      const file = join(packageRoot(), path);
      if (!texts.has(path)) texts.set(path, existsSync(file) ? readFileSync(file, 'utf8') : '');
      for (const word of symbol?.split('.') ?? []) {
        expect(new RegExp(`\\b${word}\\b`).test(texts.get(path) ?? ''), `${path}:${symbol}`).toBe(true);
      }
      expect(texts.get(path), path).not.toBe('');
    }
    expect(map.places.size).toBeGreaterThan(300);
  });
});

/** Where each side of a rename is, over the branches. */
function presence([older, newer, since]: Rename, has: (branch: Branch, name: string) => boolean) {
  const first = BRANCHES.indexOf(since);
  return map.branches.map((branch, i) => ({
    branch: branch.branch,
    older: has(branch, older),
    newer: has(branch, newer),
    expected: i < first ? 'older' : 'newer',
  }));
}

describe('renames', () => {
  const hasField = (branch: Branch, path: string): boolean =>
    branch.fields.some(({ type, name }) => `${newestName(type)}.${name}` === path);

  it.each(RENAMES)('%s became %s in %s', (...rename) => {
    const all = presence(rename, ({ byName }, name) => byName.has(name));
    const [before, after] = [
      all.filter(({ expected }) => expected === 'older'),
      all.filter((one) => one.expected === 'newer'),
    ];
    // At the border both hold; farther away a name may not be there yet, or any more.
    expect(before.at(-1)).toMatchObject({ older: true, newer: false });
    expect(after[0]).toMatchObject({ older: false, newer: true });
    expect(before.filter(({ newer }) => newer)).toEqual([]);
    expect(after.filter(({ older }) => older)).toEqual([]);
  });

  it.each(FIELD_RENAMES)('field %s became %s in %s', (...rename) => {
    const all = presence(rename, hasField);
    expect(all.map(({ older }) => older)).toEqual(all.map(({ expected }) => expected === 'older'));
    expect(all.map(({ newer }) => newer)).toEqual(all.map(({ expected }) => expected === 'newer'));
  });

  it('lead from each name to the newest and back', () => {
    expect(newestName('uvm_gpu_init_isr')).toBe('uvm_parent_gpu_init_isr');
    expect(allNames('uvm_gpu_init_isr')).toEqual(['uvm_gpu_init_isr', 'uvm_parent_gpu_init_isr']);
    expect(allNames('uvm_parent_gpu_init_isr')).toEqual(['uvm_gpu_init_isr', 'uvm_parent_gpu_init_isr']);
    expect(allNames('uvm_push_end')).toEqual(['uvm_push_end']);
    const olders = RENAMES.map(([older]) => older);
    expect(new Set(olders).size).toBe(olders.length);
  });
});

it('a branch is found by its name and by its version', () => {
  expect(findBranch(map, '545')?.tag).toBe('545.29.06');
  expect(findBranch(map, '580.105.08')?.branch).toBe('580');
  expect(findBranch(map, '580.105')).toBeNull();
});
