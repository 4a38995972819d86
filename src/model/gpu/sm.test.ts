import { describe, expect, it } from 'vitest';
import { createKernel, runUntilIdle } from '../kernel/clock.ts';
import { BLOCKED, createThreads, threadCreate } from '../kernel/thread.ts';
import type { Model } from '../state.ts';
import {
  createHwFaultBuffer,
  FAULT_ENTRY_WORDS,
  type FaultEntry,
  faultBufferReadPut,
  faultEntryDecode,
} from './fault_buffer.ts';
import { createMmu, makePte, mmuWritePte, PTE_INVALID, PTE_LEVEL_2M } from './mmu.ts';
import {
  CANCEL_ALL,
  CANCEL_WRITE_AND_ATOMIC,
  CLIENT_CANCELLED,
  CLIENT_IDLE,
  CLIENT_PARKED,
  CLIENT_REPLAYED,
  clientsAddSlot,
  clientsCancel,
  clientsCancelInstance,
  clientsIssue,
  clientsOutcome,
  clientsReplay,
  clientsReset,
  clientsSetThread,
  createClients,
} from './sm.ts';

const PREFETCH = 0;
const READ = 1;
const WRITE = 2;
const ATOMIC = 4;
const TO_ENTRY = 100;
const TO_RESUME = 40;
const PAGE = 512 * 77;

function createFixture(): Model {
  const m = {
    cost: { faultToEntry: TO_ENTRY, replayToResume: TO_RESUME, interruptLatency: 1 },
    res: { handlers: [], verify: false, why: null },
    k: createKernel(),
    gpus: [
      {
        index: 0,
        faultBuffer: createHwFaultBuffer(64),
        clients: createClients(),
        mmu: createMmu(),
        instancePointers: [
          { address: 0x10, aperture: 0, vaSpace: 0 },
          { address: 0x20, aperture: 0, vaSpace: 1 },
        ],
      },
    ],
  } as unknown as Model;
  createThreads(m);
  return m;
}

/** Entries that have arrived, oldest first. */
function entries(m: Model): FaultEntry[] {
  const b = m.gpus[0].faultBuffer;
  const put = faultBufferReadPut(m, b);
  return Array.from({ length: put }, (_, i) => faultEntryDecode(b.words, i * FAULT_ENTRY_WORDS));
}

function map(m: Model, protection: number): void {
  mmuWritePte(m.gpus[0].mmu, PTE_LEVEL_2M, PAGE, 1, protection === 0 ? PTE_INVALID : makePte(protection, 1));
}

describe('an access', () => {
  it('hits when it is translated, and leaves nothing behind', () => {
    const m = createFixture();
    map(m, 3);
    const slot = clientsAddSlot(m, 0, 1, 2, 0, -1);
    expect(clientsIssue(m, 0, slot, PAGE + 3, ATOMIC)).toBe(true);
    expect(m.gpus[0].mmu.target).toBe(1);
    m.k.now = 1000;
    expect(entries(m)).toEqual([]);
  });

  it('parks when it faults, and its entry arrives faultToEntry later with the numbers of its client', () => {
    const m = createFixture();
    const slot = clientsAddSlot(m, 0, 5, 0x21, 1, -1);
    m.k.now = 1000;
    expect(clientsIssue(m, 0, slot, PAGE, WRITE)).toBe(false);
    expect(clientsOutcome(m, 0, slot)).toBe(CLIENT_PARKED);
    m.k.now = 1000 + TO_ENTRY - 1;
    expect(entries(m)).toEqual([]);
    m.k.now = 1000 + TO_ENTRY;
    expect(entries(m)).toMatchObject([
      { page: PAGE, gpc: 5, client: 0x21, instanceAddress: 0x20, access: 1, faultType: 0, timestamp: 1088 },
    ]);
  });

  it('does not park when it is a prefetch, but is reported', () => {
    const m = createFixture();
    const slot = clientsAddSlot(m, 0, 0, 0, 0, -1);
    expect(clientsIssue(m, 0, slot, PAGE, PREFETCH)).toBe(true);
    expect(clientsOutcome(m, 0, slot)).toBe(CLIENT_IDLE);
    m.k.now = 1000;
    expect(entries(m)).toHaveLength(1);
    clientsReplay(m, 0, 1000, 0);
    expect(entries(m)).toHaveLength(1);
  });

  it('cannot be issued by a slot that is parked or does not exist', () => {
    const m = createFixture();
    const slot = clientsAddSlot(m, 0, 0, 0, 0, -1);
    clientsIssue(m, 0, slot, PAGE, READ);
    expect(() => clientsIssue(m, 0, slot, PAGE, READ)).toThrow('parked client slot');
    expect(() => clientsIssue(m, 0, slot + 1, PAGE, READ)).toThrow('does not exist');
    expect(() => clientsSetThread(m, 0, slot, 3)).toThrow('changes hands');
    expect(() => clientsReset(m, 0)).toThrow('while accesses are parked');
  });

  it('has its fault type from the page tables', () => {
    const m = createFixture();
    map(m, 1);
    const slots = [0, 1].map(() => clientsAddSlot(m, 0, 0, 0, 0, -1));
    clientsIssue(m, 0, slots[0], PAGE, WRITE);
    map(m, 2);
    clientsIssue(m, 0, slots[1], PAGE, ATOMIC);
    m.k.now = 1000;
    expect(entries(m).map((e) => e.faultType)).toEqual([6, 15]);
  });
});

