import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { modelHash } from '../model/model.ts';
import { parseProfile } from '../scenario/profile.ts';
import type { CaseLine } from '../trace/case_check.ts';
import { executeRun } from './execute.ts';
import { type ExplainOptions, explainFault, type FaultExplanation } from './explain.ts';
import { type CallItem, type Item, walkItems } from './explain_items.ts';
import { explainPage } from './explain_page.ts';
import { pageExplanationText } from './explain_page_text.ts';
import { FaultRecorder } from './explain_recorder.ts';
import { faultExplanationText } from './explain_text.ts';
import { loadMachines, type Machines } from './machines.ts';

const machines = loadMachines();

type Json = Record<string, unknown>;

function scenario(bytes: number, steps: Json[], parameters: Json = {}): Json {
  return { name: 's', machine: 'h200-pcie5', parameters, allocations: [{ name: 'a', bytes }], steps };
}

function caseOf(json: Json, observed?: Json): CaseLine {
  const entry: CaseLine = { kind: 'case', line: 1, scenario: json };
  return observed === undefined ? entry : { ...entry, recordedFromStep: 0, observed };
}

const MIB2 = 2097152;
const write = (on: string, pages: number[]): Json => ({ on, do: 'write', buffer: 'a', pages });
const read = (on: string, pages: number[]): Json => ({ on, do: 'read', buffer: 'a', pages });

function fault(
  entry: CaseLine,
  number: number,
  options: ExplainOptions = {},
  on: Machines = machines,
): FaultExplanation {
  const result = explainFault(entry, number, on, options);
  if (!result.ok) throw new Error(result.error);
  return result.explanation;
}

function calls(items: readonly Item[]): CallItem[] {
  return [...walkItems(items)].filter((item) => item.kind === 'call');
}

