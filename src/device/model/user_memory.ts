/**
 * Memory of programs as the driver moves bytes to and from it. A program's own memory is a Uint8Array in its hands, and
 * the model has a store of contents of its own (src/model/gpu/contents.ts): copy_to_user and copy_from_user go to the
 * Uint8Array at once, and what a copy of the copy routine put into pinned memory follows when the copy is finished, at
 * the end of the call in which that happens. Nothing reads a program's memory in the store.
 */
import { PAGE_SIZE } from '../../base/units.ts';
import { copyState } from '../../model/copy_routine/record.ts';
import { COPY_ARMED, COPY_RUNNING, type CopyRecord } from '../../model/copy_routine/types.ts';
import { userFaultIn } from '../../model/copy_routine/user_memory.ts';
import { type Contents, contentsPutBytes, contentsWords } from '../../model/gpu/contents.ts';
import type { Model } from '../../model/state.ts';
import { CPU_ID, INVALID_ID } from '../../model/uvm/processors.ts';
import { offsetOfAddress, pageOfAddress } from '../abi/layout.ts';
import type { Call } from './calls.ts';
import { type Area, areaOf, type DriverProcess, type ModelDriver, NotModelledError } from './driver.ts';

/** Calls that move bytes need a model that has them. */
export function needContents(m: Model, call: string): Contents {
  if (m.contents === null) throw new NotModelledError(`${call} over a model without contents`);
  return m.contents;
}

/** The bytes of one page of a program's own memory, from byte `offset` on. */
function plainBytes(memory: Uint8Array, area: Area, page: number, offset: number, bytes: number): Uint8Array {
  const at = (page - area.startPage) * PAGE_SIZE + offset;
  return memory.subarray(at, at + bytes);
}

/** Bytes of one managed page, through the CPU's mapping, which faults when it is not there. False for a bus error. */
function* managedCopy(
  call: Call,
  vaSpace: number,
  page: number,
  offset: number,
  part: Uint8Array,
  toUser: boolean,
): Generator<number, boolean, void> {
  const { m } = call.driver;
  const contents = needContents(m, 'memory that is managed');
  const processor = yield* userFaultIn(m, m.vaSpaces[vaSpace], page, toUser);
  if (processor === INVALID_ID) return false;
  m.k.now += m.cost.copyCpuPage;
  if (toUser) contentsPutBytes(contents, processor, page, offset, part);
  else part.set(new Uint8Array(contentsWords(contents, processor, page).buffer, offset, part.length));
  return true;
}

/**
 * copy_to_user and copy_from_user of the calling process, with no lock of the driver held: `part` to or from `address`.
 * False from the first page on that is no memory of the process; what lies before it was copied.
 */
export function* userCopy(
  call: Call,
  address: bigint,
  part: Uint8Array,
  toUser: boolean,
): Generator<number, boolean, void> {
  for (let done = 0; done < part.length; ) {
    const here = address + BigInt(done);
    const [page, offset] = [pageOfAddress(here), offsetOfAddress(here)];
    const piece = part.subarray(done, Math.min(part.length, done + PAGE_SIZE - offset));
    const area = areaOf(call.process, page);
    if (area === undefined) return false;
    if (area.memory !== null) {
      const own = plainBytes(area.memory, area, page, offset, piece.length);
      if (toUser) own.set(piece);
      else piece.set(own);
    } else if (area.file === null) {
      return false;
    } else if (!(yield* managedCopy(call, area.file.uvm.vaSpace, page, offset, piece, toUser))) {
      return false;
    }
    done += piece.length;
  }
  return true;
}

/** Puts the bytes that a finished copy left in the store into the memory of the process that it was made for. */
function landBytes(contents: Contents, process: DriverProcess, record: CopyRecord): void {
  for (let done = 0; done < record.bytes; ) {
    const at = record.toOffset + done;
    const page = record.toPage + Math.floor(at / PAGE_SIZE);
    const offset = at % PAGE_SIZE;
    const bytes = Math.min(record.bytes - done, PAGE_SIZE - offset);
    const area = areaOf(process, page);
    // Pages of B that are managed have got theirs through the CPU's mapping.
    if (area?.memory) {
      const words = contentsWords(contents, CPU_ID, page);
      plainBytes(area.memory, area, page, offset, bytes).set(new Uint8Array(words.buffer, offset, bytes));
    }
    done += bytes;
  }
}

/** Puts the bytes of all copies that have finished by now into the memory that they were made for. */
export function landCopies(driver: ModelDriver): void {
  const { m } = driver;
  const { records } = m.vaSpaces[0].copy;
  for (; driver.copiesSeen < records.length; driver.copiesSeen++) driver.copies.push(records[driver.copiesSeen]);
  if (driver.copies.length === 0 || m.contents === null) return;
  const { contents } = m;
  driver.copies = driver.copies.filter((record) => {
    const state = copyState(m, record);
    if (state === COPY_ARMED || state === COPY_RUNNING) return true;
    const process = driver.processes.find((other) => other.mm === record.mm);
    if (process !== undefined) landBytes(contents, process, record);
    return false;
  });
}

/** The memory of an area is being given back: copies that are under way to it arrive nowhere. */
export function forgetCopies(driver: ModelDriver, process: DriverProcess, area: Area): void {
  landCopies(driver);
  driver.copies = driver.copies.filter(
    ({ mm, toPage }) => mm !== process.mm || toPage < area.startPage || toPage >= area.outerPage,
  );
}