describe('a replay', () => {
  it('ends what is translated now, reports the rest again, in the order of parking', () => {
    const m = createFixture();
    const slots = Array.from({ length: 20 }, (_, i) => clientsAddSlot(m, 0, 0, i % 8, 0, -1));
    for (const slot of slots) clientsIssue(m, 0, slot, slot % 2 === 0 ? PAGE : PAGE + 512, READ);
    map(m, 1);
    m.k.now = 1000;
    expect(entries(m)).toHaveLength(20);
    clientsReplay(m, 0, 1000, 0);
    expect(
      entries(m)
        .slice(20)
        .map((e) => [e.page, e.client]),
    ).toEqual(slots.filter((s) => s % 2 === 1).map((s) => [PAGE + 512, s % 8]));
    expect(slots.map((slot) => clientsOutcome(m, 0, slot))).toEqual(
      slots.map((s) => (s % 2 === 0 ? CLIENT_REPLAYED : CLIENT_PARKED)),
    );
    // An outcome is handed over once.
    expect(clientsOutcome(m, 0, slots[0])).toBe(CLIENT_IDLE);
  });

  it('has its new entries in the buffer when it is over', () => {
    const m = createFixture();
    clientsIssue(m, 0, clientsAddSlot(m, 0, 0, 0, 0, -1), PAGE, READ);
    m.k.now = 5000;
    clientsReplay(m, 0, 4000, 0);
    expect(entries(m).map((e) => e.timestamp)).toEqual([96, 4000]);
  });

  it('wakes the thread replayToResume later, and no other', () => {
    const m = createFixture();
    const woken: [string, number][] = [];
    function* waiter(name: string, slot: number): Generator<number, void, void> {
      while (clientsOutcome(m, 0, slot) === CLIENT_PARKED) yield BLOCKED;
      woken.push([name, m.k.now]);
    }
    for (const [name, page] of [
      ['served', PAGE],
      ['not served', PAGE + 512],
    ] as const) {
      const slot = clientsAddSlot(m, 0, 0, 0, 0, -1);
      clientsSetThread(m, 0, slot, threadCreate(m, name, waiter(name, slot)));
      clientsIssue(m, 0, slot, page, READ);
    }
    runUntilIdle(m);
    expect(woken).toEqual([]);
    map(m, 1);
    clientsReplay(m, 0, 3000, 0);
    runUntilIdle(m);
    expect(woken).toEqual([['served', 3000 + TO_RESUME]]);
  });
});

describe('a cancel', () => {
  function parkThree(m: Model, instance = 0): number[] {
    return [READ, WRITE, ATOMIC].map((access) => {
      const slot = clientsAddSlot(m, 0, 0, 0, instance, -1);
      clientsIssue(m, 0, slot, PAGE, access);
      return slot;
    });
  }

  function outcomes(m: Model, slots: number[]): number[] {
    return slots.map((slot) => clientsOutcome(m, 0, slot));
  }

  it('ends all accesses to its page, and no other page', () => {
    const m = createFixture();
    const slots = parkThree(m);
    const other = clientsAddSlot(m, 0, 0, 0, 0, -1);
    clientsIssue(m, 0, other, PAGE + 1, READ);
    clientsCancel(m, 0, PAGE, CANCEL_ALL, 500);
    expect(outcomes(m, slots)).toEqual([CLIENT_CANCELLED, CLIENT_CANCELLED, CLIENT_CANCELLED]);
    expect(outcomes(m, [other])).toEqual([CLIENT_PARKED]);
  });

  it('spares reads when it is for writes and atomics', () => {
    const m = createFixture();
    const slots = parkThree(m);
    clientsCancel(m, 0, PAGE, CANCEL_WRITE_AND_ATOMIC, 500);
    expect(outcomes(m, slots)).toEqual([CLIENT_PARKED, CLIENT_CANCELLED, CLIENT_CANCELLED]);
  });

  it('keeps to its VA space', () => {
    const m = createFixture();
    const slots = [...parkThree(m, 0), ...parkThree(m, 1)];
    clientsCancel(m, 0, PAGE, CANCEL_ALL, 500, 1);
    expect(outcomes(m, slots)).toEqual([
      CLIENT_PARKED,
      CLIENT_PARKED,
      CLIENT_PARKED,
      CLIENT_CANCELLED,
      CLIENT_CANCELLED,
      CLIENT_CANCELLED,
    ]);
  });

  it('replays the others', () => {
    const m = createFixture();
    const slots = parkThree(m);
    m.k.now = 1000;
    expect(entries(m)).toHaveLength(3);
    map(m, 1);
    clientsCancel(m, 0, PAGE, CANCEL_WRITE_AND_ATOMIC, 1000);
    expect(outcomes(m, slots)).toEqual([CLIENT_REPLAYED, CLIENT_CANCELLED, CLIENT_CANCELLED]);
    map(m, 0);
    const again = parkThree(m);
    clientsCancel(m, 0, PAGE + 5, CANCEL_ALL, 1000);
    expect(outcomes(m, again)).toEqual([CLIENT_PARKED, CLIENT_PARKED, CLIENT_PARKED]);
    m.k.now = 1000 + TO_ENTRY;
    expect(entries(m)).toHaveLength(9);
  });

  it('of an instance pointer ends all accesses of that context', () => {
    const m = createFixture();
    const slots = [...parkThree(m, 0), ...parkThree(m, 1)];
    clientsCancelInstance(m, 0, 0x10, 500);
    expect(outcomes(m, slots).map((state) => state === CLIENT_CANCELLED)).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
    ]);
  });
});
