import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CaseLine, checkRecording } from './case_check.ts';
import { type CaseEntry, type CaseSource, readCases } from './case_file.ts';

const REAL = new URL('../../test/fixtures/real-cases.jsonl', import.meta.url);

async function all(source: CaseSource): Promise<CaseEntry[]> {
  const out: CaseEntry[] = [];
  for await (const entry of readCases(source)) out.push(entry);
  return out;
}

function text(name: string, content: string): Promise<CaseEntry[]> {
  return all({ name, bytes: Buffer.from(content) });
}

/** Lines of cases, as name or as the error, each with its line number. */
function brief(entries: CaseEntry[]): string[] {
  return entries.map((e) =>
    e.kind === 'case' ? `${e.line} ${(e.scenario as { name: string }).name}` : `${e.line} ! ${e.error}`,
  );
}

const NOT_JSON = expect.stringMatching(/^2 ! not JSON: /);

describe('lines', () => {
  it('gives scenarios and cases in order, with what was recorded', async () => {
    const entries = await text(
      'x.jsonl',
      '{"name":"s"}\n{"scenario":{"name":"c"},"recordedFromStep":2,"observed":{"events":[]}}\n',
    );
    expect(entries).toEqual([
      { kind: 'case', line: 1, scenario: { name: 's' } },
      { kind: 'case', line: 2, scenario: { name: 'c' }, recordedFromStep: 2, observed: { events: [] } },
    ]);
  });

  it('counts empty lines but gives nothing for them', async () => {
    expect(brief(await text('x.jsonl', '\n{"name":"a"}\r\n  \n\n{"name":"b"}'))).toEqual(['2 a', '5 b']);
    expect(await text('x.jsonl', '')).toEqual([]);
    expect(await text('x.jsonl', '\n\n')).toEqual([]);
  });

  it('gives an error for a bad line and goes on', async () => {
    expect(brief(await text('x.jsonl', '{"name":"a"}\n{"name":\n{"name":"c"}\n'))).toEqual(['1 a', NOT_JSON, '3 c']);
    expect(brief(await text('x.jsonl', '5\n[]\nnull\n"x"\n'))).toEqual(
      [1, 2, 3, 4].map((n) => `${n} ! expected an object: a scenario, or a case with a scenario inside`),
    );
    expect(brief(await text('x.jsonl', '{"scenario":"name","events":[]}\n'))).toEqual([
      '1 ! scenario: expected an object (a line of results is not a case)',
    ]);
    const bytes = Buffer.concat([Buffer.from('{"name":"a"}\n{"name":"'), Buffer.from([0xff, 0x22, 0x7d, 10])]);
    expect(brief(await all({ name: 'x.jsonl', bytes }))).toEqual(['1 a', '2 ! not UTF-8 text']);
  });

  it('says that a last line without an end may be cut off', async () => {
    const [, last] = brief(await text('x.jsonl', '{"name":"a"}\n{"name":"b'));
    expect(last).toMatch(/^2 ! not JSON: .*; the line has no end, so the file may be truncated$/);
  });

  it('reads past a byte-order mark and keeps text beyond ASCII', async () => {
    expect(brief(await text('x.jsonl', '\ufeff{"name":"müon"}\n'))).toEqual(['1 müon']);
  });
});

describe('one JSON value', () => {
  it('is a scenario or a case on any number of lines', async () => {
    expect(await text('x.json', '{\n "name":\n "s"\n}\n')).toEqual([
      { kind: 'case', line: 1, scenario: { name: 's' } },
    ]);
    expect(brief(await text('x.json', '{"scenario":{"name":"c"},"observed":{}}'))).toEqual(['1 c']);
  });

  it('is an error otherwise', async () => {
    expect(brief(await text('x.json', ''))).toEqual(['1 ! the file is empty; expected a scenario or a case']);
    expect(brief(await text('x.json', '[]'))[0]).toContain('1 ! expected an object');
    expect(brief(await text('x.json', '{"name"'))[0]).toMatch(/^1 ! not JSON: /);
  });
});