describe('a fault of the GPU on data of the CPU', () => {
  const entry = caseOf(scenario(MIB2, [write('cpu', [0, 1]), read('gpu0', [0])]));
  const e = fault(entry, 2);

  it('is identified as in the output', () => {
    expect(e.fault).toMatchObject({ number: 2, of: 2, event: 'gpuFault', processor: 'gpu0', access: 'read', page: 0 });
    expect(e.fault).toMatchObject({ step: 1, batch: 1, type: 'invalidPde', buffer: 'a' });
    expect(e.outcome).toEqual({ is: 'serviced' });
  });

  it("walks through the routine in the driver's names", () => {
    expect(calls(e.calls).map((call) => call.function)).toEqual([
      'uvm_isr_top_half',
      'replayable_faults_isr_bottom_half',
      'uvm_parent_gpu_service_replayable_faults',
      'fetch_fault_buffer_entries',
      'preprocess_fault_batch',
      'service_fault_batch',
      'service_fault_batch_dispatch',
      'service_fault_batch_block_locked',
      'uvm_va_block_service_locked',
      'uvm_va_block_service_copy',
      'uvm_va_block_make_resident_copy',
      'uvm_va_block_service_finish',
      'block_service_finish_map',
      'fault_buffer_flush_locked',
      'push_replay_on_gpu',
      'uvm_tracker_wait',
    ]);
    const times = calls(e.calls).map((call) => call.time);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  it('says why the page goes where it goes', () => {
    expect(e.residency).toMatchObject({
      page: 0,
      residency: 'gpu0',
      ruleNumber: 11,
      rule: 'migrate to the faulting processor',
      residents: ['cpu'],
      closest: 'cpu',
      preferredLocation: null,
      accessedBy: [],
      readDuplication: 'unset',
      hint: 'none',
    });
  });

  it('shows the tree level by level, and what becomes of the region', () => {
    expect(e.prefetch?.pages).toHaveLength(1);
    const [ask] = e.prefetch?.pages ?? [];
    expect(ask.levels.map((l) => [l.level, l.first, l.outer, l.counter, l.size, l.passes])).toEqual([
      [9, 0, 1, 1, 1, true],
      [8, 0, 2, 2, 2, true],
      [7, 0, 4, 4, 4, true],
      [6, 0, 8, 8, 8, true],
      [5, 0, 16, 16, 16, true],
      [4, 0, 32, 16, 32, false],
      [3, 0, 64, 16, 64, false],
      [2, 0, 128, 16, 128, false],
      [1, 0, 256, 16, 256, false],
      [0, 0, 512, 16, 512, false],
    ]);
    expect(ask.region).toEqual({ first: 0, count: 16 });
    expect(e.prefetch).toMatchObject({ resident: 0, faulted: 1, grown: 15, prefetched: 15, threshold: 51 });
    expect(e.prefetch?.removed).toEqual([{ reason: 'faulted themselves', pages: 1 }]);
    expect(e.prefetch?.runs).toEqual([{ first: 1, count: 15 }]);
  });

  it('tells copies, mappings and the pushes that carry them out', () => {
    const copy = [...walkItems(e.calls)].find((item) => item.kind === 'copy');
    expect(copy).toMatchObject({ from: 'cpu', to: 'gpu0' });
    expect(copy?.runs).toEqual([
      { first: 0, count: 1, cause: 'coherence' },
      { first: 1, count: 15, cause: 'prefetch' },
    ]);
    const maps = [...walkItems(e.calls)].filter((item) => item.kind === 'map');
    expect(maps.map((m) => [m.function, m.processor, m.protection, m.runs])).toEqual([
      ['uvm_va_block_unmap', 'cpu', 'none', [{ first: 0, count: 16 }]],
      ['uvm_va_block_map', 'gpu0', 'read, write and atomics', [{ first: 0, count: 16 }]],
    ]);
    expect(e.pushes.map((p) => p.purpose)).toEqual(['memset', 'copy', 'map', 'replay']);
    const [memset, copied, mapped, replay] = e.pushes;
    expect([memset.channelType, memset.trackingValue]).toEqual(['GPU_INTERNAL', 1]);
    expect(copied.channelType).toContain('CPU_TO_GPU');
    expect(mapped.channelType).toContain('MEMOPS');
    expect(replay).toMatchObject({ channel: mapped.channel, trackingValue: mapped.trackingValue + 1 });
    for (const push of e.pushes) {
      expect(push.begin).toBeLessThan(push.end);
      expect(push.end).toBeLessThan(push.start);
      expect(push.start).toBeLessThan(push.finish);
      for (const wait of push.acquired) expect(wait.finish).toBeLessThanOrEqual(push.start);
    }
    expect(copied.acquired).toMatchObject([{ channelType: 'GPU_INTERNAL', trackingValue: 1, finish: memset.finish }]);
    expect(mapped.start).toBeGreaterThanOrEqual(copied.finish);
    expect(mapped.ptes).toEqual({ '64 KiB': 32, directory: 1 });
    expect(e.pushes[1].noticed).toBeGreaterThanOrEqual(e.pushes[1].finish);
  });

  it('names the replay that let the access go on, and how long it took', () => {
    expect(e.replay).toMatchObject({ again: null, cancelled: false, retried: e.pushes[3].finish });
    expect(e.replay?.push).toEqual(e.pushes[3]);
    expect(e.replay?.resumed).toBeGreaterThan(e.pushes[3].finish);
    expect(e.duration).toBe(e.pushes[3].finish - (e.fault.entryTime ?? 0));
    expect(e.permission).toMatchObject({ access: 'read', nativeAtomics: true, protection: 'read, write and atomics' });
  });

  it('reads well', () => {
    const text = faultExplanationText(e);
    expect(text).toContain('Fault 2 of 2 in s: read by gpu0, page 0 of a, fault type invalidPde\n');
    expect(text).toContain(
      'result   moved to gpu0, with 15 prefetched pages; mapped on gpu0: read, write and atomics\n',
    );
    expect(text).toMatch(/\n +\+\d+\.\d{3} {14}uvm_va_block_select_residency for page 0: gpu0\n/);
    expect(text).toContain('rule 11: migrate to the faulting processor\n');
    expect(text).toMatch(/ 5 +0\.\.15 +16 +16 +1600 {2}> {2}816 +taken: the highest that passes\n/);
    expect(text).toMatch(/ 4 +0\.\.31 +16 +32 +1600 {2}≤ {2}1632\n/);
    expect(text).toContain('the tracking semaphore reads 1 at +');
    expect(text).toContain('tries the access again: it goes through\n');
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(120);
    expect(faultExplanationText(e, undefined, 90)).not.toBe(text);
  });
});

describe('a fault of the CPU', () => {
  it('on data of the GPU waits for the copy', () => {
    const e = fault(caseOf(scenario(MIB2, [write('gpu0', [0]), read('cpu', [0])])), 2);
    expect(e.fault).toMatchObject({ event: 'cpuFault', processor: 'cpu', access: 'read' });
    expect(e.pushes.map((p) => p.purpose)).toEqual(['unmap', 'copy']);
    const wait = calls(e.calls).find((call) => call.function === 'uvm_tracker_wait');
    expect(wait?.left).toBeGreaterThanOrEqual(e.pushes[1].finish);
    expect(e.replay).toBeNull();
    expect(e.end).toBeGreaterThan(wait?.left ?? Number.POSITIVE_INFINITY);
    expect(calls(e.calls)[0].function).toBe('uvm_va_space_cpu_fault');
  });

  it('on fresh memory is a first touch with zeroed memory and no push', () => {
    const e = fault(caseOf(scenario(MIB2, [write('cpu', [3])])), 1);
    expect(e.residency).toMatchObject({ rule: 'first touch at the faulting processor', residents: [], closest: null });
    expect(e.pushes).toEqual([]);
    const populate = [...walkItems(e.calls)].find((item) => item.kind === 'populate');
    expect(populate?.runs).toEqual([{ first: 0, count: 512, zeroed: 512 }]);
    expect(faultExplanationText(e)).toContain('16 resident nowhere: first touch\n');
  });
});

/** A case of recorded faults alone, each [batch, page, access, gpc, client]. */
function recorded(faults: [number, number, string, number, number][], bytes = MIB2): CaseLine {
  const events = faults.map(([batch, page, access, gpc, client], i) => ({
    event: 'gpuFault',
    step: 0,
    gpu: 'gpu0',
    type: 'invalidPte',
    access,
    offset: page * 4096,
    batch,
    gpc,
    client,
    time: batch * 100_000 + i,
    gpuTime: batch * 100_000 + i,
  }));
  return caseOf(scenario(bytes, [read('gpu0', [0])]), { events });
}

describe('what becomes of a fault', () => {
  it('is said of one that is merged when fetched', () => {
    const entry = recorded([
      [1, 5, 'read', 0, 0],
      [1, 5, 'read', 0, 0],
      [1, 5, 'read', 3, 0],
    ]);
    const e = fault(entry, 2, { replay: true });
    expect(e.outcome).toEqual({ is: 'merged', representative: 1, representativeOutcome: 'serviced' });
    expect(e.residency?.page).toBe(5);
    expect(e.replay).toMatchObject({ retried: null, resumed: null });
    expect(e.replay?.push?.purpose).toBe('replay');
    expect(faultExplanationText(e)).toContain('merged into fault 1 when the batch was fetched; that one was serviced');
  });

  it('is said of one that repeats a page in service order', () => {
    const entry = recorded([
      [1, 5, 'read', 0, 0],
      [1, 9, 'read', 1, 0],
      [1, 5, 'write', 2, 0],
    ]);
    // In service order the write comes first, and with it its number.
    const first = fault(entry, 1, { replay: true });
    expect(first.fault).toMatchObject({ access: 'write', page: 5 });
    expect(first.outcome).toEqual({ is: 'serviced' });
    const second = fault(entry, 2, { replay: true });
    expect(second.fault).toMatchObject({ access: 'read', page: 5 });
    expect(second.outcome).toEqual({ is: 'duplicate', representative: 1, representativeOutcome: 'serviced' });
    expect(faultExplanationText(second)).toContain('fault 1 stands for the page and was serviced');
    expect(faultExplanationText(second)).toContain('1 entry on other pages: 1 serviced');
  });

  it('is said of one that is authorised already', () => {
    const entry = recorded([
      [1, 5, 'read', 0, 0],
      [2, 6, 'read', 0, 0],
    ]);
    const e = fault(entry, 2, { replay: true });
    expect(e.outcome).toEqual({ is: 'authorised' });
    expect(e.residency).toBeNull();
    expect(e.prefetch).toBeNull();
    expect(faultExplanationText(e)).toContain('already authorised');
  });

  it('is said of one in a batch of several blocks, and the others are left out', () => {
    const entry = recorded(
      [
        [1, 5, 'read', 0, 0],
        [1, 600, 'read', 1, 0],
        [1, 601, 'read', 2, 0],
        [1, 1100, 'read', 3, 0],
      ],
      3 * MIB2,
    );
    const e = fault(entry, 2, { replay: true });
    expect(e.fault.page).toBe(600);
    expect(e.prefetch?.block).toEqual({ first: 512, count: 512 });
    expect(calls(e.calls).filter((call) => call.function === 'service_fault_batch_dispatch')).toHaveLength(1);
    const others = [...walkItems(e.calls)].filter((item) => item.kind === 'others').map((item) => item.what);
    expect(others).toEqual(['1 entry on other pages: 1 serviced', '2 other blocks with 2 faults']);
  });

  it('has the replay of its own block under policy BLOCK', () => {
    const entry = recorded(
      [
        [1, 5, 'read', 0, 0],
        [1, 600, 'read', 1, 0],
        [1, 1100, 'read', 3, 0],
      ],
      3 * MIB2,
    );
    const e = fault(entry, 2, { replay: true, parameters: { uvm_perf_fault_replay_policy: 0 } });
    expect(e.fault.page).toBe(600);
    const replays = calls(e.calls).filter((call) => call.function === 'push_replay_on_gpu');
    expect(replays.map((call) => call.items)).toEqual([[{ kind: 'push', push: e.replay?.push }]]);
    expect(e.replay?.push?.begin).toBeGreaterThan(e.pushes[0].begin);
  });

  it('is said of one that the CPU takes on a page that the driver holds to be mapped', () => {
    const faults = [1, 2, 3].map((i) => ({ event: 'cpuFault', step: 0, access: 'write', offset: 0, time: i * 50_000 }));
    const entry = caseOf(scenario(MIB2, [write('cpu', [0])]), { events: faults });
    expect(fault(entry, 1, { replay: true }).outcome).toEqual({ is: 'serviced' });
    const e = fault(entry, 2, { replay: true });
    expect(e.outcome).toEqual({ is: 'spurious', comesBackAs: 3 });
    expect(e.pushes).toEqual([]);
    expect(faultExplanationText(e)).toContain('it believes the page is mapped');
  });

  it('is said of one for which there is no memory', () => {
    const json = JSON.parse(readFileSync(`${import.meta.dirname}/../../profiles/h200-pcie5.json`, 'utf8'));
    json.machine.vidmemBytes = MIB2;
    const profile = parseProfile(json);
    const small: Machines = { known: machines.known, profile: () => profile };
    const e = fault(caseOf(scenario(2 * MIB2, [write('gpu0', [0, 512])])), 2, {}, small);
    expect(e.outcome).toMatchObject({ is: 'fatal', fatalReason: 'out of memory' });
    expect(e.replay).toMatchObject({ cancelled: true });
    expect(e.notes[0]).toMatch(/^The run ended early: steps\[0\]/);
    expect(calls(e.calls).map((call) => call.function)).toContain('cancel_faults_all');
    expect(faultExplanationText(e)).toContain('fatal (out of memory)');
  });
});

describe('thrashing', () => {
  const steps = Array.from({ length: 12 }, (_, i) => write(i % 2 === 0 ? 'cpu' : 'gpu0', [0]));
  const entry = caseOf(scenario(MIB2, steps));
  const page = explainPage(entry, { buffer: 'a', index: 0 }, machines);
  if (!page.ok) throw new Error(page.error);
  const throttled = page.explanation.entries.find((one) => one.kind === 'fault' && one.outcome === 'throttled');

  it('says why a fault is throttled, and as which fault the access comes back', () => {
    if (throttled?.kind !== 'fault' || throttled.number === null) throw new Error('no fault is throttled');
    const e = fault(entry, throttled.number);
    expect(e.outcome).toMatchObject({ is: 'throttled' });
    const [hint] = e.thrashing;
    expect(hint).toMatchObject({ hint: 'throttle', threshold: 3, pinThreshold: 10, lapse: 500_000 });
    expect(hint.events).toBeGreaterThanOrEqual(3);
    expect(hint.doNotThrottle).not.toBe(hint.processor);
    const text = faultExplanationText(e);
    expect(text).toContain('outcome  throttled: its page thrashes and another processor is spared');
    expect(text).toMatch(/period ends at [+-]\d+\.\d{3}, spared (cpu|nobody|gpu0)/);
  });
});

it.each([0, 1, 2, 3])('names the replay under policy %i', (policy) => {
  const entry = caseOf(
    scenario(MIB2, [write('cpu', [0]), read('gpu0', [0, 100])], { uvm_perf_fault_replay_policy: policy }),
  );
  const e = fault(entry, 3);
  expect(e.fault.page).toBe(100);
  expect(e.replay?.push?.purpose).toBe('replay');
  expect(e.replay?.retried).toBe(e.replay?.push?.finish);
  const caller = calls(e.calls).find((call) =>
    call.items.some((i) => i.kind === 'call' && i.function === 'push_replay_on_gpu'),
  );
  expect(caller?.function).toBe(
    ['service_fault_batch', 'uvm_parent_gpu_service_replayable_faults', 'fault_buffer_flush_locked', undefined][policy],
  );
});

describe('mistakes', () => {
  const entry = caseOf(scenario(MIB2, [write('cpu', [0]), read('gpu0', [0])]));

  it.each([0, 3])('name the valid numbers for fault %i', (number) => {
    const result = explainFault(entry, number, machines);
    expect(result).toEqual({
      ok: false,
      asked: true,
      error: `scenario 's' has no fault ${number}; valid: 1 to 2`,
    });
  });

  it('say that there is none', () => {
    const result = explainFault(caseOf(scenario(MIB2, [])), 1, machines);
    expect(result).toMatchObject({ ok: false, error: "scenario 's' has no fault 1; it has no fault" });
  });

  it.each([
    [{ buffer: 'b', index: 0 }, "unknown buffer 'b'; valid: a"],
    [{ buffer: null, index: 512 }, "buffer 'a' has no page 512; valid: 0 to 511"],
  ])('name the valid pages for %j', (name, error) => {
    expect(explainPage(entry, name, machines)).toEqual({ ok: false, asked: true, error });
  });

  it('of the scenario are told as such', () => {
    const result = explainFault(caseOf({ name: 'x' }), 1, machines);
    expect(result).toMatchObject({ ok: false, asked: false });
  });
});

describe('an observer', () => {
  const steps = [
    write('cpu', [0, 40, 700]),
    { do: 'advise', advice: 'setReadMostly', buffer: 'a', offset: 0, length: 65536 },
    read('gpu0', [0, 17, 100, 700]),
    { do: 'prefetch', to: 'cpu', buffer: 'a', offset: 0, length: MIB2 },
    write('gpu0', [0, 300]),
    write('cpu', [0, 300]),
    write('gpu0', [0, 300]),
    write('cpu', [0, 300]),
    write('gpu0', [0, 300]),
    write('cpu', [0, 300]),
    write('gpu0', [0, 300]),
  ];

  it.each([0, 1, 2, 3])('changes nothing under policy %i', (policy) => {
    const json = scenario(2 * MIB2, steps, { uvm_perf_fault_replay_policy: policy });
    const without = executeRun(json, machines);
    const recorder = new FaultRecorder(10);
    const watched = executeRun(json, machines, { why: recorder, onRun: (run) => recorder.attach(run) });
    if (!without.ok || !watched.ok) throw new Error('the scenario does not run');
    expect(recorder.recorded).not.toBeNull();
    expect(modelHash(watched.run.m)).toBe(modelHash(without.run.m));
    expect(watched.run.state.wall).toEqual(without.run.state.wall);
  });
});

describe('the story of a page', () => {
  const steps = [
    write('cpu', [0]),
    read('gpu0', [3]),
    { do: 'advise', advice: 'setAccessedBy', processor: 'gpu0', buffer: 'a', offset: 0, length: MIB2 },
    write('cpu', [3]),
    { do: 'prefetch', to: 'gpu0', buffer: 'a', offset: 0, length: MIB2 },
  ];
  const result = explainPage(caseOf(scenario(MIB2, steps)), { buffer: null, index: 3 }, machines);
  if (!result.ok) throw new Error(result.error);
  const { explanation: e } = result;

  it('has all that happened, in order of time', () => {
    expect(e.entries.map((one) => one.kind).join(' ')).toBe(
      'firstTouch mapping fault mapping move mapping resumed call fault mapping move mapping mapping call mapping ' +
        'mapping move mapping',
    );
    const times = e.entries.map((one) => one.time);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(e.faults).toEqual({ gpu0: 1, cpu: 1 });
    expect(e.moves).toBe(3);
    expect(e.resident).toEqual(['gpu0']);
  });

  it('tells prefetched pages with the fault that brought them', () => {
    const [touch] = e.entries;
    expect(touch).toMatchObject({ kind: 'firstTouch', processor: 'cpu', faults: [{ number: 1, page: 0 }] });
    const text = pageExplanationText(e);
    expect(text).toContain('first touch: lives on cpu, with fault 1 on page 0\n');
    expect(text).toContain('uvm_api_set_accessed_by: accessed by gpu0\n');
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(120);
  });
});
