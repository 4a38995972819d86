/**
 * The explorer's engine over a trace of ten million synthetic events: `npm run build && node bench/explorer.mjs [ROWS]`
 * (`--keep FILE` leaves the trace there). Measures, never asserts. The file goes into a folder of the system's for
 * temporary ones, some 400 MB for ten million rows; each part runs in a process of its own, so that its peak of memory
 * is its own.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { createPrng, prngBelow } from '../dist/base/prng.js';
import { createHttpBackend } from '../dist/explorer/http_client.js';
import { serveTraces } from '../dist/explorer/server/backend.js';
import { startServer } from '../dist/explorer/server/http_server.js';
import { saveTrace } from '../dist/trace/store/trace_writer.js';
import { syntheticTrace } from './synthetic_trace.mjs';

const MIB = 2 ** 20;
const SELF = fileURLToPath(import.meta.url);
const WIDTH = 1280;
const ZOOMS = [1, 0.3, 0.1, 0.01, 0.001, 0.00001];
const TIMES = 20;

function say(what, ms, more = '') {
  console.log(`${what.padEnd(44)} ${ms.toFixed(1).padStart(8)} ms  ${more}`);
}

/** Asks one after another; prints the mean and the worst. */
async function many(what, ask) {
  const took = [];
  for (let i = 0; i < TIMES; i++) {
    const start = performance.now();
    await ask(i);
    took.push(performance.now() - start);
  }
  const mean = took.reduce((sum, one) => sum + one, 0) / TIMES;
  say(what, mean, `worst ${Math.max(...took).toFixed(1)} ms`);
}

async function untilOpen(backend) {
  for (;;) {
    const [entry] = await backend.traces();
    if (entry.state === 'ready') return entry;
    if (entry.state === 'broken') throw new Error(entry.error);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** All that a page asks for, over HTTP or from the engine itself. */
async function questions(backend, start) {
  const { id, summary } = await untilOpen(backend);
  say('from the start to the list of lanes', performance.now() - start);
  const { begin, end, lanes, allocations } = summary;
  const whole = (at, share) => {
    const span = (end - begin) * share;
    const from = begin + ((end - begin - span) * at) / TIMES;
    return Promise.all(lanes.map((lane) => backend.tile(id, lane.id, from, from + span, WIDTH)));
  };
  await whole(0, 1);
  say('from the start to the first picture', performance.now() - start, `${lanes.length} lanes`);
  for (const share of ZOOMS) await many(`all lanes, ${share * 100} % of the time`, (i) => whole(i, share));
  const p = createPrng(2);
  const time = () => begin + ((end - begin) * prngBelow(p, 1_000_000)) / 1_000_000;
  const timed = async (what, ask) => {
    const from = performance.now();
    await ask();
    say(what, performance.now() - from);
  };
  await timed('the first map of the address space', () => backend.space(id, time(), (end - begin) / 100));
  for (const share of ZOOMS) {
    await many(`map, a window of ${share * 100} %`, () => backend.space(id, time(), (end - begin) * share));
  }
  await timed('the first block', () => backend.block(id, 0, 7, end));
  await many('a block', () => backend.block(id, 0, prngBelow(p, allocations[0].blocks), time()));
  await timed('the first row', () => backend.row(id, 12345 % summary.rows));
  await many('a row', () => backend.row(id, prngBelow(p, summary.rows)));
  const find = (kind, more) => (i) =>
    backend.find(id, { kinds: [kind], from: i === 0 ? -1 : prngBelow(p, summary.rows), direction: 1, ...more });
  await many('find the next GPU fault', find('gpuFault', {}));
  await many('find the next eviction', find('eviction', {}));
  await many('find the next fault in a block', find('gpuFault', { allocation: 3, block: 5 }));
  await timed('compare with itself', () => backend.compare(id, id));
}

const PARTS = {
  engine: async (file) => {
    const start = performance.now();
    const { backend } = serveTraces([{ path: file }], false);
    await questions(backend, start);
  },
  server: async (file) => {
    const start = performance.now();
    const traces = serveTraces([{ path: file }]);
    const server = await startServer({ backend: traces.backend, page: new Map(), port: 0 });
    const backend = createHttpBackend(fetch, server.address.slice(0, -1));
    await questions(backend, start);
    await server.close();
    await traces.close();
  },
};

function main() {
  const rows = Number(process.argv.slice(2).find((arg) => /^\d+$/.test(arg)) ?? 10_000_000);
  const folder = mkdtempSync(join(tmpdir(), 'uvmlab-bench-'));
  const file = join(folder, 'trace.parquet');
  console.log(`${cpus()[0]?.model ?? 'a processor'}, ${cpus().length} threads, Node ${process.version}, ${rows} rows`);
  try {
    saveTrace(file, syntheticTrace(rows));
    console.log(`the file: ${(statSync(file).size / MIB).toFixed(0)} MiB`);
    const keep = process.argv.indexOf('--keep');
    if (keep > 0) copyFileSync(file, process.argv[keep + 1]);
    for (const part of Object.keys(PARTS)) {
      console.log(`\n${part}`);
      const { status } = spawnSync(process.execPath, [SELF, '--part', part, file], { stdio: 'inherit' });
      if (status !== 0) throw new Error(`part ${part} failed`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const at = process.argv.indexOf('--part');
if (at < 0) main();
else {
  const [part, file] = process.argv.slice(at + 1);
  await PARTS[part](file);
  console.log(`memory at most ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`);
}
