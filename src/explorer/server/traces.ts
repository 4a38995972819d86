/** Files as traces of an engine; a file that cannot be opened is an entry that says why. */
import { basename } from 'node:path';
import { findBranch, loadDriverMap } from '../../analysis/driver_map.ts';
import { loadMachines } from '../../analysis/machines.ts';
import { openTrace } from '../../analysis/open_trace.ts';
import { openLazyTrace } from '../../trace/store/lazy_trace.ts';
import { readTraceHead } from '../../trace/store/trace_reader.ts';
import { TRACE_SUFFIX } from '../../trace/store/trace_schema.ts';
import { createEngine, type Engine } from '../engine.ts';
import { timelineColumns } from '../trace_index.ts';

const MODELLED_BRANCH = '580';

/** A file to open; `scenario` names one of several lines. */
export interface TraceFile {
  path: string;
  scenario?: string;
}

/** By which questions name a trace, and what people see. */
export interface TraceName {
  id: string;
  label: string;
  file: TraceFile;
}

/** The C file of each function, by the names that the modelled branch has. The map is read for the first of them. */
export function driverFiles(): (driverFunction: string) => string | null {
  let branch: ReturnType<typeof findBranch> | undefined;
  return (name) => {
    branch ??= findBranch(loadDriverMap(), MODELLED_BRANCH);
    return branch?.byName.get(name)?.[0]?.file ?? null;
  };
}

/** Ids are short and stand in addresses of the page: t1, t2, ... in the order of the files. */
export function traceNames(files: readonly TraceFile[]): TraceName[] {
  return files.map((file, i) => ({
    id: `t${i + 1}`,
    label: file.scenario === undefined ? basename(file.path) : `${file.scenario} (${basename(file.path)})`,
    file,
  }));
}

const pause = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The file of a trace: columns are read when a question needs them, and other questions come in between. */
async function addTraceFile(engine: Engine, { id, label, file }: TraceName): Promise<void> {
  const { path, scenario } = file;
  const { info, pushes } = await readTraceHead(path);
  if (scenario !== undefined && scenario !== info.name) {
    throw new RangeError(`${path}: has no scenario ${scenario}; valid: ${info.name}`);
  }
  const kinds = openLazyTrace(path, ['kind']);
  const throttlings = kinds.trace.columns.words.kind.numbers.has('throttlingStart');
  kinds.load(timelineColumns(pushes, throttlings));
  let queue: Promise<void> = Promise.resolve();
  engine.add(id, label, kinds.trace, (keys) => {
    queue = queue
      .catch(() => {})
      .then(async () => {
        for (const key of keys) {
          kinds.load([key]);
          await pause();
        }
      });
    return queue;
  });
}

/** An engine with one file, as a trace or as a broken one. */
export async function openEngine(name: TraceName): Promise<Engine> {
  const { id, label, file } = name;
  const engine = createEngine({ machines: loadMachines(), fileOf: driverFiles(), pause });
  try {
    if (file.path.endsWith(TRACE_SUFFIX)) await addTraceFile(engine, name);
    else {
      const { path, scenario } = file;
      engine.add(id, label, await openTrace(path, scenario === undefined ? {} : { scenario }));
    }
  } catch (error) {
    engine.broken(id, label, error instanceof Error ? error.message : String(error));
  }
  return engine;
}