describe('packed lines', () => {
  const lines = ['{"name":"a"}', '{"name":"b"}', '{"name":"c"}'];
  const packed = gzipSync(`${lines.join('\n')}\n`);

  it('are the same as plain ones', async () => {
    expect(brief(await all({ name: 'x.jsonl.gz', bytes: packed }))).toEqual(['1 a', '2 b', '3 c']);
  });

  it('may come in several members, with padding behind them', async () => {
    const bytes = Buffer.concat([gzipSync('{"name":"a"}\n{"na'), gzipSync('me":"b"}\n'), Buffer.alloc(64)]);
    expect(brief(await all({ name: 'x.jsonl.gz', bytes }))).toEqual(['1 a', '2 b']);
  });

  it('give whole lines and one error wherever they are cut', async () => {
    // A real case, then short ones, cut at every place: what is whole is never lost, what is not is never given.
    const first = readFileSync(REAL, 'utf8').split('\n')[0];
    const long = gzipSync(`${first}\n${lines.join('\n')}\n`);
    const want = ['tiny-z2', 'a', 'b', 'c'];
    let before = 0;
    for (let cut = 0; cut < long.length; cut++) {
      const entries = await all({ name: 'x.jsonl.gz', bytes: long.subarray(0, cut) });
      const whole = entries.slice(0, -1);
      expect(whole.map((e) => (e as CaseLine).scenario)).toMatchObject(
        want.slice(0, whole.length).map((name) => ({ name })),
      );
      expect(whole.length).toBeGreaterThanOrEqual(before);
      before = whole.length;
      const after = before === 0 ? 'no line' : `line ${before}`;
      expect(entries.at(-1)).toEqual({
        kind: 'error',
        line: before + 1,
        error: `the file is truncated after ${after}`,
      });
    }
    expect(before).toBe(4);
  });

  it('give a last line without a newline only if it is whole', async () => {
    const bytes = gzipSync('{"name":"a"}\n{"name":"b"}');
    const [data, cut] = [gzipSync('{"name":"a"}\n{"name":"b"', { level: 0 }), bytes.subarray(0, -1)];
    const truncated = (n: number): string => `${n + 1} ! the file is truncated after line ${n}`;
    expect(brief(await all({ name: 'x.jsonl.gz', bytes: cut }))).toEqual(['1 a', '2 b', truncated(2)]);
    expect(brief(await all({ name: 'x.jsonl.gz', bytes: data.subarray(0, -1) }))).toEqual(['1 a', truncated(1)]);
  });

  it('give the lines of a large file up to the cut', async () => {
    let state = 1;
    const noise = (): number => (state = (Math.imul(state, 1103515245) + 12345) >>> 0);
    const many = Array.from({ length: 4000 }, (_, i) =>
      JSON.stringify({ name: `n${i}`, noise: [noise(), noise(), noise()] }),
    );
    const bytes = gzipSync(many.join('\n'));
    const entries = await all({ name: 'x.jsonl.gz', bytes: bytes.subarray(0, Math.floor(bytes.length / 2)) });
    expect(entries.length).toBeGreaterThan(1000);
    expect(brief(entries.slice(0, -1))).toEqual(entries.slice(0, -1).map((_, i) => `${i + 1} n${i}`));
    expect(brief(entries).at(-1)).toBe(`${entries.length} ! the file is truncated after line ${entries.length - 1}`);
  });

  it('say when they are not packed or damaged', async () => {
    expect(brief(await text('x.jsonl.gz', '{"name":"a"}\n'))).toEqual([
      '1 ! the file is damaged gzip data (incorrect header check) after no line',
    ]);
    // The checksum is wrong: nothing of the chunk that it is in can be trusted.
    const bytes = Buffer.from(packed);
    bytes[bytes.length - 8] ^= 1;
    expect(brief(await all({ name: 'x.jsonl.gz', bytes }))).toEqual([
      '1 ! the file is damaged gzip data (incorrect data check) after no line',
    ]);
  });
});

