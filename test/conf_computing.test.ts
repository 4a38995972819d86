/**
 * Confidential Computing changes how bytes move and when, not which pages move where: the same histories with and
 * without it. And what lies in memory that anybody can read is cipher text, which nobody changes unnoticed.
 */
import { describe, expect, it } from 'vitest';
import onProfile from '../profiles/h100-cc.json' with { type: 'json' };
import { loadMachines } from '../src/analysis/machines.ts';
import { contentsWords } from '../src/model/gpu/contents.ts';
import { secureKey } from '../src/model/gpu/secure_copy.ts';
import { hashState, modelHash } from '../src/model/model.ts';
import type { Model } from '../src/model/state.ts';
import { confComputingOf, confComputingResources } from '../src/model/uvm/conf_computing.ts';
import type { AeadCipher, DmaBuffer } from '../src/model/uvm/conf_computing_types.ts';
import { CPU_ID } from '../src/model/uvm/processors.ts';
import { NV_ERR_INVALID_DATA, NV_ERR_RC_ERROR, NV_OK } from '../src/model/uvm/status.ts';
import { pageIsResident } from '../src/model/uvm/va_block.ts';
import { vaBlockCheck } from '../src/model/uvm/va_block_check.ts';
import { aesGcm } from '../src/scenario/aead.ts';
import { parseProfile } from '../src/scenario/profile.ts';
import { advanceRun, type Run, resumeRun, runCanStop, snapshotRun } from '../src/scenario/runner.ts';
import { parseScenario, type Scenario } from '../src/scenario/scenario.ts';
import { createSession, type SessionOptions, sessionParameters } from '../src/scenario/session.ts';
import { copyEntries } from '../src/trace/copies.ts';
import { logEvents } from '../src/trace/log_events.ts';

const machines = loadMachines();
const KIB = 1024;
const ON = 'h100-cc';
const OFF = 'h200-pcie5';

type Steps = Record<string, unknown>[];

function scenarioOf(machine: string, bytes: number, steps: Steps): Scenario {
  const json = { name: 'history', machine, allocations: [{ name: 'a', bytes }], steps };
  const parsed = parseScenario(json, machines.known);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.scenario;
}

function begin(scenario: Scenario, options: SessionOptions): Run {
  const session = createSession(scenario, machines.profile(scenario.machine), options);
  if (!session.ok) throw new Error(session.error);
  return session.run;
}

function run(machine: string, bytes: number, steps: Steps, options: SessionOptions = { contents: true }): Run {
  const whole = begin(scenarioOf(machine, bytes, steps), options);
  advanceRun(whole);
  return whole;
}

const access = (word: string, on: string, bytes: number, offset = 0, stride = 4096) => ({
  do: word,
  on,
  buffer: 'a',
  offset,
  length: bytes,
  stride,
});
const prefetch = (to: string, bytes: number) => ({ do: 'prefetch', buffer: 'a', to, offset: 0, length: bytes });
const advise = (advice: string, bytes: number, processor?: string) => ({
  do: 'advise',
  buffer: 'a',
  advice,
  offset: 0,
  length: bytes,
  ...(processor === undefined ? {} : { processor }),
});

const TIMES = ['time', 'gpuTime', 'begin', 'end', 'gpuBegin', 'gpuEnd'];

/** Events without their times: what faulted and moved, and why. */
function whatHappened(one: Run): unknown[] {
  return logEvents(one.m, one.scenario.allocations).map((event) =>
    Object.fromEntries(Object.entries(event).filter(([key]) => !TIMES.includes(key))),
  );
}

/** What is in every page of every processor that holds it. */
function contentsOf(one: Run): string[] {
  const { m, space } = one;
  const found: string[] = [];
  for (const range of space.ranges) {
    for (const block of range.blocks) {
      if (block === null) continue;
      for (let page = 0; page < block.n; page++) {
        for (let id = 0; id <= m.gpus.length; id++) {
          if (!pageIsResident(block, id, page) || m.contents === null) continue;
          const words = contentsWords(m.contents, id, block.startPage + page);
          found.push(`${id} ${block.startPage + page} ${hashState(words)}`);
        }
      }
    }
  }
  return found;
}

