/** Files as traces of one engine, opened one after another; a file that cannot be opened is an entry that says why. */
import { basename } from 'node:path';
import { findBranch, loadDriverMap } from '../../analysis/driver_map.ts';
import { loadMachines } from '../../analysis/machines.ts';
import { openTrace } from '../../analysis/open_trace.ts';
import { createEngine, type Engine } from '../engine.ts';

const MODELLED_BRANCH = '580';

/** A file to open; `scenario` names one of several lines. */
export interface TraceFile {
  path: string;
  scenario?: string;
}

/** The C file of each function, by the names that the modelled branch has. */
export function driverFiles(): (driverFunction: string) => string | null {
  const branch = findBranch(loadDriverMap(), MODELLED_BRANCH);
  return (name) => branch?.byName.get(name)?.[0]?.file ?? null;
}

/** Ids are short and stand in addresses of the page: t1, t2, ... in the order of the files. */
export function traceIds(files: readonly TraceFile[]): { id: string; label: string; file: TraceFile }[] {
  return files.map((file, i) => ({
    id: `t${i + 1}`,
    label: file.scenario === undefined ? basename(file.path) : `${file.scenario} (${basename(file.path)})`,
    file,
  }));
}

/** Opens the files in the background; `done` resolves when each is there or broken. */
export function openTraces(files: readonly TraceFile[]): { engine: Engine; done: Promise<void> } {
  const engine = createEngine({ machines: loadMachines(), fileOf: driverFiles() });
  const entries = traceIds(files);
  for (const { id, label } of entries) engine.opening(id, label);
  const open = async (): Promise<void> => {
    for (const { id, label, file } of entries) {
      try {
        engine.add(
          id,
          label,
          await openTrace(file.path, file.scenario === undefined ? {} : { scenario: file.scenario }),
        );
      } catch (error) {
        engine.broken(id, label, error instanceof Error ? error.message : String(error));
      }
    }
  };
  return { engine, done: open() };
}
