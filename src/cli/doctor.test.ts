import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { captureCli } from '../../test/support/captured_cli.ts';
import { fakeMachine, NO_DRIVER } from '../../test/support/fake_machine.ts';
import type { Finding } from '../live/doctor/finding.ts';
import { findingsText, runDoctor } from './run_doctor.ts';
import { PLAIN } from './text.ts';

const cli = captureCli();

describe('doctor', () => {
  it('prints a desktop without colours and exits with 0', async () => {
    expect(await runDoctor({}, fakeMachine())).toBe(0);
    expect(cli.out).toContain(
      'driver             ok       driver 580.105.08: its branch was checked on hardware (580.159.04)\n',
    );
    expect(cli.out).toContain('rule: kernel.yama.ptrace_scope is 1: ');
    expect(cli.out.endsWith('Everything that recording needs is there: uvmlab record -- COMMAND\n')).toBe(true);
    expect(cli.out).not.toContain('\u001b');
  });

  it('exits with 1 where something is missing, and says what', async () => {
    const machine = fakeMachine({ nodes: { '/dev/nvidia-uvm-tools': null } });
    expect(await runDoctor({ pid: '12' }, machine)).toBe(1);
    const last = cli.out.trimEnd().split('\n').at(-1);
    expect(last).toBe('For recording (uvmlab record --pid 12), 2 things are missing or unknown: device node, process');
  });

  it('prints JSON with the facts', async () => {
    expect(await runDoctor({ json: true }, fakeMachine())).toBe(0);
    const { recording, findings, facts } = JSON.parse(cli.out);
    expect(recording).toBe(true);
    expect(findings[0]).toEqual({ topic: 'platform', state: 'ok', what: expect.stringContaining('Linux') });
    expect(facts.major).toEqual({ value: 510 });
  });

  it('refuses numbers that no process has', async () => {
    for (const pid of ['0', 'x', '2147483648']) {
      expect(await cli.run('doctor', '--pid', pid)).toBe(2);
      expect(cli.err).toContain(`--pid ${pid}: expected a number from 1 to 2147483647`);
    }
  });

  it('breaks lines at the width, and says once what is to be done for several findings', () => {
    const finding: Finding = {
      topic: 'device node',
      state: 'missing',
      what: 'word '.repeat(30).trim(),
      todo: 'load it',
    };
    const text = findingsText([finding, finding], 80, PLAIN);
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
    expect(text.match(/do: load it/g)).toHaveLength(1);
    expect(text.match(/device node/g)).toHaveLength(1);
  });
});

it('prints what README.md shows of a machine without a driver', async () => {
  const nodes = { '/dev/nvidia-uvm': null, '/dev/nvidia-uvm-tools': null };
  expect(await runDoctor({}, fakeMachine({ files: NO_DRIVER, nodes, from: { nodeVersion: '20.20.2' } }))).toBe(1);
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  const shown = /^ {4}\$ npx uvmlab doctor\n((?: {4}.*\n|\n)+)/m.exec(readme)![1].replace(/^ {4}/gm, '').trimEnd();
  for (const part of shown.split('\n…\n')) expect(cli.out).toContain(part);
});