const confOf = (m: Model) => confComputingOf(m.gpus[0].channelManager);
const buffersOf = (m: Model): DmaBuffer[] => confOf(m).dma.buffers;

const SMALL = 192 * KIB;
const HISTORIES: Record<string, [number, Steps]> = {
  'faults of both sides': [
    SMALL,
    [
      access('write', 'cpu', SMALL),
      access('read', 'gpu0', SMALL),
      access('write', 'gpu0', 64 * KIB, 64 * KIB, 8192),
      access('read', 'cpu', SMALL, 0, 12288),
      access('write', 'gpu0', SMALL),
      access('read', 'cpu', SMALL),
    ],
  ],
  prefetches: [
    SMALL,
    [access('write', 'cpu', SMALL), prefetch('gpu0', SMALL), access('write', 'gpu0', SMALL), prefetch('cpu', SMALL)],
  ],
  'read duplication': [
    SMALL,
    [
      access('write', 'cpu', SMALL),
      advise('setReadMostly', SMALL),
      access('read', 'gpu0', SMALL),
      access('read', 'cpu', SMALL),
      access('write', 'cpu', 64 * KIB),
      access('read', 'gpu0', SMALL),
    ],
  ],
  'a whole block': [
    2048 * KIB,
    [
      access('write', 'cpu', 2048 * KIB, 0, 65536),
      access('write', 'gpu0', 2048 * KIB, 0, 131072),
      access('read', 'cpu', 64 * KIB),
    ],
  ],
};

describe('with and without', () => {
  it.each(Object.entries(HISTORIES))('%s: the same faults, migrations and contents', (_name, [bytes, steps]) => {
    const on = run(ON, bytes, steps);
    const off = run(OFF, bytes, steps);
    expect([on.state.error, off.state.error]).toEqual([null, null]);
    expect([on.state.mismatches, off.state.mismatches]).toEqual([0, 0]);
    const events = whatHappened(on);
    expect(events.length).toBeGreaterThan(3);
    expect(events).toEqual(whatHappened(off));
    expect(contentsOf(on)).toEqual(contentsOf(off));
    for (const block of on.space.ranges[0].blocks) if (block !== null) expect(vaBlockCheck(on.m, block)).toBeNull();
    expect(on.m.k.now).toBeGreaterThan(off.m.k.now);
  });

  it('the same without contents, where nothing is encrypted and all is counted', () => {
    const [bytes, steps] = HISTORIES['faults of both sides'];
    const kept = run(ON, bytes, steps);
    const bare = run(ON, bytes, steps, {});
    expect(bare.state.wall).toEqual(kept.state.wall);
    expect(confOf(bare.m).counts).toEqual(confOf(kept.m).counts);
    expect(buffersOf(bare.m).every(({ cipher }) => cipher.size === 0)).toBe(true);
  });

  it('a GPU cannot map memory of the CPU: accessed-by gives it nothing to see', () => {
    const steps = [access('write', 'cpu', SMALL), advise('setAccessedBy', SMALL, 'gpu0'), access('read', 'gpu0', 4096)];
    const migrations = (machine: string) =>
      whatHappened(run(machine, SMALL, steps)).filter((event) => /migration/i.test(JSON.stringify(event))).length;
    expect(migrations(OFF)).toBe(0);
    expect(migrations(ON)).toBeGreaterThan(0);
  });
});

