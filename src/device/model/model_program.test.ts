import { beforeEach, describe, expect, it } from 'vitest';
import { createProfileModel } from '../../../test/support/profile_model.ts';
import { EVENT_TYPE, RECORDED_EVENTS } from '../abi/events.ts';
import { NV_OK } from '../abi/status.ts';
import { drainEvents, type EventSource, enableEvents, flushEvents, openEventSource } from '../event_source.ts';
import { readProcessMemory } from '../process_memory.ts';
import { AccessError, type Program } from '../program.ts';
import { createModelDriver } from './model_device.ts';
import { createModelProgram } from './model_program.ts';

const PAGE = 4096;

let program: Program;
let source: EventSource;

async function counts(): Promise<Record<string, number>> {
  await flushEvents(source);
  const seen: Record<string, number> = {};
  drainEvents(source, (entries) => {
    for (let at = 0; at < entries.length; at += 72) {
      const name = Object.entries(EVENT_TYPE).find(([, type]) => type === entries[at])?.[0] ?? '';
      seen[name] = (seen[name] ?? 0) + 1;
    }
  });
  return seen;
}

beforeEach(async () => {
  program = await createModelProgram(createModelDriver(createProfileModel()));
  source = await openEventSource(program.device, program.uvm, { entries: 1024 });
  await enableEvents(source, RECORDED_EVENTS);
});

describe('a program over the model', () => {
  it('names its GPUs, and places managed memory on 2 MiB boundaries', async () => {
    expect(program.gpus.map(({ number, word }) => [number, word])).toEqual([[1, 'gpu0']]);
    const [a, b] = [await program.allocateManaged(5), await program.allocateManaged(2 ** 22)];
    expect([a % 2097152n, b % 2097152n]).toEqual([0n, 0n]);
    expect(a).not.toBe(b);
  });

  it('touches pages in order, sees what was stored, and moves them', async () => {
    const address = await program.allocateManaged(2 ** 21);
    expect(await program.access({ on: 'cpu', do: 'write', address, pages: [0, 7], value: 5 })).toBe(10);
    expect(await counts()).toMatchObject({ cpuFault: 1 });
    expect(await program.access({ on: 'gpu0', do: 'atomic', address, pages: [7, 0, 7] })).toBe(5 + 5 + 6);
    const moved = await counts();
    expect(moved).toMatchObject({ gpuFault: 1, replay: 1 });
    expect(moved.migration).toBeGreaterThan(0);
    expect(await program.access({ on: 'gpu0', do: 'read', address, pages: [0, 7] })).toBe(6 + 7);
    expect(await counts()).toEqual({});
    expect(await program.access({ on: 'cpu', do: 'read', address, pages: [0, 7] })).toBe(6 + 7);
    expect(await counts()).toMatchObject({ cpuFault: 1 });
  });

  it('ends an access to no managed memory with AccessError, on either side', async () => {
    const address = (await program.allocateManaged(PAGE)) + 2n ** 30n;
    await expect(program.access({ on: 'cpu', do: 'read', address, pages: [0] })).rejects.toThrow(AccessError);
    await expect(program.access({ on: 'gpu0', do: 'write', address, pages: [0] })).rejects.toThrow(AccessError);
    expect(await counts()).toMatchObject({ fatalFault: 2 });
  });

  it('refuses processors and places that there are not', async () => {
    const address = await program.allocateManaged(PAGE);
    const request = { do: 'read', pages: [0] } as const;
    await expect(program.access({ ...request, on: 'gpu1', address })).rejects.toThrow(
      'processor "gpu1"; valid: cpu, gpu0',
    );
    await expect(program.access({ ...request, on: 'cpu', address: address + 8n })).rejects.toThrow('multiple of 4096');
    await expect(program.access({ on: 'cpu', do: 'read', address, pages: [-1] })).rejects.toThrow('page -1');
    await expect(program.freeManaged(address + 4096n)).rejects.toThrow('no managed memory of this program');
  });

  it('is read by ioctl 62 without moving anything', async () => {
    const address = await program.allocateManaged(2 ** 21);
    await program.access({ on: 'gpu0', do: 'write', address, pages: [3], value: 0xabcd });
    await counts();
    const memory = await program.device.allocate(PAGE);
    const read = await readProcessMemory(program.device, program.uvm, address + 3n * 4096n, memory, 0, PAGE);
    expect(read).toEqual({ bytes: PAGE, status: NV_OK, errno: 0 });
    expect([...memory.bytes().subarray(0, 5)]).toEqual([0xcd, 0xab, 0, 0, 0]);
    await program.access({ on: 'gpu0', do: 'read', address, pages: [3] });
    expect(await counts()).toEqual({});
  });
});