describe('files', () => {
  let dir = '';
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'uvmlab-cases-'));
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  it('are read by their path', async () => {
    const path = join(dir, 'x.jsonl.gz');
    writeFileSync(path, gzipSync('{"name":"a"}\n'));
    expect(brief(await all(path))).toEqual(['1 a']);
  });

  it('must be there, be files and be of a known kind', async () => {
    const missing = join(dir, 'missing.json');
    await expect(all(missing)).rejects.toThrow(`${missing}: no such file`);
    const folder = join(dir, 'folder.jsonl');
    mkdirSync(folder);
    await expect(all(folder)).rejects.toThrow(
      `${folder}: is a folder; give a .json, .jsonl, .jsonl.gz or .uvmrec file`,
    );
    await expect(all('x.yaml')).rejects.toThrow(
      'x.yaml: unknown kind of file; its name must end in .json, .jsonl, .jsonl.gz or .uvmrec',
    );
    await expect(all('x.json.gz')).rejects.toThrow('unknown kind of file');
  });
});

describe('checkRecording', () => {
  const FAULT = { event: 'cpuFault', access: 'read', offset: 0, time: 1 };
  const REPLAY = { event: 'replay', gpu: 'gpu0', batch: 1, time: 1, gpuTime: 1 };
  function entry(over: object): CaseLine {
    return { kind: 'case', line: 1, scenario: { name: 's' }, ...over };
  }
  function errorOf(over: object, faultsOnly = false): string {
    const result = checkRecording(entry(over), faultsOnly);
    return result.ok ? 'no error' : result.error;
  }

  it('reads real recordings', async () => {
    const entries = (await all({ name: 'x.jsonl', bytes: readFileSync(REAL) })) as CaseLine[];
    const recordings = entries.map((e) => {
      const result = checkRecording(e, false);
      if (!result.ok) throw new Error(result.error);
      return result.recording;
    });
    expect(recordings.map((r) => [r.fromStep, r.events.length, r.hasSteps])).toEqual([
      [0, 8, true],
      [0, 18, true],
      [2, 0, true],
    ]);
    expect(recordings.map((r) => r.wallMicroseconds)).toEqual([[152.2, 238.2, 57.2], expect.any(Array), 6141.531]);
  });

  it('tells events without steps, and a recording of a program', () => {
    const result = checkRecording(entry({ observed: { events: [FAULT, REPLAY] } }), false);
    expect(result).toMatchObject({ ok: true, recording: { fromStep: 0, hasSteps: false, wallMicroseconds: null } });
  });

  it('gives the same for a replay whether or not anything but the faults is there', () => {
    const full = entry({
      recordedFromStep: 1,
      observed: { wallMicroseconds: 'x', events: [REPLAY, FAULT, { event: 1 }] },
    });
    const bare = entry({ recordedFromStep: 1, observed: { events: [FAULT] } });
    expect(checkRecording(full, true)).toEqual(checkRecording(bare, true));
    expect(checkRecording(bare, true)).toMatchObject({ ok: true, recording: { events: [FAULT] } });
  });

  it('says what is wrong', () => {
    const none = 'observed: missing; expected an object with events (s has no recording)';
    expect(errorOf({})).toBe(none);
    expect(errorOf({ observed: null })).toBe(none.replace('missing', 'null'));
    expect(errorOf({ observed: {} })).toBe('observed.events: missing; expected a list of events');
    expect(errorOf({ observed: { events: [{}] } })).toContain(
      'observed.events[0].event: missing; expected one of cpuFault',
    );
    expect(errorOf({ observed: { events: [] }, recordedFromStep: -1 })).toBe(
      "recordedFromStep: -1; expected a step's index, from 0",
    );
    for (const wallMicroseconds of ['1', [1, '2'], {}]) {
      expect(errorOf({ observed: { events: [], wallMicroseconds } })).toBe(
        'observed.wallMicroseconds: expected a number, or a list of numbers and nulls',
      );
    }
    expect(errorOf({ observed: { events: [], wallMicroseconds: [null, 2.5] } })).toBe('no error');
  });
});
