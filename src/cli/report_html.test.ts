import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { captureCli } from '../../test/support/captured_cli.ts';
import { openTags, readMarkup } from '../../test/support/markup.ts';
import { randomTrace } from '../../test/support/random_trace.ts';
import { loadMachines, recordingPath } from '../analysis/machines.ts';
import { openTrace } from '../analysis/open_trace.ts';
import { fullReport } from '../analysis/report/full_report.ts';
import type { Trace } from '../trace/store/trace_events.ts';
import { reportHtml } from './report_html.ts';
import { reportText, type ShownReport } from './report_text.ts';
import { PLAIN } from './text.ts';

const SORT = recordingPath('h100-cupy-sort.uvmrec');
const HOSTILE = `"><script>alert(1)</script><img src=x onerror='x'>&amp;\u202e\u0007`;
const machines = loadMachines();
const cli = captureCli();

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'uvmlab-html-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

async function shown(trace: Trace, file = 'x'): Promise<ShownReport> {
  const full = await fullReport(trace, { machines, prediction: false });
  return { file, full, info: trace.info, recording: null };
}

/** A small trace with each text that a file brings replaced by a hostile one. */
async function hostileTrace(): Promise<Trace> {
  const trace = await openTrace(recordingPath('cpu.jsonl.gz'), { scenario: 'cpu-read-back-64k' });
  const { info, columns } = trace;
  for (const key of ['buffer', 'src', 'cause', 'access', 'kind'] as const) {
    const { list } = columns.words[key];
    const gpu = list.indexOf('gpu0');
    if (key === 'buffer') list[0] = HOSTILE;
    else if (gpu > 0) list[gpu] = HOSTILE;
    else if (key === 'cause' || key === 'access') list[1] = HOSTILE;
  }
  return {
    columns,
    info: {
      ...info,
      scenario: null,
      name: HOSTILE,
      driver: HOSTILE,
      machine: HOSTILE,
      ended: HOSTILE,
      command: [HOSTILE],
      notes: [HOSTILE],
      processors: [{ word: 'gpu0', name: HOSTILE }],
      allocations: [{ name: HOSTILE, bytes: 4096, kind: 'managed', address: null }],
      dropped: { [HOSTILE]: 3 },
      leftOut: { [HOSTILE]: 4 },
    },
  };
}

