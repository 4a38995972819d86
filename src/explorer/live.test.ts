import { readFileSync } from 'node:fs';
import { MessageChannel } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { loadMachines, packageRoot } from '../analysis/machines.ts';
import { openTrace } from '../analysis/open_trace.ts';
import { decodeFrame, encodeFrame } from './framing.ts';
import { createLive, machinesOf } from './live.ts';
import { type Answer, answer, createClient, type Question, transferable } from './protocol.ts';

const profile = (name: string) => JSON.parse(readFileSync(`${packageRoot()}/profiles/${name}.json`, 'utf8')) as unknown;
const machines = machinesOf({ 'h200-pcie5': profile('h200-pcie5') });
const SCENARIO = {
  name: 'live',
  machine: 'h200-pcie5',
  allocations: [{ name: 'a', bytes: 2 ** 21 }],
  steps: [
    { on: 'cpu', do: 'write', buffer: 'a', pages: [0, 1, 2] },
    { on: 'gpu0', do: 'read', buffer: 'a', pages: [0, 1, 2] },
  ],
};

describe('machines from profiles', () => {
  it('are those that the package loads', () => {
    const loaded = loadMachines();
    expect(machines.known).toEqual({ 'h200-pcie5': loaded.known['h200-pcie5'] });
    expect(machines.profile('h200-pcie5')).toEqual(loaded.profile('h200-pcie5'));
  });
});

describe('a live run', () => {
  it('is a trace like that of the same scenario from a file', async () => {
    const live = createLive(machines, '0');
    const path = `${packageRoot()}/examples/two-sides.json`;
    const id = await live.start(readFileSync(path, 'utf8'));
    live.add('file', 'file', await openTrace(path));
    const { first, kinds } = await live.compare(id, 'file');
    expect(first).toBeNull();
    expect(kinds.length).toBeGreaterThan(4);
  });

  it('says what is wrong with a scenario, and lives on', async () => {
    const live = createLive(machines, '0');
    await expect(live.start('{')).rejects.toThrow('the scenario is not JSON: ');
    await expect(live.start('{}')).rejects.toThrow(/name/);
    await expect(live.start(JSON.stringify({ ...SCENARIO, machine: 'x' }))).rejects.toThrow(/x.*h200-pcie5/);
    expect(await live.traces()).toEqual([]);
    expect(await live.start(JSON.stringify(SCENARIO))).toBe('run-1');
    expect(await live.start(JSON.stringify(SCENARIO))).toBe('run-2');
    expect((await live.traces()).map(({ id, label, state }) => [id, label, state])).toEqual([
      ['run-1', 'live, run 1', 'ready'],
      ['run-2', 'live, run 2', 'ready'],
    ]);
  });
});

describe('messages', () => {
  const channels: MessageChannel[] = [];
  afterEach(() => {
    for (const { port1 } of channels.splice(0)) port1.close();
  });

  /** A client on one end of a channel, and a live backend on the other, as in a worker. */
  function connected() {
    const channel = new MessageChannel();
    channels.push(channel);
    const live = createLive(machines, '0') as unknown as Record<string, unknown>;
    channel.port2.on('message', async (question: Question) => {
      const say = (message: Answer, buffers: ArrayBuffer[] = []) => channel.port2.postMessage(message, buffers);
      const start = live['start'] as (text: unknown, on: (done: number, steps: number) => void) => Promise<string>;
      const wrapped = {
        ...live,
        start: (text: unknown) => start(text, (done, steps) => say({ id: question.id, progress: [done, steps] })),
      };
      const said = await answer(wrapped, question);
      say(said, 'ok' in said && said.ok ? transferable(said.value) : []);
    });
    const client = createClient({ postMessage: (message, buffers) => channel.port1.postMessage(message, buffers) });
    channel.port1.on('message', (message: Answer) => client.receive(message));
    return client;
  }

  it('carry questions, answers with typed arrays, progress and errors', async () => {
    const client = connected();
    const progress: [number, number][] = [];
    const id = await client.ask('start', [JSON.stringify(SCENARIO)], (done, steps) => progress.push([done, steps]));
    expect(id).toBe('run-1');
    expect(progress[0]).toEqual([0, 2]);
    const [entry] = await client.traces();
    if (entry.state !== 'ready') throw new Error(entry.state);
    const { begin, end, lanes } = entry.summary;
    const tiles = await Promise.all(lanes.map(({ id: lane }) => client.tile('run-1', lane, begin, end, 100)));
    for (const tile of tiles) expect(tile.first).toBeInstanceOf(Float64Array);
    expect(tiles.map(({ lane }) => lane)).toEqual(lanes.map((lane) => lane.id));
    // What was handed over is not the engine's own: the same question has the same answer again.
    expect(await client.tile('run-1', lanes[0].id, begin, end, 100)).toEqual(tiles[0]);
    const space = await client.space('run-1', end, 10);
    expect(await client.space('run-1', end, 10)).toEqual(space);
    expect(await client.block('run-1', 0, 0, end)).toEqual(await client.block('run-1', 0, 0, end));
    await expect(client.row('run-1', -1)).rejects.toThrow('row -1');
    await expect(client.row('run-7', 0)).rejects.toThrow('trace run-7: there is none of that name; valid: run-1');
    await expect(client.ask('toString', [])).rejects.toThrow('no question toString');
  });

  it('fail all at once when the other end is gone', async () => {
    const client = createClient({ postMessage: () => {} });
    const open = [client.traces(), client.row('t', 1)];
    client.fail('the worker ended');
    for (const one of [...open, client.traces()]) await expect(one).rejects.toThrow('the worker ended');
    client.receive({ id: 1, ok: true, value: 1 });
  });
});

describe('frames', () => {
  const joined = (pieces: readonly Uint8Array[]): ArrayBuffer => {
    const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
    let at = 0;
    for (const piece of pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes.buffer;
  };

  it('bring back values with typed arrays of all kinds and lengths, also parts of larger ones', () => {
    const large = Float64Array.from({ length: 10 }, (_, i) => i / 3);
    for (let n = 0; n < 10; n++) {
      const value = {
        text: 'ö'.repeat(n),
        part: large.subarray(n % 3, n),
        bytes: Uint8Array.from({ length: n }, (_, i) => i),
        words: [Uint16Array.of(1, 65535), Uint32Array.of(2 ** 32 - 1), Int32Array.of(-1)],
        none: null,
        deep: { list: [1, 'x', { a: new Uint8Array(0) }] },
      };
      expect(decodeFrame(joined(encodeFrame(value)))).toEqual(value);
    }
    expect(decodeFrame(joined(encodeFrame(null)))).toBeNull();
  });

  it('refuse bytes that are none, and arrays that they do not know', () => {
    expect(() => decodeFrame(new ArrayBuffer(3))).toThrow('an answer without a length');
    const whole = joined(encodeFrame({ a: Uint8Array.of(1) }));
    expect(() => decodeFrame(whole.slice(0, 8))).toThrow('shorter than it says');
    expect(() => decodeFrame(whole.slice(0, whole.byteLength - 8))).toThrow();
    expect(() => encodeFrame({ a: new Float32Array(1) })).toThrow('no frame has a Float32Array');
  });
});