/** A history with copies at once, asynchronous and armed. */
const COPIES: Steps = [
  access('write', 'cpu', SMALL),
  access('write', 'gpu0', 64 * KIB),
  { do: 'setCopyFrom', buffer: 'a', page: 2, count: 16 },
  { do: 'setNextCopy', buffer: 'b', page: 0 },
  { do: 'checkBytes', buffer: 'b', page: 3, sameAs: { buffer: 'a', page: 5 } },
  { do: 'checkBytes', buffer: 'b', page: 15, sameAs: { buffer: 'a', page: 17 } },
  { do: 'setNextCopy', buffer: 'b', page: 20, async: true },
  { do: 'copyStatus', wait: true },
  { do: 'checkBytes', buffer: 'b', page: 20, sameAs: { buffer: 'a', page: 2 } },
  access('write', 'cpu', 4096, 5 * 4096),
  { do: 'setCopyFrom', buffer: 'a', page: 5 },
  { do: 'setNextCopy', buffer: 'b', page: 40, arm: true },
  access('write', 'gpu0', 4096, 5 * 4096),
  { do: 'copyStatus', wait: true },
  { do: 'checkBytes', buffer: 'b', page: 40, value: 10 },
  { do: 'checkBytes', buffer: 'a', page: 5, value: 13 },
];

function withCopies(machine: string, options: SessionOptions = { contents: true }): Run {
  const allocations = [
    { name: 'a', bytes: SMALL },
    { name: 'b', bytes: 64 * 4096, kind: 'host' },
  ];
  const parsed = parseScenario({ name: 'copies', machine, allocations, steps: COPIES }, machines.known);
  if (!parsed.ok) throw new Error(parsed.error);
  return begin(parsed.scenario, options);
}

describe('the copy routine', () => {
  const what = (one: Run) =>
    copyEntries(one.m, one.scenario.allocations).map((entry) => {
      const { form, state, status, from, to, bytes, residentOn, snapshot, writableOn, fault, pushes } = entry;
      return { form, state, status, from, to, bytes, residentOn, snapshot, writableOn, fault, pushes: pushes.length };
    });

  it('copies the same with and without, and everything else happens as it does without copies', () => {
    const [on, off] = [ON, OFF].map((machine) => {
      const one = withCopies(machine);
      advanceRun(one);
      return one;
    });
    expect([on.state.error, off.state.error]).toEqual([null, null]);
    expect(what(on).map(({ form, pushes, bytes }) => [form, pushes, bytes])).toEqual([
      ['immediate', 1, 65536],
      ['async', 1, 65536],
      ['armed', 1, 4096],
    ]);
    expect(what(on)).toEqual(what(off));
    expect(whatHappened(on)).toEqual(whatHappened(off));
    expect(contentsOf(on)).toEqual(contentsOf(off));
    const [, , armed] = copyEntries(on.m, on.scenario.allocations);
    const { begin: pushed = 0, end = 0 } = armed.pushes[0];
    expect(armed.bottomHalfTime).toBeGreaterThan(end - pushed);
    expect(armed.end).toBeGreaterThan(end);
  });

  it('puts nothing of a page into a staging buffer that anybody could read', () => {
    const one = withCopies(ON);
    const { contents } = one.m;
    let pages = 0;
    let same = 0;
    confComputingResources(one.m).bounceWritten = (m, _gpu, buffer, page, toGpu) => {
      if (toGpu || contents === null) return;
      const plain = contentsWords(contents, 1, one.scenario.allocations[0].firstPage + page);
      // A buffer that is used again holds older pages besides.
      for (const text of buffersOf(m)[buffer].cipher.values()) {
        const words = new Uint32Array(text.slice().buffer);
        for (let i = 0; i < 1024; i += 4) if ([0, 1, 2, 3].every((k) => words[i + k] === plain[i + k])) same++;
      }
      pages++;
    };
    advanceRun(one);
    expect(one.state.error).toBeNull();
    expect(same).toBe(0);
    expect(pages).toBe(confOf(one.m).counts.pagesToCpu);
    const { bytes: copied } = copyEntries(one.m, one.scenario.allocations)[0];
    expect(pages).toBeGreaterThan(copied / 4096);
  });

  it('ends with the status of a tag that does not fit', () => {
    const one = withCopies(ON);
    confComputingResources(one.m).bounceWritten = (m, _gpu, buffer, page, toGpu) => {
      if (!toGpu && page === 9) (buffersOf(m)[buffer].tag.get(page) as Uint8Array)[15] ^= 0x80;
    };
    advanceRun(one);
    expect(one.state.error).toMatch(/steps\[3\]: setNextCopy failed with NV_ERR_INVALID_DATA/);
    expect(what(one)[0]).toMatchObject({ state: 'ended', status: 'NV_ERR_INVALID_DATA', bytes: 7 * 4096 });
    expect(one.m.globalStatus).toBe(NV_ERR_INVALID_DATA);
  });
});

