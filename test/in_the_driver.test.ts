/** docs/in-the-driver.md: its table of places is the map's, and what it says holds for each branch that it speaks of. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { type Branch, loadDriverMap } from '../src/analysis/driver_map.ts';

const map = loadDriverMap();
const text = readFileSync(new URL('../docs/in-the-driver.md', import.meta.url), 'utf8');
const rows = text
  .split('\n')
  .filter((line) => line.startsWith('|'))
  .map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );

/** What a cell must say: "10427", or for a name that has no place in the branch a dash. */
function cell(branch: Branch, file: string, name: string, callee: string | undefined): string {
  const definition = branch.byName.get(name)?.find((one) => one.file === file);
  if (definition === undefined) return '–';
  if (callee === undefined) return String(definition.from);
  const call = branch.calls.get(`${file}:${name}`)?.find((one) => one.name === callee);
  return call === undefined ? '–' : String(call.line);
}

it('the table has the versions of the map', () => {
  expect(rows[0].slice(1)).toEqual(map.branches.map(({ tag }) => tag));
});

it.each(rows.slice(2))('%s', (...row) => {
  const match = /^(\S+\.[ch]): `(\w+)`(?: calls `(\w+)`)?$/.exec(row[0]);
  expect(match, row[0]).not.toBeNull();
  const [, file, name, callee] = match ?? [];
  const expected = map.branches.map((branch) => cell(branch, file, name, callee));
  expect(expected.some((one) => one !== '–')).toBe(true);
  expect(row.slice(1)).toEqual(expected);
});

it('every branch has the hook, the stale fault and the tracker rule', () => {
  for (const key of [
    'uvm_va_block_make_resident_finish',
    'uvm_va_block_page_is_gpu_authorized',
    'uvm_tracker_add_tracker_safe',
  ]) {
    const row = rows.find(([what]) => what.endsWith(`calls \`${key}\``));
    expect(row?.slice(1).filter((one) => /^\d+$/.test(one))).toHaveLength(map.branches.length);
  }
});

it('functions that it names are in the map', () => {
  const prose = text.replace(/^\|.*$/gm, '');
  const names = [...prose.matchAll(/`((?:uvm|nv|block|service|tools)_\w+)`/g)].map(([, name]) => name);
  expect(names.length).toBeGreaterThan(20);
  // Macros, which the map does not have.
  const macros = ['uvm_push_begin_acquire'];
  for (const name of names) {
    const known = map.branches.some(({ byName }) => byName.has(name)) || macros.includes(name);
    expect(known, name).toBe(true);
  }
});
