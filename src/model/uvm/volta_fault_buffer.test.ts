import { describe, expect, it } from 'vitest';
import { createFaultMachine } from '../../../test/support/fault_machine.ts';
import {
  CLIENT_TYPE_HUB,
  ENGINE_GRAPHICS,
  FAULT_ENTRY_WORDS,
  type FaultEntry,
  faultEntryEncode,
} from '../gpu/fault_buffer.ts';
import {
  FAULT_FILTERED,
  FAULT_INVALID_PREFETCH,
  FAULT_IS_FATAL,
  FAULT_THROTTLED,
} from './gpu_replayable_faults_types.ts';
import {
  ACCESS_ATOMIC_STRONG,
  ACCESS_ATOMIC_WEAK,
  ACCESS_PREFETCH,
  ACCESS_READ,
  ACCESS_WRITE,
} from './va_block_types.ts';
import {
  canonicalPage,
  mmuClientIdToUtlbId,
  parseFaultEntry,
  parseReplayableEntry,
  T1_CLIENTS,
  UVM_APERTURE_SYS,
  UVM_APERTURE_VID,
} from './volta_fault_buffer.ts';

const ENTRY: FaultEntry = {
  instanceAperture: 0,
  instanceAddress: 0x77,
  physicalAperture: 0,
  page: 0x1234,
  timestamp: 640,
  engineId: ENGINE_GRAPHICS + 3,
  faultType: 2,
  replayable: true,
  client: 0x35,
  access: 0,
  clientType: 0,
  gpc: 2,
  protectedMode: false,
  replayableEnabled: true,
  valid: true,
};

function parse(change: Partial<FaultEntry>) {
  const m = createFaultMachine({ entries: 16 });
  const c = m.gpus[0].replayable.batch.faultCache;
  const w = new Uint32Array(FAULT_ENTRY_WORDS);
  faultEntryEncode(w, 0, { ...ENTRY, ...change });
  parseFaultEntry(m.gpus[0], w, 0, m.spec.utlbsPerGpc, c, 5);
  return c;
}

describe('the clients of a GPC', () => {
  it('share uTLBs as on GH100', () => {
    // RAST, GCC, GPCCS
    expect([0x10, 0x11, 0x12].map(mmuClientIdToUtlbId)).toEqual([0, 0, 0]);
    // T1_0 to T1_7, T1_8 to T1_15, T1_16 and T1_17: one each
    expect(T1_CLIENTS.map(mmuClientIdToUtlbId)).toEqual(Array.from({ length: 18 }, (_, i) => i + 1));
    expect(T1_CLIENTS.slice(7, 9)).toEqual([0x07, 0x21]);
    expect(T1_CLIENTS.slice(15)).toEqual([0x28, 0x35, 0x36]);
    // PE_0, PE_7, PE_8 and TPCCS_0, TPCCS_7, TPCCS_8: with the second T1 of their TPC
    expect([0x08, 0x0f, 0x31].map(mmuClientIdToUtlbId)).toEqual([2, 16, 18]);
    expect([0x29, 0x30, 0x33].map(mmuClientIdToUtlbId)).toEqual([2, 16, 18]);
  });

  it('are no others', () => {
    expect(() => mmuClientIdToUtlbId(0x13)).toThrow('MMU client');
    expect(() => mmuClientIdToUtlbId(0x37)).toThrow('MMU client');
  });
});

