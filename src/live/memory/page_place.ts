/**
 * What can be said about where the pages of another process live, without asking the driver, which does not tell: a
 * page that the CPU has mapped is on the CPU (on systems whose CPU cannot map a GPU's memory); of one that it has not,
 * nothing is known but that.
 */
import { closeSync, openSync, readSync } from 'node:fs';

export type PagePlace = 'mapped by the CPU' | 'not mapped by the CPU: on a GPU or nowhere' | 'unknown';

const PAGE = 4096n;
const ENTRY_BYTES = 8;
/** Bit 63 of an entry of /proc/PID/pagemap. */
const PRESENT = 0x80;
const PAGES_AT_ONCE = 65536;

/** One word for each page of [first page of address, last page of address + length); all unknown if unreadable. */
export function pagePlaces(pid: number, address: bigint, length: bigint, proc = '/proc'): PagePlace[] {
  const first = address / PAGE;
  const pages = Number((address + length + PAGE - 1n) / PAGE - first);
  const places: PagePlace[] = new Array(pages).fill('unknown');
  let file: number;
  try {
    file = openSync(`${proc}/${pid}/pagemap`, 'r');
  } catch {
    return places;
  }
  try {
    const entries = new Uint8Array(Math.min(pages, PAGES_AT_ONCE) * ENTRY_BYTES);
    for (let done = 0; done < pages; ) {
      const wanted = Math.min(pages - done, PAGES_AT_ONCE) * ENTRY_BYTES;
      const position = (first + BigInt(done)) * BigInt(ENTRY_BYTES);
      const read = Math.floor(readSync(file, entries, 0, wanted, position) / ENTRY_BYTES);
      if (read === 0) break;
      for (let i = 0; i < read; i++) {
        const present = (entries[i * ENTRY_BYTES + 7] & PRESENT) !== 0;
        places[done + i] = present ? 'mapped by the CPU' : 'not mapped by the CPU: on a GPU or nowhere';
      }
      done += read;
    }
  } catch {
    // What could not be read stays unknown.
  } finally {
    closeSync(file);
  }
  return places;
}
