import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { loadMachines, packageVersion, recordingPath } from './machines.ts';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function folderWith(name: string, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'uvmlab-machines-'));
  folders.push(folder);
  writeFileSync(join(folder, name), text);
  return folder;
}

describe('loadMachines', () => {
  it("finds the package's profiles, each under its own name", () => {
    const machines = loadMachines();
    expect(Object.keys(machines.known)).toEqual(['2xh200-nvlink', 'h100-cc', 'h200-pcie5']);
    expect(machines.known['2xh200-nvlink'].gpus).toBe(2);
    for (const name of Object.keys(machines.known)) expect(machines.profile(name).spec.name).toBe(name);
    expect(machines.profile('h200-pcie5')).toBe(machines.profile('h200-pcie5'));
  });

  it('tells what is wrong with a profile only when it is asked for', () => {
    const machines = loadMachines(folderWith('odd.json', '{ "machine": { "gpus": 1 } }'));
    expect(machines.known).toEqual({ odd: { gpus: 1 } });
    expect(() => machines.profile('odd')).toThrow(/machine profile: .*name/s);
  });

  it('passes over files that are no profiles', () => {
    expect(loadMachines(folderWith('notes.txt', 'text')).known).toEqual({});
  });
});

it('knows the package that it is in', () => {
  expect(packageVersion()).toMatch(/^\d+\.\d+\.\d+/);
  expect(recordingPath('serial.jsonl.gz')).toMatch(/recordings.serial\.jsonl\.gz$/);
});