describe('parsing', () => {
  it('fills in all fields of a row', () => {
    const c = parse({});
    expect(c.page[5]).toBe(0x1234);
    expect(c.instance[5]).toBe(0x77);
    expect(c.aperture[5]).toBe(UVM_APERTURE_VID);
    expect(c.veId[5]).toBe(3);
    expect(c.engineId[5]).toBe(ENGINE_GRAPHICS + 3);
    expect(c.timestamp[5]).toBe(640);
    expect(c.utlb[5]).toBe(2 * 19 + 17);
    expect([c.gpc[5], c.client[5], c.clientType[5]]).toEqual([2, 0x35, 0]);
    expect([c.faultType[5], c.accessType[5]]).toEqual([2, ACCESS_READ]);
    expect(c.vaSpace[5]).toBe(-1);
  });

  it.each([
    [0, ACCESS_READ],
    [1, ACCESS_WRITE],
    [2, ACCESS_ATOMIC_STRONG],
    [3, ACCESS_PREFETCH],
    [4, ACCESS_ATOMIC_WEAK],
    [8, ACCESS_READ],
    [9, ACCESS_WRITE],
    [10, ACCESS_ATOMIC_STRONG],
    [11, ACCESS_PREFETCH],
  ])('takes hardware access type %i as driver type %i', (hardware, driver) => {
    expect(parse({ access: hardware }).accessType[5]).toBe(driver);
  });

  it.each([5, 6, 7, 12, 15])('refuses hardware access type %i', (access) => {
    expect(() => parse({ access })).toThrow('unknown access type');
  });

  it('knows the fault types that can be serviced', () => {
    const serviceable = Array.from({ length: 32 }, (_, faultType) => faultType).filter(
      (faultType) => (parse({ faultType }).flags[5] & FAULT_IS_FATAL) === 0,
    );
    expect(serviceable).toEqual([0, 2, 6, 7, 15]);
  });

  it('takes both kinds of system memory as one aperture', () => {
    expect(parse({ instanceAperture: 2 }).aperture[5]).toBe(UVM_APERTURE_SYS);
    expect(parse({ instanceAperture: 3 }).aperture[5]).toBe(UVM_APERTURE_SYS);
  });

  it('puts hub clients on uTLB 0 and VEID 0', () => {
    const c = parse({ clientType: CLIENT_TYPE_HUB, client: 1, engineId: 43 });
    expect([c.utlb[5], c.veId[5]]).toEqual([0, 0]);
  });

  it('forgets what the row was before, but for its throttled and invalid-prefetch flags', () => {
    const m = createFaultMachine({ entries: 16 });
    const c = m.gpus[0].replayable.batch.faultCache;
    c.flags[5] = FAULT_IS_FATAL | FAULT_FILTERED | FAULT_THROTTLED | FAULT_INVALID_PREFETCH;
    c.cancelVaMode[5] = 1;
    const w = new Uint32Array(FAULT_ENTRY_WORDS);
    faultEntryEncode(w, 0, ENTRY);
    parseFaultEntry(m.gpus[0], w, 0, m.spec.utlbsPerGpc, c, 5);
    expect(c.flags[5]).toBe(FAULT_THROTTLED | FAULT_INVALID_PREFETCH);
    expect(c.cancelVaMode[5]).toBe(0);
  });

  it('gives the slot back, and refuses a fault that is not replayable', () => {
    const m = createFaultMachine({ entries: 16 });
    const gpu = m.gpus[0];
    faultEntryEncode(gpu.faultBuffer.words, 0, { ...ENTRY, replayable: false });
    expect(() => parseReplayableEntry(gpu, 0, 19, gpu.replayable.batch.faultCache, 0)).toThrow('not replayable');
    faultEntryEncode(gpu.faultBuffer.words, 0, ENTRY);
    parseReplayableEntry(gpu, 0, 19, gpu.replayable.batch.faultCache, 0);
    expect(gpu.faultBuffer.words[7] >>> 31).toBe(0);
  });
});

describe('canonicalPage', () => {
  it('extends the sign of the 57-bit address', () => {
    expect(canonicalPage(2 ** 44 - 1)).toBe(2 ** 44 - 1);
    expect(canonicalPage(2 ** 44)).toBe(2 ** 52 - 2 ** 44);
    expect(canonicalPage(2 ** 45 - 1)).toBe(2 ** 52 - 1);
  });
});