it('a profile with peers cannot have it', () => {
  const json = structuredClone(onProfile);
  expect(parseProfile(json).spec.confidentialComputing).toBe(true);
  json.machine.nvlinkPeers = true;
  expect(() => parseProfile(json)).toThrow("machine profile 'h100-cc': machine.nvlinkPeers is true with");
  json.machine.confidentialComputing = false;
  expect(parseProfile(json).spec.confidentialComputing).toBe(false);
});

describe('memory that anybody can read', () => {
  const [bytes, steps] = HISTORIES['faults of both sides'];

  it('holds cipher text: no 16 bytes of a page are the same there', () => {
    const one = begin(scenarioOf(ON, bytes, steps), { contents: true });
    const { contents } = one.m;
    const seen = { toGpu: 0, toCpu: 0 };
    let same = 0;
    confComputingResources(one.m).bounceWritten = (m, _gpu, buffer, page, toGpu) => {
      const { cipher, tag } = buffersOf(m)[buffer];
      const text = cipher.get(page) as Uint8Array;
      expect([text.length, tag.get(page)?.length]).toEqual([4096, 16]);
      if (contents === null) throw new Error('no contents');
      const holder = toGpu ? CPU_ID : 1;
      const plain = contentsWords(contents, holder, one.scenario.allocations[0].firstPage + page);
      const words = new Uint32Array(text.slice().buffer);
      for (let i = 0; i < 1024; i += 4) if ([0, 1, 2, 3].every((k) => words[i + k] === plain[i + k])) same++;
      seen[toGpu ? 'toGpu' : 'toCpu']++;
    };
    advanceRun(one);
    expect(same).toBe(0);
    const { pagesToGpu, pagesToCpu } = confOf(one.m).counts;
    expect(seen).toEqual({ toGpu: pagesToGpu, toCpu: pagesToCpu });
    expect(Math.min(pagesToGpu, pagesToCpu)).toBeGreaterThan(40);
    expect(one.state.mismatches).toBe(0);
  });

  /** Runs with one bit changed in the first page that goes one way: of its cipher text, or of its tag. */
  function flipped(toGpu: boolean, what: 'cipher' | 'tag'): Run {
    const one = begin(scenarioOf(ON, bytes, steps), { contents: true });
    let done = false;
    confComputingResources(one.m).bounceWritten = (m, _gpu, buffer, page, direction) => {
      if (done || direction !== toGpu) return;
      (buffersOf(m)[buffer][what].get(page) as Uint8Array)[7] ^= 0x10;
      done = true;
    };
    advanceRun(one);
    expect(done).toBe(true);
    return one;
  }

  it.each(['cipher', 'tag'] as const)(
    'a changed bit of %s that the CPU meets is a fatal error of the driver',
    (what) => {
      const one = flipped(false, what);
      expect(one.m.globalStatus).toBe(NV_ERR_INVALID_DATA);
      expect(one.state.error).toContain('steps[3]');
    },
  );

  it.each(['cipher', 'tag'] as const)('a changed bit of %s that a copy engine meets breaks its channel', (what) => {
    const one = flipped(true, what);
    expect(one.m.globalStatus).toBe(NV_ERR_RC_ERROR);
    expect(one.state.error).not.toBeNull();
  });
});

