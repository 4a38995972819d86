/** Rule 49 of docs/copy-routine.md: the armed form with Confidential Computing. */
import { beforeEach, describe, expect, it } from 'vitest';
import {
  type CopyMachine,
  cpu,
  createCopyMachine,
  gpu,
  HOST,
  lastRecord,
  next,
  pageBytes,
  plainWord,
  setFrom,
  settle,
  status,
} from '../../../test/support/copy_machine.ts';
import { BASE } from '../../../test/support/fault_machine.ts';
import {
  createSecureCopyMachine,
  DECRYPT,
  mixedPages,
  PUSH,
  takenBuffers,
} from '../../../test/support/secure_copy_machine.ts';
import { driverStateHash } from '../driver_state.ts';
import { contentsWrite } from '../gpu/contents.ts';
import { faultBufferInject } from '../gpu/fault_buffer.ts';
import { FAULT_INVALID_PTE } from '../gpu/mmu.ts';
import { restoreSnapshot, takeSnapshot } from '../model.ts';
import { confComputingResources } from '../uvm/conf_computing.ts';
import { policySetPreferredLocation, policySetReadDuplication } from '../uvm/policy.ts';
import { CPU_ID } from '../uvm/processors.ts';
import { NV_OK, NV_WARN_NOTHING_TO_DO } from '../uvm/status.ts';
import { ACCESS_READ, ACCESS_WRITE } from '../uvm/va_block_types.ts';
import { NEXT_COPY_ARM, STATUS_DISARM } from './ioctl.ts';
import { COPY_ARMED, COPY_DONE, COPY_ENDED, type CopyRecord, HOW_MAPPED, HOW_MIGRATED, HOW_STALE } from './types.ts';

let b: CopyMachine;
beforeEach(() => {
  b = createSecureCopyMachine();
});

/** Arms a copy of `page` (null: of whichever faults) to HOST. */
function arm(page: number | null): CopyRecord {
  setFrom(b, page);
  expect(next(b, HOST, NEXT_COPY_ARM).status).toBe(NV_OK);
  return lastRecord(b);
}

