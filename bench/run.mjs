/**
 * Speed of the model: `npm run bench` (all of it), `node bench/run.mjs --tiny` (a few milliseconds of each part, so that
 * the tests can see that it still runs). Measures, never asserts.
 *
 * Prints, for the processor and the Node version at hand: model time over recorded wall time for each suite of
 * recordings, fault entries a second in replay, bytes of model state for each 2 MiB block, and the cost of touching one
 * page of each block of 1 TiB. Each line ends with a hash of what was computed.
 */
import { readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { hashState } from '../dist/model/model.js';
import { parseProfile } from '../dist/scenario/profile.js';
import { replayRun } from '../dist/scenario/replay.js';
import { advanceRun } from '../dist/scenario/runner.js';
import { accessCount, parseScenario } from '../dist/scenario/scenario.js';
import { createSession } from '../dist/scenario/session.js';
import { checkRecording } from '../dist/trace/case_check.js';
import { readCases } from '../dist/trace/case_file.js';
import { faultStream } from '../dist/trace/recorded_faults.js';

const tiny = process.argv.includes('--tiny');
const root = new URL('../', import.meta.url);
const profiles = {};
for (const name of ['h200-pcie5', '2xh200-nvlink']) {
  profiles[name] = parseProfile(JSON.parse(readFileSync(new URL(`profiles/${name}.json`, root), 'utf8')));
}
const machines = Object.fromEntries(Object.entries(profiles).map(([name, p]) => [name, { gpus: p.spec.gpus }]));

function scenarioOf(json) {
  const result = parseScenario(json, machines);
  if (!result.ok) throw new Error(result.error);
  return result.scenario;
}

function session(scenario) {
  const result = createSession(scenario, profiles[scenario.machine]);
  if (!result.ok) throw new Error(result.error);
  return result.run;
}

/** The cases of a suite, with the fault stream where the suite is replayed. */
async function loadSuite(name, replayed) {
  const cases = [];
  for await (const entry of readCases(fileURLToPath(new URL(`recordings/${name}.jsonl.gz`, root)))) {
    if (entry.kind === 'error') throw new Error(entry.error);
    const scenario = scenarioOf(entry.scenario);
    const recording = checkRecording(entry, true);
    if (!recording.ok) throw new Error(recording.error);
    const wall = entry.observed.wallMicroseconds;
    const stream = replayed ? faultStream(recording.recording.events, scenario.allocations) : null;
    if (stream !== null && !stream.ok) throw new Error(stream.error);
    cases.push({
      scenario,
      from: recording.recording.fromStep,
      stream: stream?.stream ?? null,
      wall: Array.isArray(wall) ? wall.reduce((sum, w) => sum + (w ?? 0), 0) : wall,
    });
    if (tiny && cases.length === 2) break;
  }
  return cases;
}

function advanceTo(run, step) {
  while (run.state.step < step) {
    const next = run.scenario.steps[run.state.step];
    advanceRun(run, 'stride' in next ? accessCount(next) : 1);
  }
}

/** Runs the recorded part of one case and returns its milliseconds. */
function timeCase(one) {
  const run = session(one.scenario);
  advanceTo(run, one.from);
  const start = performance.now();
  if (one.stream === null) advanceRun(run);
  else replayRun(run, one.stream, one.from);
  const ms = performance.now() - start;
  if (run.state.error !== null) throw new Error(`${one.scenario.name}: ${run.state.error}`);
  return { ms, run };
}

function print(name, text, hash) {
  console.log(`${name.padEnd(22)}${text.padEnd(64)}${hash}`);
}

async function suites() {
  console.log('\nModel time over recorded wall time (recorded steps only, best of the repetitions after warm-up)');
  const repetitions = tiny ? 1 : 30;
  for (const [name, replayed, aim] of [
    ['serial', false, 20],
    ['cpu', false, 20],
    ['scripts1', false, 20],
    ['scripts2', false, 20],
    ['parallel', true, 10],
    ['repeats', true, 10],
  ]) {
    const cases = await loadSuite(name, replayed);
    const best = new Array(cases.length).fill(Number.POSITIVE_INFINITY);
    let hash = '';
    for (let r = 0; r < repetitions; r++) {
      const walls = [];
      for (const [i, one] of cases.entries()) {
        const { ms, run } = timeCase(one);
        best[i] = Math.min(best[i], ms);
        walls.push(run.state.wall, run.m.tools.log.count);
      }
      hash = hashState(walls);
    }
    const model = best.reduce((a, b) => a + b, 0);
    const wall = cases.reduce((sum, one) => sum + one.wall, 0) / 1000;
    const ratio = `${wall.toFixed(1)} ms recorded, ${model.toFixed(2)} ms model: 1/${(wall / model).toFixed(1)}`;
    print(name, `${ratio} (aim 1/${aim})`, hash);
  }
}

async function entries() {
  console.log('\nFault entries a second in replay');
  const cases = await loadSuite('parallel', true);
  const wanted = tiny ? 1 : 4_000_000;
  let faults = 0;
  let ms = 0;
  let run;
  while (faults < wanted) {
    for (const one of cases) {
      const timed = timeCase(one);
      ms += timed.ms;
      run = timed.run;
      faults += one.stream.count;
    }
  }
  const rate = (faults / ms / 1000).toFixed(2);
  print(
    'replay',
    `${faults} entries in ${(ms / 1000).toFixed(2)} s: ${rate} million a second (aim 2)`,
    hashState(run.state.wall),
  );
}

function touchEachBlock(bytes, gpu) {
  const length = bytes;
  const steps = [{ on: 'cpu', do: 'write', buffer: 'a', offset: 0, length, stride: 2097152 }];
  if (gpu) steps.push({ on: 'gpu0', do: 'read', buffer: 'a', offset: 0, length, stride: 2097152 });
  return scenarioOf({ name: 'blocks', machine: 'h200-pcie5', allocations: [{ name: 'a', bytes }], steps });
}

/** Memory of the process that its garbage collector cannot take back. */
async function memory() {
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const m = process.memoryUsage();
  return m.heapUsed + m.external;
}

async function perBlock() {
  console.log('\nModel state for each 2 MiB block');
  const blocks = tiny ? 64 : 16384;
  advanceRun(session(touchEachBlock(2 ** 27, true)));
  for (const [name, gpu] of [
    ['CPU only', false],
    ['CPU and one GPU', true],
  ]) {
    const run = session(touchEachBlock(blocks * 2097152, gpu));
    // The event log is what happened, not state of the block.
    const before = await memory();
    advanceRun(run);
    const log = run.m.tools.log;
    let logBytes = 0;
    for (const column of Object.values(log)) if (ArrayBuffer.isView(column)) logBytes += column.byteLength;
    const bytes = ((await memory()) - before - logBytes) / blocks;
    print(name, `${Math.round(bytes)} bytes (aim 1536)`, hashState(run.state.wall));
  }
}

function oneTebibyte() {
  console.log('\nOne page of each block touched by the CPU');
  for (const gib of tiny ? [1] : [64, 256, 1024]) {
    const run = session(touchEachBlock(gib * 2 ** 30, false));
    const start = performance.now();
    advanceRun(run);
    const ms = performance.now() - start;
    const blocks = gib * 512;
    const rss = Math.round(process.resourceUsage().maxRSS / 1024);
    const text = `${blocks} blocks in ${ms.toFixed(0)} ms, ${((ms * 1000) / blocks).toFixed(2)} µs each`;
    print(`${gib} GiB`, `${text}; peak RSS so far ${rss} MiB`, hashState(run.state.wall));
  }
}

console.log(
  `${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB; Node ${process.version}`,
);
// First, so that the peak memory is its own.
oneTebibyte();
await perBlock();
await suites();
await entries();