describe('IVs', () => {
  const [bytes, steps] = HISTORIES['faults of both sides'];

  /** A cipher that keeps every key and IV it was asked to encrypt with; signatures of methods apart, made and checked. */
  function watchedCipher(): { used: string[]; signed: string[]; aead: AeadCipher } {
    const used: string[] = [];
    const signed: string[] = [];
    const signKey = secureKey(0, 63).join();
    const aead: AeadCipher = {
      seal: (key, iv, plain, aad) => {
        const list = key.join() === signKey ? signed : used;
        list.push(`${key.join()} ${iv.join()}`);
        return aesGcm.seal(key, iv, plain, aad);
      },
      open: aesGcm.open,
    };
    return { used, signed, aead };
  }

  it.each([
    ['the default limit', 2 ** 31, false],
    ['a limit that a channel reaches again and again', 2 ** 32 - 20, true],
    ['the highest limit', 0xfffffffe, true],
  ])('are never used twice under a key, with %s', (_name, limit, rotates) => {
    for (const copies of [false, true]) {
      const { used, signed, aead } = watchedCipher();
      const parameters = { uvm_conf_computing_channel_iv_rotation_limit: limit };
      const options = { contents: true, aead, parameters };
      const one = copies ? withCopies(ON, options) : begin(scenarioOf(ON, bytes, steps), options);
      advanceRun(one);
      const { pagesToGpu, pagesToCpu, cpuEncryptions, gpuEncryptions, ivRotations } = confOf(one.m).counts;
      // What was never run was not encrypted by an engine yet.
      expect(used.length).toBeLessThanOrEqual(cpuEncryptions + gpuEncryptions);
      expect(used.length).toBeGreaterThan(cpuEncryptions + gpuEncryptions - 20);
      expect(used.length).toBeGreaterThan(pagesToGpu + pagesToCpu + 100);
      expect(new Set(used).size).toBe(used.length);
      expect([new Set(signed).size, signed.length]).toEqual([confOf(one.m).signed, 2 * confOf(one.m).signed]);
      expect(ivRotations > 0).toBe(rotates);
      expect([one.state.error, one.state.mismatches, one.m.globalStatus]).toEqual([null, 0, NV_OK]);
    }
  });

  it('are used again under a new key: no pair of key and IV twice', () => {
    const { used, aead } = watchedCipher();
    const scenario = scenarioOf(ON, bytes, [...steps, ...steps, ...steps]);
    const one = begin(scenario, { contents: true, aead, parameters: { uvm_enable_builtin_tests: 1 } });
    confOf(one.m).keyRotationThreshold = 100_000;
    advanceRun(one);
    const { pagesToGpu, pagesToCpu, keyRotations } = confOf(one.m).counts;
    expect(keyRotations).toBeGreaterThan(4);
    // Pages, and what launches and semaphores take besides.
    expect(used.length).toBeGreaterThan(pagesToGpu + pagesToCpu);
    expect(new Set(used).size).toBe(used.length);
    expect(new Set(used.map((pair) => pair.split(' ')[1])).size).toBeLessThan(used.length);
    expect([one.state.error, one.state.mismatches, one.m.globalStatus]).toEqual([null, 0, NV_OK]);
  });
});

describe('a snapshot', () => {
  it('goes on to the same end', () => {
    const [bytes, steps] = HISTORIES['faults of both sides'];
    const scenario = scenarioOf(ON, bytes, steps);
    const whole = run(ON, bytes, steps);
    const first = begin(scenario, { contents: true });
    advanceRun(first, 70);
    while (!runCanStop(first)) advanceRun(first, 1);
    const profile = machines.profile(ON);
    const parsed = sessionParameters(scenario, profile);
    if (!parsed.ok) throw new Error(parsed.error);
    const options = { contents: true };
    const rest = resumeRun(snapshotRun(first), scenario, profile.spec, parsed.params, profile.untraced, options);
    advanceRun(first);
    advanceRun(rest);
    expect(modelHash(rest.m)).toBe(modelHash(first.m));
    expect(rest.state).toEqual(whole.state);
    expect(contentsOf(rest)).toEqual(contentsOf(whole));
  });
});
