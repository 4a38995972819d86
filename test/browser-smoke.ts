/** Run by scripts/check-browser-bundle.mjs where nothing of Node exists: a tiny history, held to its known faults. */
import profileFile from '../profiles/h200-pcie5.json' with { type: 'json' };
import { createModelDevice, createModelDriver, decode, encode, IOCTL } from '../src/device/index.ts';
import { createLive, machinesOf } from '../src/explorer/live.ts';
import { advanceRun, createSession, parseProfile, parseScenario } from '../src/scenario/index.ts';
import { logEvents } from '../src/trace/log_events.ts';

const SCENARIO = {
  name: 'in a browser',
  machine: 'h200-pcie5',
  allocations: [{ name: 'a', bytes: 2097152 }],
  steps: [
    { on: 'cpu', do: 'write', buffer: 'a', pages: [0, 1, 2, 3] },
    { on: 'gpu0', do: 'read', buffer: 'a', pages: [0, 1, 2, 3] },
  ],
};

/** The explorer over a live run: a picture, the map and a walk. */
async function explore(): Promise<string> {
  const live = createLive(machinesOf({ 'h200-pcie5': profileFile }), '0');
  const id = await live.start(JSON.stringify(SCENARIO));
  const [entry] = await live.traces();
  if (entry?.state !== 'ready') throw new Error(`the live run is ${entry?.state}`);
  const { begin, end, lanes, faults } = entry.summary;
  for (const lane of lanes) await live.tile(id, lane.id, begin, end, 100);
  const space = await live.space(id, end, end - begin);
  if (space.known !== 'exact' || !(space.pages[2] >= 4)) throw new Error('the pages are not on the GPU');
  const { steps } = await live.walk(id, faults);
  if (!steps.some(({ title }) => title.startsWith('service_fault_batch'))) throw new Error('the walk has no service');
  return `${lanes.length} lanes, a walk of ${steps.length} steps`;
}

/** Resolves with a line to print; rejects when the run is not what it should be. */
export async function smoke(): Promise<string> {
  const profile = parseProfile(profileFile);
  const parsed = parseScenario(SCENARIO, { 'h200-pcie5': { gpus: profile.spec.gpus } });
  if (!parsed.ok) throw new Error(parsed.error);
  const session = createSession(parsed.scenario, profile, { contents: true });
  if (!session.ok) throw new Error(session.error);
  const { run } = session;
  if (!advanceRun(run)) throw new Error('the run has not ended');
  if (run.state.error !== null) throw new Error(run.state.error);
  if (run.state.mismatches > 0) throw new Error('a read did not see the last write');
  const events = logEvents(run.m, parsed.scenario.allocations);
  const faults = events.filter((e) => e.event === 'gpuFault').length;
  const moved = events.reduce((sum, e) => sum + (e.event === 'migration' ? e.bytes : 0), 0);
  if (faults !== 1 || moved < 16384) throw new Error(`${faults} GPU faults moved ${moved} bytes`);
  if (createModelDevice(createModelDriver(run.m)).pid <= 0) throw new Error('the device has no process');
  const { params } = IOCTL.VALIDATE_VA_RANGE;
  if (decode(params, encode(params, { base: 1n << 56n })).base !== 1n << 56n) throw new Error('an address was lost');
  return `${events.length} events, ${run.m.k.now} ns of virtual time; explorer: ${await explore()}`;
}