describe('the page of a report', () => {
  it('is well-formed, has headings in order, and names what people must be told', async () => {
    for (const file of [SORT, recordingPath('h100-cupy-matmul.uvmrec')]) {
      const page = reportHtml(await shown(await openTrace(file), file));
      const nodes = readMarkup(page);
      const levels = nodes.filter(({ name }) => /^h\d$/.test(name)).map(({ name }) => Number(name[1]));
      expect(levels[0]).toBe(1);
      expect(levels.filter((level) => level === 1)).toHaveLength(1);
      for (const [i, level] of levels.entries()) if (i > 0) expect(level - levels[i - 1]).toBeLessThanOrEqual(1);
      const ids = nodes.flatMap(({ attributes }) => (attributes['id'] === undefined ? [] : [attributes['id']]));
      expect(new Set(ids).size).toBe(ids.length);
      for (const { attributes } of nodes) {
        for (const id of attributes['aria-labelledby']?.split(' ') ?? []) expect(ids).toContain(id);
      }
      const pictures = nodes.filter(({ name }) => name === 'svg');
      expect(pictures.length).toBeGreaterThanOrEqual(3);
      for (const { attributes } of pictures) expect(attributes).toMatchObject({ role: 'img' });
      const tables = nodes.filter(({ name }) => name === 'table').length;
      expect(nodes.filter(({ name }) => name === 'caption')).toHaveLength(tables);
    }
  });

  it('asks for nothing, and runs nothing', async () => {
    const page = reportHtml(await shown(await openTrace(SORT), SORT));
    expect(page).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`);
    const names = openTags(page);
    for (const name of ['script', 'link', 'img', 'iframe', 'object', 'a', 'form']) expect(names).not.toContain(name);
    expect(page).not.toMatch(/https?:|url\(|@import|\bon\w+=|javascript:/);
  });

  it('shows what a file says as text, whatever it says', async () => {
    const page = reportHtml(await shown(await hostileTrace(), `/tmp/${HOSTILE}`));
    readMarkup(page);
    const names = openTags(page);
    expect(names).not.toContain('script');
    expect(names).not.toContain('img');
    expect(page).toContain('&lt;script&gt;alert(1)');
    // What a terminal would obey, and what turns writing round, is spelt out.
    for (const letter of ['\u0007', '\u202e']) expect(page).not.toContain(letter);
    expect(page).toContain('\\u202e\\x07');
  });

  it('has the figures that the terminal has', async () => {
    expect(await cli.run('report', SORT, '--no-prediction')).toBe(0);
    const page = reportHtml(await shown(await openTrace(SORT), SORT)).replaceAll('\u00a0', ' ');
    for (const figure of ['4.88 ms', '8.48 ms', '7.19 ms', '15.8 MiB', '5,142 faults', '2,514']) {
      expect(cli.out).toContain(figure);
      expect(page).toContain(figure);
    }
  });

  it('is of an empty trace', async () => {
    const trace = await openTrace(SORT);
    trace.columns.count = 0;
    const page = reportHtml(await shown(trace));
    readMarkup(page);
    expect(page).toContain('nothing: the trace has no events');
    expect(page).not.toContain('NaN');
  });
});

it('nothing that a trace can hold breaks a report', async () => {
  for (let seed = 1; seed <= 60; seed++) {
    const { trace } = randomTrace(seed, 60, { pushes: seed % 3 === 0 });
    const data = await shown(trace);
    readMarkup(reportHtml(data));
    const text = reportText(data, PLAIN);
    for (const bad of ['NaN', 'Infinity', 'undefined'])
      expect({ seed, text }).not.toMatchObject({ text: expect.stringContaining(bad) });
  }
});

describe('--html', () => {
  it('writes the page, and prints nothing', async () => {
    const path = join(dir, 'out.html');
    expect(await cli.run('report', SORT, '--html', path, '--no-prediction')).toBe(0);
    expect(cli.out).toBe('');
    expect(readFileSync(path, 'utf8')).toMatch(/^<!DOCTYPE html>\n.*<\/html>\n$/s);
    expect(readdirSync(dir)).toEqual(['out.html']);
  });

  it('refuses a folder, a folder that there is not, and the trace itself', async () => {
    mkdirSync(join(dir, 'f'));
    expect(await cli.run('report', SORT, '--html', join(dir, 'f'))).toBe(2);
    expect(cli.err).toBe(`error: ${join(dir, 'f')}: cannot be written: it is a folder\n`);
    cli.err = '';
    expect(await cli.run('report', SORT, '--html', join(dir, 'no', 'x.html'))).toBe(2);
    expect(cli.err).toBe(
      `error: ${join(dir, 'no', 'x.html')}: cannot be written: there is no folder ${join(dir, 'no')}\n`,
    );
    cli.err = '';
    const own = join(dir, 'own.uvmrec');
    writeFileSync(own, readFileSync(SORT));
    expect(await cli.run('report', own, '--html', own)).toBe(2);
    expect(cli.err).toMatch(/--html .*own\.uvmrec: is one of the files to read/);
  });

  it('leaves an earlier page alone where the trace cannot be read', async () => {
    const [path, bad] = [join(dir, 'out.html'), join(dir, 'bad.uvmrec')];
    writeFileSync(path, 'before');
    writeFileSync(bad, 'no recording');
    expect(await cli.run('report', bad, '--html', path)).toBe(2);
    expect(readFileSync(path, 'utf8')).toBe('before');
    expect(readdirSync(dir).sort()).toEqual(['bad.uvmrec', 'out.html']);
    expect(existsSync(path)).toBe(true);
  });
});
