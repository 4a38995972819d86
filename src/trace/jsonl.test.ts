import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createLineWriter } from './jsonl.ts';

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'uvmlab-lines-'));
  path = join(dir, 'out.jsonl');
});
afterEach(() => rmSync(dir, { recursive: true }));

it('shows the file only when it is whole', () => {
  const writer = createLineWriter(path);
  writer.write({ a: 1 });
  writer.writeText('{"b":');
  writer.writeText('[2]}\n');
  expect(readdirSync(dir).length).toBe(1);
  expect(readdirSync(dir)).not.toContain('out.jsonl');
  writer.commit();
  expect(readdirSync(dir)).toEqual(['out.jsonl']);
  expect(readFileSync(path, 'utf8')).toBe('{"a":1}\n{"b":[2]}\n');
});

it('replaces an older file at the end, and keeps it when given up', () => {
  writeFileSync(path, 'old');
  const given = createLineWriter(path);
  given.write('x'.repeat(3_000_000));
  given.abort();
  given.abort();
  expect(readdirSync(dir)).toEqual(['out.jsonl']);
  expect(readFileSync(path, 'utf8')).toBe('old');
  const kept = createLineWriter(path);
  expect(readFileSync(path, 'utf8')).toBe('old');
  kept.commit();
  kept.abort();
  expect(readFileSync(path, 'utf8')).toBe('');
});

it('writes much more than it holds back', () => {
  const writer = createLineWriter(path);
  const line = 'ü'.repeat(100_000);
  for (let i = 0; i < 30; i++) writer.write(line);
  writer.commit();
  expect(readFileSync(path, 'utf8')).toBe(`"${line}"\n`.repeat(30));
});

it('gives two writers of one file names of their own', () => {
  const first = createLineWriter(path);
  const second = createLineWriter(path);
  first.write(1);
  second.write(2);
  first.commit();
  expect(readFileSync(path, 'utf8')).toBe('1\n');
  second.commit();
  expect(readFileSync(path, 'utf8')).toBe('2\n');
  expect(readdirSync(dir)).toEqual(['out.jsonl']);
});

it('replaces the file behind a link, not the link', () => {
  mkdirSync(join(dir, 'real'));
  const real = join(dir, 'real', 'file.jsonl');
  writeFileSync(real, 'old');
  symlinkSync(real, path);
  const writer = createLineWriter(path);
  writer.write(1);
  writer.commit();
  expect(readFileSync(real, 'utf8')).toBe('1\n');
  expect(readdirSync(join(dir, 'real'))).toEqual(['file.jsonl']);
});

it('says why a file cannot be written', () => {
  expect(() => createLineWriter(dir)).toThrow(`${dir}: cannot be written: it is a folder`);
  const nowhere = join(dir, 'none', 'out.jsonl');
  expect(() => createLineWriter(nowhere)).toThrow(
    `${nowhere}: cannot be written: there is no folder ${join(dir, 'none')}`,
  );
  writeFileSync(path, '');
  const inFile = join(path, 'x.jsonl');
  expect(() => createLineWriter(inFile)).toThrow(`${inFile}: cannot be written: there is no folder ${path}`);
  expect(readdirSync(dir)).toEqual(['out.jsonl']);
});

it('refuses lines after the end', () => {
  const writer = createLineWriter(path);
  writer.commit();
  expect(() => writer.write(1)).toThrow('a line was written after the file had ended');
  expect(() => writer.commit()).toThrow('a file was ended twice');
});
