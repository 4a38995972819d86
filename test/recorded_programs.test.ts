/** Recordings of third-party programs on real hardware: what the model makes of their faults is what the driver did. */
import { describe, expect, it } from 'vitest';
import { loadMachines, recordingPath } from '../src/analysis/machines.ts';
import { validateCase } from '../src/analysis/validate.ts';
import type { MigrationEvent, UvmEvent } from '../src/trace/event.ts';
import { createRecordingCase } from '../src/trace/recording_case.ts';

const machines = loadMachines();

function directions(events: readonly UvmEvent[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const event of events.filter((e): e is MigrationEvent => e.event === 'migration')) {
    const way = `${event.src} to ${event.dst}`;
    counts[way] = (counts[way] ?? 0) + 1;
  }
  return counts;
}

describe('CuPy with managed memory, recorded on an H100', () => {
  it.each([
    ['h100-cupy-sort', { 'gpu0 to cpu': 96 }],
    ['h100-cupy-matmul', { 'cpu to gpu0': 224, 'gpu0 to cpu': 89 }],
  ])('%s: every migration, in each direction', async (name, expected) => {
    const entry = await createRecordingCase(recordingPath(`${name}.uvmrec`), { machines: machines.known });
    const { events } = entry.observed as { events: UvmEvent[] };
    expect(directions(events)).toEqual(expected);
    const { result } = validateCase(entry, name, machines);
    const migrations = Object.values(expected).reduce((sum, n) => sum + n, 0);
    expect(result).toMatchObject({ verdict: 'exact', replayed: true, comparedMigrations: migrations });
    expect(result.counts.migration).toEqual({ recorded: migrations, produced: migrations });
  });
});
