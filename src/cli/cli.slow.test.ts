import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Cli, createCli } from '../../test/support/cli.ts';
import { packageVersion, recordingPath } from '../analysis/machines.ts';
import { type EVENT_KINDS, IDENTITY_FIELDS, type UvmEvent } from '../trace/event.ts';

let cli: Cli;
beforeAll(async () => {
  cli = await createCli();
});
afterAll(() => cli.remove());
afterEach(() => {
  // Whatever happened, no temporary file stays.
  expect(readdirSync(cli.folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
});

const path = (name: string): string => join(cli.folder, name);
const lines = (...values: unknown[]): string => values.map((value) => `${JSON.stringify(value)}\n`).join('');

interface Line {
  scenario: string | null;
  wallMicroseconds?: number[];
  events?: UvmEvent[];
  notes?: string[];
  line?: number;
  error?: string;
}

function readLines(name: string): Line[] {
  const text = readFileSync(path(name), 'utf8');
  expect(text === '' || text.endsWith('\n')).toBe(true);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
}

interface RecordedCase {
  scenario: { name: string };
  observed: { events: UvmEvent[]; wallMicroseconds?: unknown };
}

function recordedCases(file: string): RecordedCase[] {
  const text = gunzipSync(readFileSync(recordingPath(file))).toString();
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

const READ = { on: 'gpu0', do: 'read', buffer: 'a', pages: [0] };
function scenario(name: string, ...steps: object[]) {
  return { name, machine: 'h200-pcie5', allocations: [{ name: 'a', bytes: 2097152 }], steps };
}
const good = (name: string) => scenario(name, { on: 'cpu', do: 'write', buffer: 'a', pages: [0] }, READ);

describe('run --events', () => {
  it('writes a line for each scenario, in order, of all files', () => {
    writeFileSync(path('one.json'), JSON.stringify(good('one')));
    writeFileSync(path('more.jsonl'), lines(good('two'), { scenario: good('three') }));
    const { status, stdout, stderr } = cli.run('run', 'one.json', 'more.jsonl', '--events', 'out.jsonl');
    expect([status, stdout, stderr]).toEqual([0, '', '']);
    const out = readLines('out.jsonl');
    expect(out.map((line) => line.scenario)).toEqual(['one', 'two', 'three']);
    for (const line of out) {
      expect(Object.keys(line)).toEqual(['scenario', 'wallMicroseconds', 'events']);
      expect(line.wallMicroseconds).toEqual([expect.any(Number), expect.any(Number)]);
      expect(line.events?.map((e) => e.event)).toEqual(['cpuFault', 'gpuFault', 'migration', 'migration', 'replay']);
      expect(line.events?.map((e) => e.step)).toEqual([0, 1, 1, 1, 1]);
    }
  });

  it('gives every event its step and its fields, whole nanoseconds, and buffers where there are several', () => {
    const file = recordingPath('scripts1.jsonl.gz');
    expect(cli.run('run', file, recordingPath('pins.jsonl.gz'), '--events', 'out.jsonl').status).toBe(0);
    const events = readLines('out.jsonl').flatMap((line) => line.events ?? []);
    expect(events.length).toBeGreaterThan(5000);
    for (const event of events as unknown as Record<string, unknown>[]) {
      const fields = IDENTITY_FIELDS[event['event'] as (typeof EVENT_KINDS)[number]];
      for (const field of [...fields, 'step']) expect(event).toHaveProperty(field);
      for (const [field, value] of Object.entries(event)) {
        if (/time$|begin$|end$/i.test(field)) expect(Number.isSafeInteger(value)).toBe(true);
      }
      expect(event).not.toHaveProperty('buffer');
    }
    const two = [
      { name: 'a', bytes: 4096 },
      { name: 'b', bytes: 4096 },
    ];
    writeFileSync(path('two.json'), JSON.stringify({ ...scenario('two', { ...READ, buffer: 'b' }), allocations: two }));
    expect(cli.run('run', 'two.json', '--events', 'out.jsonl').status).toBe(0);
    expect(readLines('out.jsonl')[0].events?.[0]).toMatchObject({ event: 'gpuFault', buffer: 'b', offset: 0 });
  });

  it('does not look at the recording', () => {
    const cases = recordedCases('cpu.jsonl.gz');
    writeFileSync(path('bare.jsonl'), lines(...cases.map((c) => c.scenario)));
    writeFileSync(path('odd.jsonl'), lines(...cases.map((c) => ({ ...c, recordedFromStep: 'x', observed: 7 }))));
    for (const file of [recordingPath('cpu.jsonl.gz'), 'bare.jsonl', 'odd.jsonl']) {
      expect(cli.run('run', file, '--events', `out-${file.length}.jsonl`).status).toBe(0);
    }
    const [full, bare, odd] = [recordingPath('cpu.jsonl.gz'), 'bare.jsonl', 'odd.jsonl'].map((file) =>
      readFileSync(path(`out-${file.length}.jsonl`), 'utf8'),
    );
    expect(full.length).toBeGreaterThan(100_000);
    expect(bare).toBe(full);
    expect(odd).toBe(full);
  });

  it('takes module parameters and predicts the traced program when asked to', () => {
    writeFileSync(path('s.json'), JSON.stringify(good('s')));
    const moved = (...args: string[]): number => {
      expect(cli.run('run', 's.json', '--events', 'out.jsonl', ...args).status).toBe(0);
      const events = readLines('out.jsonl')[0].events ?? [];
      return events.reduce((sum, e) => sum + (e.event === 'migration' ? e.bytes : 0), 0);
    };
    expect(moved()).toBe(65536);
    expect(moved('--param', 'uvm_perf_prefetch_enable=0', '--param', 'uvm_perf_fault_replay_policy=1')).toBe(4096);
    expect(moved('--traced')).toBe(65536);
    expect(cli.run('run', 's.json', '-p', 'uvm_perf_prefetch_threshold=101', '--events', 'out.jsonl').stderr).toContain(
      'note: s: uvm_perf_prefetch_threshold changed from 101 to 51',
    );
    expect(readLines('out.jsonl')[0].notes).toHaveLength(1);
  });
});

describe('replay --events', () => {
  it('reads of a recording the faults alone', () => {
    const cases = recordedCases('repeats.jsonl.gz').slice(0, 5);
    const faults = cases.map((c) => ({
      ...c,
      observed: { events: c.observed.events.filter((e) => e.event === 'gpuFault' || e.event === 'cpuFault') },
    }));
    writeFileSync(path('full.jsonl'), lines(...cases));
    writeFileSync(path('faults.jsonl'), lines(...faults));
    expect(cli.run('replay', 'full.jsonl', '--events', 'full-out.jsonl').status).toBe(0);
    expect(cli.run('replay', 'faults.jsonl', '--events', 'faults-out.jsonl').status).toBe(0);
    const out = readFileSync(path('full-out.jsonl'), 'utf8');
    expect(readFileSync(path('faults-out.jsonl'), 'utf8')).toBe(out);
    for (const [i, line] of readLines('full-out.jsonl').entries()) {
      const count = (events: UvmEvent[] = []): number => events.filter((e) => e.event === 'migration').length;
      expect(line.scenario).toBe(cases[i].scenario.name);
      expect(count(line.events)).toBe(count(cases[i].observed.events));
      for (const wall of line.wallMicroseconds ?? []) expect(wall).toBeGreaterThan(0);
    }
  });

  it("notes what a program's recording does not tell, in the line and on stderr", () => {
    const fault = { event: 'gpuFault', gpu: 'gpu0', type: 'invalidPde', access: 'read', offset: 0 };
    const frame = { name: 'program', machine: 'h200-pcie5', allocations: [{ name: 'a', bytes: 4096 }] };
    const events = [{ ...fault, batch: 0, time: 0, gpuTime: 0 }];
    writeFileSync(path('program.jsonl'), lines({ scenario: frame, recordedFromStep: 0, observed: { events } }));
    const { status, stderr } = cli.run('replay', 'program.jsonl', '--events', 'out.jsonl');
    expect(status).toBe(0);
    expect(stderr).toContain('note: program: The recording has no steps');
    expect(readLines('out.jsonl')[0]).toMatchObject({ notes: [expect.stringContaining('no steps')] });
  });

  it('fails for a line without a recording', () => {
    writeFileSync(path('s.jsonl'), lines(good('bare')));
    expect(cli.run('replay', 's.jsonl', '--events', 'out.jsonl').status).toBe(1);
    expect(readLines('out.jsonl')[0]).toMatchObject({
      scenario: 'bare',
      line: 1,
      error: expect.stringContaining('observed'),
    });
  });
});

describe('bad input', () => {
  const sized = (bytes: unknown) => ({ ...good(`${bytes} bytes`), allocations: [{ name: 'a', bytes }] });
  const advise = { do: 'advise', advice: 'setReadMostly', buffer: 'a', offset: 0, length: 4096 };
  const prefetch = { do: 'prefetch', to: 'gpu0', buffer: 'a', offset: 0, length: 4096 };
  const range = { on: 'gpu0', do: 'read', buffer: 'a', offset: 0, length: 4096, stride: 4096 };
  const whole = 'expected a whole number from 1 to 2^47';
  const BAD: [object, string][] = [
    [scenario('step', { do: 'fly' }), 'steps[0].do: unknown step "fly"; valid: read, write, atomic, prefetch'],
    [scenario('processor', { ...READ, on: 'tpu0' }), 'steps[0].on: unknown processor "tpu0"'],
    [scenario('gpu1', { ...READ, on: 'gpu1' }), 'unknown processor "gpu1" on machine "h200-pcie5"; valid: cpu, gpu0'],
    [scenario('buffer', { ...READ, buffer: 'b' }), 'steps[0].buffer: unknown buffer "b"; valid: a'],
    [
      scenario('advice', { ...advise, advice: 'hope' }),
      'steps[0].advice: "hope"; expected one of setPreferredLocation',
    ],
    [{ ...good('profile'), machine: 'b200' }, 'unknown machine "b200"; valid: 2xh200-nvlink, h100-cc, h200-pcie5'],
    [{ ...good('parameter'), parameters: { uvm_perf_prefetch_enabled: 1 } }, 'did you mean uvm_perf_prefetch_enable?'],
    [
      scenario('range', { ...range, length: 2097153 }),
      'steps[0].length: 2097153 from offset 0 ends outside buffer "a"',
    ],
    [
      { ...good('twins'), allocations: [0, 1].map(() => ({ name: 'a', bytes: 4096 })) },
      'allocations[1].name: "a" is the name of allocations[0] too; names must differ',
    ],
    [sized(0), `allocations[0].bytes: 0; ${whole}`],
    [sized(-4096), `allocations[0].bytes: -4096; ${whole}`],
    [sized(1.5), `allocations[0].bytes: 1.5; ${whole}`],
    [sized(2 ** 47 + 1), `allocations[0].bytes: 140737488355329; ${whole}`],
    [scenario('stride', { ...range, stride: 0 }), `steps[0].stride: 0; ${whole}`],
    [scenario('prefetch offset', { ...prefetch, offset: 100 }), 'steps[0].offset: 100; expected a multiple of 4096'],
    [scenario('prefetch length', { ...prefetch, length: 100 }), 'steps[0].length: 100; expected a multiple of 4096'],
    [scenario('advise offset', { ...advise, offset: 100 }), 'steps[0].offset: 100; expected a multiple of 4096'],
    [scenario('advise length', { ...advise, length: 100 }), 'steps[0].length: 100; expected a multiple of 4096'],
    [scenario('page', { ...READ, pages: [0, 1.5] }), 'steps[0].pages[1]: 1.5; expected a whole number from 0 to 511'],
    [
      scenario('unmodelled', { on: 'gpu0', do: 'memset', buffer: 'a', offset: 0, length: 4096 }),
      "'memset' cannot be run yet",
    ],
  ];

  it('says for each line what is wrong, and runs the others', () => {
    // Good scenarios before, between and after the bad ones, and a line that is not JSON near the end.
    const text = BAD.map(([bad], i) => lines(bad, good(`good-${i}`))).join('');
    writeFileSync(path('bad.jsonl'), `${text}{"name":\n${lines(good('last'))}`);
    const { status, stderr } = cli.run('run', 'bad.jsonl', '--events', 'out.jsonl');
    expect(status).toBe(1);
    const out = readLines('out.jsonl');
    expect(out).toHaveLength(2 * BAD.length + 2);
    for (const [i, [bad, message]] of BAD.entries()) {
      const failed = out[2 * i];
      expect(failed.error).toContain(message);
      expect(failed).toEqual({ scenario: (bad as { name: string }).name, line: 2 * i + 1, error: failed.error });
      expect(out[2 * i + 1]).toMatchObject({ scenario: `good-${i}`, events: expect.any(Array) });
      expect(stderr).toContain(`error: bad.jsonl:${2 * i + 1}: ${failed.scenario}: ${failed.error}`);
    }
    const line = 2 * BAD.length + 1;
    expect(out.at(-2)).toEqual({ scenario: null, line, error: expect.stringContaining('not JSON') });
    expect(out.at(-1)).toMatchObject({ scenario: 'last', events: expect.any(Array) });
  });

  it('runs what stands before the end of a truncated file', () => {
    const text = lines(...Array.from({ length: 200 }, (_, i) => good(`${i}-${(i * 7919) % 1009}`)));
    const whole = gzipSync(text);
    writeFileSync(path('cut.jsonl.gz'), whole.subarray(0, whole.length - 200));
    writeFileSync(path('after.jsonl'), lines(good('after')));
    const { status, stderr } = cli.run('run', 'cut.jsonl.gz', 'after.jsonl', '--events', 'out.jsonl');
    expect(status).toBe(1);
    const out = readLines('out.jsonl');
    const ran = out.filter((line) => line.events !== undefined);
    expect(ran.length).toBeGreaterThan(50);
    expect(ran.length).toBeLessThan(200);
    expect(ran.at(-1)?.scenario).toBe('after');
    expect(out.at(-2)).toEqual({ scenario: null, line: ran.length, error: expect.stringContaining('truncated') });
    expect(stderr).toContain('cut.jsonl.gz');
  });

  it('is wrong usage where nothing can run, and leaves files alone', () => {
    writeFileSync(path('s.jsonl'), lines(good('s')));
    writeFileSync(path('kept.jsonl'), 'kept');
    const USAGE: [string[], string][] = [
      [['run'], "missing required argument 'FILE'"],
      [['fly'], "unknown command 'fly'"],
      [['run', 's.jsonl', '--fast'], "unknown option '--fast'"],
      [['run', 's.jsonl', 'none.json', '--events', 'kept.jsonl'], 'none.json: no such file'],
      [['run', 's.txt'], 's.txt: unknown kind of file; its name must end in .json, .jsonl, .jsonl.gz or .uvmrec'],
      [['run', 's.jsonl', '--param', 'x'], '--param x: expected NAME=VALUE'],
      [['run', 's.jsonl', '--param', 'uvm_fly=1'], '--param: unknown module parameter "uvm_fly"'],
      [
        ['run', 's.jsonl', '--param', 'uvm_perf_prefetch_enable=maybe'],
        '--param: module parameter uvm_perf_prefetch_enable: "maybe" is not an integer',
      ],
      [['run', 's.jsonl', '--events', 's.jsonl'], '--events s.jsonl: is one of the files to read'],
      [['run', 's.jsonl', '--events', 'none/out.jsonl'], 'none/out.jsonl: cannot be written: there is no folder none'],
      [['validate', 's.jsonl', '--walls', 'none.jsonl'], 'none.jsonl: cannot be read'],
      [['parameters', 'fly'], 'no module parameter has "fly" in its name'],
    ];
    for (const [args, message] of USAGE) {
      const { status, stdout, stderr } = cli.run(...args);
      expect([status, stdout], args.join(' ')).toEqual([2, '']);
      expect(stderr).toContain(`error: ${message}`);
    }
    expect(readFileSync(path('kept.jsonl'), 'utf8')).toBe('kept');
    expect(readFileSync(path('s.jsonl'), 'utf8')).toBe(lines(good('s')));
  });
});

describe('for people', () => {
  it('sums up each step of a run, without colours where there is no terminal', () => {
    writeFileSync(path('s.jsonl'), lines(good('first'), scenario('broken', { do: 'fly' }), good('second')));
    const { status, stdout } = cli.run('run', 's.jsonl');
    expect(status).toBe(1);
    expect(stdout).not.toContain('\u001b');
    expect(stdout).toMatch(/^first on h200-pcie5\n/);
    expect(stdout).toMatch(/0 {2}cpu writes a: page 0 +[\d.]+ µs +1 +- +- +- +-\n/);
    expect(stdout).toMatch(/1 {2}gpu0 reads a: page 0 +[\d.]+ µs +- +1 +1 +1 +64 KiB\n/);
    expect(stdout).toContain('cpu -> gpu0: 1 migration by coherence, 4 KiB\n');
    expect(stdout).toContain('cpu -> gpu0: 1 migration by prefetch, 60 KiB\n');
    expect(stdout).toMatch(
      /2 scenarios, 1 failure: 4 faults, 4 migrations, 128 KiB moved, .* predicted \(untraced\)\n$/,
    );
  });

  it('sums up a replay', () => {
    const { status, stdout } = cli.run('replay', recordingPath('scripts1.jsonl.gz'));
    expect(status).toBe(0);
    expect(stdout).toMatch(/\n23 scenarios: [\d,]+ faults, /);
  });

  it('validates recordings', () => {
    const { status, stdout } = cli.run('validate', recordingPath('cpu.jsonl.gz'));
    expect(status).toBe(0);
    expect(stdout).toMatch(/\ncpu\.jsonl\.gz +9 +7 +- +2 +-\n/);
    expect(stdout).toMatch(/Time-dependent.*\n.*\n +pingpong-one-page +1 recording/);
    expect(stdout).toMatch(/\n +cpu +traced +\d+ +\d+ % +\d+ %/);
  });

  it('shows the first difference of a case and fails', () => {
    const [first, second] = recordedCases('serial.jsonl.gz');
    const changed = first.observed.events.find((e) => e.event === 'migration');
    Object.assign(changed ?? {}, { bytes: 12288 });
    writeFileSync(path('changed.jsonl'), `${lines(first, second)}{\n`);
    const { status, stdout } = cli.run('validate', 'changed.jsonl');
    expect(status).toBe(1);
    expect(stdout).toMatch(/changed\.jsonl +3 +1 +1 +- +1\n/);
    expect(stdout).toContain(
      'seq-4k-read (changed.jsonl, line 1): step 1, migration 0 (cause, src, dst, offset, bytes)',
    );
    expect(stdout).toMatch(/> +0 +coherence cpu gpu0 0 12288 +coherence cpu gpu0 0 4096\n/);
    expect(stdout).toContain('no scenario (changed.jsonl, line 3): not JSON');
    const json = JSON.parse(cli.run('validate', 'changed.jsonl', '--json').stdout);
    expect(json).toMatchObject({ ok: false, files: [{ exact: 1, notExact: 1, errors: 1 }], timeDependent: [] });
    expect(json.cases[0].difference).toMatchObject({ kind: 'migration', index: 0, step: 1 });
  });

  it('has help with examples and exit codes for every command', () => {
    const { status, stdout } = cli.run('--help');
    expect(status).toBe(0);
    const commands = [...stdout.matchAll(/^ {2}([a-z]+) .*/gm)].map((match) => match[1]).filter((c) => c !== 'uvmlab');
    expect(commands).toEqual(expect.arrayContaining(['run', 'replay', 'validate', 'explain', 'demo', 'parameters']));
    for (const command of commands.filter((name) => name !== 'help')) {
      const help = cli.run(command, '--help');
      expect([help.status, help.stderr], command).toEqual([0, '']);
      expect(help.stdout).toMatch(/\nExamples:\n {2}uvmlab /);
    }
    for (const text of [stdout, cli.run('run', '--help').stdout])
      expect(text).toMatch(/Exit codes:\n {2}0 .*\n {2}1 .*\n {2}2 /);
  });

  it('knows its version and lists parameters', () => {
    expect(cli.run('--version').stdout).toBe(`${packageVersion()}\n`);
    expect(cli.run('parameters', 'replay_policy').stdout).toMatch(
      /uvm_perf_fault_replay_policy +2 +0 to 3; else the default/,
    );
    const json = JSON.parse(cli.run('parameters', '--json').stdout);
    expect(json.uvm_perf_thrashing_threshold).toMatchObject({ default: 3, type: 'uint' });
  });

  it('shows real histories in the demo, all the same as on hardware', () => {
    const { status, stdout } = cli.run('demo');
    expect(status).toBe(0);
    expect(stdout.match(/: the same (events|migrations)/g)?.length).toBeGreaterThanOrEqual(4);
    expect(stdout).not.toContain('differ');
    // It ends with one fault explained.
    expect(stdout).toMatch(/\nFault \d+ of \d+ in seq-64k-read.*select_residency.*uvm_va_block_get_prefetch_hint/s);
  });
});