describe('the armed form', () => {
  it.each([0, 1, 2, 3])('policy %i: a snapshot, decrypted before the page is mapped (rules 39 and 55)', (policy) => {
    b = createSecureCopyMachine({ parameters: { uvm_perf_fault_replay_policy: policy } });
    cpu(b, BASE, 6);
    const record = arm(BASE);
    expect([record.mappedGpus, record.retainedGpus, takenBuffers(b.m)]).toEqual([0, 6, 0]);
    let took = 0;
    const hook = b.m.res.seams.serviceFinishHook;
    b.m.res.seams.serviceFinishHook = (m, ...rest) => {
      const before = m.k.now;
      hook?.(m, ...rest);
      took = m.k.now - before;
      expect(plainWord(b, HOST)).toBe(6);
    };
    expect(gpu(b, 0, [BASE, ACCESS_WRITE, 7])).toEqual(['replayed']);
    const [push] = record.pushes;
    expect(record).toMatchObject({ how: HOW_MIGRATED, snapshot: true, bytes: 4096, residentOn: 1, state: COPY_DONE });
    expect(record.end).toBe(push.end + b.m.cost.trackerPoll + DECRYPT);
    expect(record.pageTablePush?.begin).toBeGreaterThanOrEqual(record.end);
    expect(record.replay?.begin).toBeGreaterThanOrEqual(record.pageTablePush?.end ?? Number.NaN);
    expect(record.bottomHalfTime).toBe(took);
    expect(took).toBeGreaterThanOrEqual(PUSH + DECRYPT);
    expect(plainWord(b, HOST)).toBe(6);
    expect(pageBytes(b, 1, BASE)[0]).toBe(7);
    expect([takenBuffers(b.m), record.pin]).toEqual([0, -1]);
  });

  it('without Confidential Computing keeps the bottom half no longer than a push takes (rule 45)', () => {
    b = createCopyMachine({ gpus: 2, costs: { copyCpuPage: DECRYPT } });
    cpu(b, BASE, 6);
    const record = arm(BASE);
    expect(record.bottomHalfTime).toBe(0);
    gpu(b, 0, [BASE, ACCESS_WRITE, 7]);
    // Begin and end of a push with one method.
    expect(record.bottomHalfTime).toBe(2);
  });

  it('a first touch gives zeros, a stale fault no snapshot, a missing right the page where it is', () => {
    contentsWrite(b.m.contents as never, 0, HOST, 0, 77);
    const first = arm(BASE);
    gpu(b, 0, [BASE, ACCESS_WRITE, 9]);
    expect(first).toMatchObject({ how: HOW_MIGRATED, snapshot: true, residentOn: 1, state: COPY_DONE });
    expect(plainWord(b, HOST)).toBe(0);
    const stale = arm(BASE);
    const { m } = b;
    faultBufferInject(m, 0, BASE, ACCESS_WRITE, FAULT_INVALID_PTE, 0, 0, 0, Math.ceil(m.k.now), m.k.now);
    settle(m);
    expect(stale).toMatchObject({ how: HOW_STALE, snapshot: false, residentOn: 1, writableOn: 2, state: COPY_DONE });
    expect(stale.end).toBe(stale.pushes[0].end + m.cost.trackerPoll + DECRYPT);
    expect(stale.pageTablePush).toBeNull();
    expect(stale.replay?.begin).toBeGreaterThanOrEqual(stale.end);
    expect(plainWord(b, HOST)).toBe(9);
    policySetReadDuplication(m, b.space, BASE + 512, BASE + 1024, true);
    cpu(b, BASE + 600, 4);
    const duplicated = arm(BASE + 600);
    gpu(b, 0, [BASE + 600, ACCESS_READ]);
    expect(duplicated).toMatchObject({ how: HOW_MAPPED, residentOn: 1, state: COPY_DONE, bytes: 4096 });
    expect(plainWord(b, HOST)).toBe(4);
    expect(takenBuffers(m)).toBe(0);
  });

  it('a page that belongs on the CPU cannot stay there, so that it is a snapshot and no mapped page (rule 41)', () => {
    const seen = [true, false].map((confidentialComputing) => {
      b = createSecureCopyMachine({ confidentialComputing });
      cpu(b, BASE, 6);
      expect(policySetPreferredLocation(b.m, b.space, BASE, BASE + 512, CPU_ID)).toBe(NV_OK);
      const record = arm(BASE);
      expect(gpu(b, 0, [BASE, ACCESS_READ])).toEqual(['replayed']);
      expect([record.state, plainWord(b, HOST)]).toEqual([COPY_DONE, 6]);
      return [record.how, record.residentOn, record.snapshot, record.pushes.length];
    });
    expect(seen).toEqual([
      [HOW_MIGRATED, 1, true, 1],
      [HOW_MAPPED, 0, false, 0],
    ]);
  });

  it('holds no staging buffer while it waits for its fault, nor after it was disarmed (rule 31)', () => {
    const record = arm(BASE);
    expect([record.state, takenBuffers(b.m)]).toEqual([COPY_ARMED, 0]);
    const ended = { state: COPY_ENDED, copyStatus: NV_WARN_NOTHING_TO_DO, bytes: 0 };
    expect(status(b, record.token, STATUS_DISARM)).toMatchObject(ended);
    expect([takenBuffers(b.m), record.pin, record.retainedGpus]).toEqual([0, -1, 0]);
    gpu(b, 0, [BASE, ACCESS_READ]);
    expect(record.pushes).toEqual([]);
  });

  it('survives a snapshot of the model while armed', () => {
    const { m } = b;
    cpu(b, BASE, 5);
    arm(BASE);
    const aead = confComputingResources(m).aead ?? undefined;
    const again = restoreSnapshot(takeSnapshot(m), m.spec, m.params, m.cost, { verify: true, aead });
    const copy: CopyMachine = { ...b, m: again, space: again.vaSpaces[0] };
    gpu(copy, 0, [BASE, ACCESS_WRITE, 6]);
    expect(lastRecord(copy)).toMatchObject({ state: COPY_DONE, snapshot: true, bytes: 4096 });
    expect(plainWord(copy, HOST)).toBe(5);
    expect(lastRecord(b).state).toBe(COPY_ARMED);
  });

  it('rule 52: the events and the state are those of the same run unarmed', () => {
    const run = (armed: boolean, page: number | null) => {
      b = createSecureCopyMachine();
      setFrom(b, page === null ? null : BASE + page);
      if (armed) expect(next(b, HOST, NEXT_COPY_ARM).status).toBe(NV_OK);
      mixedPages(b);
      if (armed) expect(lastRecord(b)).toMatchObject({ state: COPY_DONE, bytes: 4096 });
      const { kind, a, b: second, src, dst, processors, page: pages, pages: n, count } = b.m.tools.log;
      const events: string[] = [];
      for (let i = 0; i < count; i++) {
        events.push([kind[i], a[i], second[i], src[i], dst[i], processors[i], pages[i], n[i]].join(' '));
      }
      return { events: events.sort(), hash: driverStateHash(b.m, false), now: b.m.k.now };
    };
    for (const page of [1, 600, 1024, 2, 700, null]) {
      const [armed, unarmed] = [run(true, page), run(false, page)];
      expect(armed.events.length).toBeGreaterThan(10);
      expect(armed.events).toEqual(unarmed.events);
      expect([page, armed.hash]).toEqual([page, unarmed.hash]);
      expect(armed.now - unarmed.now).toBeGreaterThan(PUSH);
    }
  });
});
