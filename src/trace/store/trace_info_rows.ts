/** What a trace says about itself, as rows of INFO_TABLES (trace_views.ts). */
import type { TraceInfo } from './trace_info.ts';

export type Cell = string | number | null;

function wallOf({ wallMicroseconds }: TraceInfo, step: number): number | null {
  return Array.isArray(wallMicroseconds) ? (wallMicroseconds[step] ?? null) : null;
}

/** Every step of which anything is known. */
function stepRows(info: TraceInfo): Cell[][] {
  const { steps, scenario, wallMicroseconds } = info;
  const times = new Map((steps ?? []).map((one) => [one.step, one]));
  const said = Array.isArray(scenario?.['steps']) ? scenario['steps'] : [];
  const walls = Array.isArray(wallMicroseconds) ? wallMicroseconds.length : 0;
  const listed = Array.from({ length: Math.max(said.length, walls) }, (_, step) => step);
  const numbers = [...new Set([...listed, ...times.keys()])].sort((a, b) => a - b);
  const rows: Cell[][] = [];
  for (const step of numbers) {
    const at = times.get(step);
    const does = said[step] === undefined ? null : JSON.stringify(said[step]);
    rows.push([step, at?.begin ?? null, at?.end ?? null, wallOf(info, step), does]);
  }
  return rows;
}

/** The rows of each of INFO_TABLES by its name, cells in the order of its columns. */
export function infoRows(info: TraceInfo): Record<string, Cell[][]> {
  const { command } = info;
  const losses = (counts: Record<string, number>, how: string): Cell[][] =>
    Object.entries(counts).map(([what, events]) => [what, events, how]);
  return {
    allocations: info.allocations.map(({ name, bytes, kind, address }) => [name, bytes, kind, address]),
    steps: stepRows(info),
    parameters: Object.entries(info.parameters).map(([name, value]) => [name, String(value)]),
    processors: info.processors.map(({ word, name, uuid }) => [word, name ?? null, uuid ?? null]),
    losses: [...losses(info.dropped, 'lost'), ...losses(info.leftOut, 'left out')],
    gpu_fault_kernels: info.gpuFaultKernels.map((its) => [
      ...[its.allocation, its.gpu, its.kernel || null, its.launches, its.batches, its.microseconds],
    ]),
    cpu_fault_sites: info.cpuFaultSites.map((site) => [
      ...[site.allocation, site.function || null, site.module || null, site.file || null],
      ...[site.line === 0 ? null : site.line, site.faults],
    ]),
    notes: info.notes.map((note) => [note]),
    info: [
      [
        info.name,
        info.source,
        info.uvmlab,
        info.driver,
        info.machine,
        info.fromStep,
        info.clock,
        String(info.traced),
        command === null ? null : JSON.stringify(command),
        info.ended,
        JSON.stringify(info),
      ],
    ],
  };
}
