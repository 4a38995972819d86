import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { captureCli } from '../../test/support/captured_cli.ts';

const cli = captureCli();
const folder = mkdtempSync(join(tmpdir(), 'uvmlab-channels-'));
const file = join(folder, 'touch.json');
writeFileSync(
  file,
  JSON.stringify({
    name: 'touch',
    machine: 'h200-pcie5',
    allocations: [{ name: 'a', bytes: 4194304 }],
    steps: [
      { on: 'cpu', do: 'write', buffer: 'a', offset: 0, length: 4194304, stride: 4096 },
      { on: 'gpu0', do: 'write', buffer: 'a', pages: [0, 600] },
      { on: 'cpu', do: 'read', buffer: 'a', pages: [0] },
    ],
  }),
);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('channels', () => {
  it('shows the channels of a machine: two for each copy engine, and the types that prefer it', async () => {
    expect(await cli.run('channels')).toBe(0);
    expect(cli.out).toContain('10 channels of h200-pcie5');
    expect(cli.out).toMatch(/gpu0 +8 +4 +4 +MEMOPS +1,024/);
    expect(await cli.run('channels', '--machine', '2xh200-nvlink', '--json')).toBe(0);
    const rows = JSON.parse(cli.out.slice(cli.out.indexOf('[')));
    expect(rows).toHaveLength(16);
    expect(rows.find((row: { gpu: string; channel: number }) => row.gpu === 'gpu1' && row.channel === 0).types).toEqual(
      ['CPU_TO_GPU', 'MEMOPS'],
    );
  });

  it('shows what a run sent through them', async () => {
    expect(await cli.run('channels', file)).toBe(0);
    expect(cli.out).toMatch(/^touch on h200-pcie5: \d+ pushes/);
    expect(cli.out).toMatch(/CPU_TO_GPU +1,024 +2 +1 .* 2 +copy 2/);
    expect(cli.out).toMatch(/GPU_TO_CPU +1,024 +1 +1 .* 1 +copy 1/);
    expect(cli.out).toMatch(/map \d+, replay 2/);
  });

  it('refuses what does not go together', async () => {
    expect(await cli.run('channels', '--machine', 'nowhere')).toBe(2);
    expect(cli.err).toContain('--machine nowhere: valid: 2xh200-nvlink, h100-cc, h200-pcie5');
    expect(await cli.run('channels', file, '--machine', 'h200-pcie5')).toBe(2);
    expect(cli.err).toContain('a scenario names its own');
    expect(await cli.run('channels', '--scenario', 'x')).toBe(2);
  });
});

describe('run --pushes', () => {
  it('writes a line for each push, beside the events or the summary', async () => {
    const [pushes, events] = [join(folder, 'p.jsonl'), join(folder, 'e.jsonl')];
    expect(await cli.run('run', file, file, '--pushes', pushes, '--events', events)).toBe(0);
    const lines = readFileSync(pushes, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    const half = lines.length / 2;
    expect(lines.slice(half)).toEqual(lines.slice(0, half));
    expect(lines[0]).toMatchObject({ scenario: 'touch', step: 1, push: 0, gpu: 'gpu0', trackingSemaphoreValue: 1 });
    const copy = lines.find(({ purpose }) => purpose === 'copy');
    expect(copy).toMatchObject({ type: 'CPU_TO_GPU', pool: 0, engine: 0, gpfifo: 0, completed: copy.finished });
    // The same history without being watched gives the same bytes.
    const plain = join(folder, 'plain.jsonl');
    expect(await cli.run('run', file, file, '--events', plain)).toBe(0);
    expect(readFileSync(plain, 'utf8')).toBe(readFileSync(events, 'utf8'));
  });

  it('does not write over its input, and is of the model alone', async () => {
    expect(await cli.run('run', file, '--pushes', file)).toBe(2);
    expect(cli.err).toContain(`--pushes ${file}: is one of the files to read`);
    expect(await cli.run('run', file, '--device', 'linux', '--pushes', join(folder, 'x.jsonl'))).toBe(2);
    expect(cli.err).toContain('a real driver does not tell its pushes');
  });
});

describe('a launch with Confidential Computing', () => {
  const secure = join(folder, 'secure.json');
  const json = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(secure, JSON.stringify({ ...json, machine: 'h100-cc' }));

  it('is shown by explain: the push is carried by WLC, LCIC confirms, then it runs', async () => {
    expect(await cli.run('run', secure, '--events', join(folder, 's.jsonl'))).toBe(0);
    const { events } = JSON.parse(readFileSync(join(folder, 's.jsonl'), 'utf8'));
    const faults = events.filter(({ event }: { event: string }) => event === 'cpuFault' || event === 'gpuFault');
    const first = faults.findIndex(({ event }: { event: string }) => event === 'gpuFault') + 1;
    cli.out = '';
    expect(await cli.run('explain', secure, '--fault', String(first))).toBe(0);
    const replay = cli.out.slice(cli.out.indexOf('push_replay_on_gpu'));
    expect(replay).toMatch(
      /push to gpu0 WLC channel \d+ [\s\S]*push to gpu0 LCIC channel \d+ [\s\S]*MEMOPS channel \d+/,
    );
    // The confirmation has the value of the launch: the two are a pair.
    const [wlc, lcic] = [.../(?:WLC|LCIC) channel \d+ .* tracking value (\d+)/g[Symbol.matchAll](replay)].map(
      (m) => m[1],
    );
    expect(lcic).toBe(wlc);
  });

  it('has a push of each kind, with the sizes of the driver', async () => {
    const pushes = join(folder, 'sp.jsonl');
    expect(await cli.run('run', secure, '--pushes', pushes)).toBe(0);
    const lines = readFileSync(pushes, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    const of = (type: string) => lines.filter((line) => line.type === type);
    const others = lines.filter(({ type }) => type !== 'WLC' && type !== 'LCIC');
    expect(of('WLC')).toHaveLength(others.length);
    expect(of('LCIC')).toHaveLength(others.length);
    expect(of('WLC').every(({ bytes }) => bytes === 364)).toBe(true);
    expect(of('LCIC').every(({ bytes }) => bytes === 216)).toBe(true);
    expect(others.every(({ bytes }) => bytes >= 168)).toBe(true);
  });
});
