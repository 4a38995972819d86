import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { itOnLinux } from '../../../test/support/on_linux.ts';
import { loadLibc, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../../device/linux/libc.ts';
import { pagePlaces } from './page_place.ts';

const HERE = 'mapped by the CPU';
const ELSEWHERE = 'not mapped by the CPU: on a GPU or nowhere';
const PAGE = 4096n;

describe('pages of this process', () => {
  itOnLinux('are mapped by the CPU once it has touched them', async () => {
    const libc = await loadLibc();
    const bytes = 4 * Number(PAGE);
    const address = libc.mmap(0n, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0n);
    try {
      const words = new Uint32Array(libc.view(address, bytes));
      expect(pagePlaces(process.pid, address, BigInt(bytes))).toEqual(new Array(4).fill(ELSEWHERE));
      words[2 * 1024] = 1;
      expect(pagePlaces(process.pid, address, BigInt(bytes))).toEqual([ELSEWHERE, ELSEWHERE, HERE, ELSEWHERE]);
      expect(pagePlaces(process.pid, address + 2n * PAGE - 1n, 2n)).toEqual([ELSEWHERE, HERE]);
      expect(pagePlaces(process.pid, address + 2n * PAGE, PAGE)).toEqual([HERE]);
    } finally {
      libc.munmap(address, bytes);
    }
  });
});

describe('a pagemap', () => {
  let proc = '';
  beforeEach(() => {
    proc = mkdtempSync(join(tmpdir(), 'uvmlab-pagemap-'));
    mkdirSync(join(proc, '12'));
  });
  afterEach(() => rmSync(proc, { recursive: true }));

  /** Writes entries, one for each page from 0 on. */
  function write(entries: readonly bigint[], extra = 0): void {
    const bytes = new Uint8Array(BigUint64Array.from(entries).buffer);
    writeFileSync(join(proc, '12/pagemap'), Buffer.concat([bytes, Buffer.alloc(extra, 0xff)]));
  }

  it('says of an entry by its bit 63 alone whether the page is there', () => {
    write([1n << 63n, 0n, (1n << 63n) - 1n, 2n ** 64n - 1n]);
    expect(pagePlaces(12, 0n, 4n * PAGE, proc)).toEqual([HERE, ELSEWHERE, ELSEWHERE, HERE]);
    expect(pagePlaces(12, 3n * PAGE + 5n, 1n, proc)).toEqual([HERE]);
  });

  it('leaves unknown what it has no whole entry for', () => {
    write([1n << 63n, 0n], 7);
    expect(pagePlaces(12, 0n, 4n * PAGE, proc)).toEqual([HERE, ELSEWHERE, 'unknown', 'unknown']);
    expect(pagePlaces(12, 100n * PAGE, PAGE, proc)).toEqual(['unknown']);
  });

  it('is read in pieces', () => {
    const pages = 65536 + 3;
    write(Array.from({ length: pages }, (_, i) => (i % 65536 === 1 ? 1n << 63n : 0n)));
    const places = pagePlaces(12, 0n, BigInt(pages) * PAGE, proc);
    expect(places).toHaveLength(pages);
    expect(places.flatMap((place, i) => (place === HERE ? [i] : []))).toEqual([1, 65537]);
    expect(places).not.toContain('unknown');
  });

  it('that cannot be read leaves every page unknown', () => {
    expect(pagePlaces(13, 0n, 2n * PAGE, proc)).toEqual(['unknown', 'unknown']);
    mkdirSync(join(proc, '14/pagemap'), { recursive: true });
    expect(pagePlaces(14, 0n, 2n * PAGE, proc)).toEqual(['unknown', 'unknown']);
  });
});
