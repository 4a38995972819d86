/**
 * Traces of ten million synthetic events: `npm run build && node bench/traces.mjs [ROWS] [--recording] [--perfetto]`.
 * Measures, never asserts. Each part runs in a process of its own, so that its peak of memory is its own; the files go
 * into a folder of the system's for temporary ones, some 310 MB for ten million rows, and with --recording 720 MB more
 * for a recording of as many events, with --perfetto 1.4 GB more for a trace for Perfetto.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { createPrng, prngBelow } from '../dist/base/prng.js';
import { encodeEventV2 } from '../dist/device/abi/events.js';
import { exportPerfetto } from '../dist/trace/export/perfetto.js';
import { createLineWriter } from '../dist/trace/jsonl.js';
import { createRecordingWriter } from '../dist/trace/recording_file.js';
import { createRecordingTrace } from '../dist/trace/recording_trace.js';
import { createTraceColumns, wordNumber } from '../dist/trace/store/trace_columns.js';
import { emptyTraceInfo } from '../dist/trace/store/trace_info.js';
import { readTrace } from '../dist/trace/store/trace_reader.js';
import { saveTrace } from '../dist/trace/store/trace_writer.js';

const MIB = 2 ** 20;
const SELF = fileURLToPath(import.meta.url);
const CLI = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
/** What a timeline and a map of blocks need. */
const EXPLORER = ['kind', 'time', 'timeEnd', 'buffer', 'offset', 'bytes', 'src', 'dst', 'cause', 'batch'];
const BUFFERS = 40;
const STEPS = 20;

/** Four of five events are GPU faults, one of ten a migration, the others replays and CPU faults. */
function synthetic(rows) {
  const p = createPrng(1);
  const columns = createTraceColumns({ capacity: rows });
  const { arrays: a, words } = columns;
  const word = (key, text) => wordNumber(words[key], text);
  const kinds = Object.fromEntries(['gpuFault', 'migration', 'replay', 'cpuFault'].map((k) => [k, word('kind', k)]));
  const cpu = word('src', 'cpu');
  const gpu = word('src', 'gpu0');
  const toGpu = word('dst', 'gpu0');
  const buffers = Array.from({ length: BUFFERS }, (_, i) => word('buffer', `buffer${i}`));
  const types = ['invalidPte', 'invalidPde', 'write'].map((text) => word('type', text));
  const accesses = ['read', 'write', 'prefetch'].map((text) => word('access', text));
  const causes = ['coherence', 'prefetch', 'eviction'].map((text) => word('cause', text));
  let time = 0;
  let batch = 0;
  for (let i = 0; i < rows; i++) {
    time += prngBelow(p, 2000);
    const form = prngBelow(p, 100);
    a.time[i] = time;
    a.step[i] = Math.floor((i * STEPS) / rows);
    if (form < 95 && form >= 90) {
      a.kind[i] = kinds.replay;
      a.src[i] = gpu;
      a.gpuTime[i] = time * 1.01;
      a.batch[i] = batch++;
      continue;
    }
    a.buffer[i] = buffers[prngBelow(p, BUFFERS)];
    a.offset[i] = prngBelow(p, 2 ** 20) * 4096;
    if (form < 80) {
      a.kind[i] = kinds.gpuFault;
      a.src[i] = gpu;
      a.gpuTime[i] = time * 1.01;
      a.type[i] = types[prngBelow(p, 3)];
      a.access[i] = accesses[prngBelow(p, 3)];
      a.batch[i] = batch;
      a.gpc[i] = prngBelow(p, 8);
      a.client[i] = prngBelow(p, 70);
    } else if (form < 90) {
      a.kind[i] = kinds.migration;
      a.src[i] = cpu;
      a.dst[i] = toGpu;
      a.timeEnd[i] = time + 500;
      a.gpuTime[i] = time * 1.01;
      a.gpuTimeEnd[i] = time * 1.01 + 400;
      a.cause[i] = causes[prngBelow(p, 3)];
      a.bytes[i] = 4096 * (1 + prngBelow(p, 512));
    } else {
      a.kind[i] = kinds.cpuFault;
      a.src[i] = cpu;
      a.access[i] = accesses[prngBelow(p, 2)];
    }
  }
  columns.count = rows;
  return { info: emptyTraceInfo('synthetic', 'lines', 'bench'), columns };
}

function writeRecording(path, rows) {
  const writer = createRecordingWriter(path, {
    format: 1,
    uvmlab: 'bench',
    driver: null,
    kernel: null,
    pid: 1,
    command: null,
    executable: null,
    processors: [
      { number: 0, word: 'cpu', uuid: 'CPU' },
      { number: 1, word: 'gpu0', uuid: 'GPU', name: 'NVIDIA H200' },
    ],
    events: ['gpuFault', 'migration'],
    ringEntries: 1,
    machine: 'h200-pcie5',
    parameters: {},
    attached: 'unknown',
    cpuClock: 'CLOCK_MONOTONIC_RAW',
  });
  const base = 0x7f0000000000;
  writer.appendMaps({ time: 0, ranges: [{ start: base.toString(16), end: (base + 2 ** 32).toString(16) }] });
  const block = Buffer.concat(
    Array.from({ length: 1000 }, (_, i) => {
      const place = { address: base + i * 65536, timeStamp: 1000 + i, timeStampGpu: 5000 + i };
      return i % 10 === 0
        ? encodeEventV2('migration', { srcIndex: 0, dstIndex: 1, address: place.address, migratedBytes: 65536 })
        : encodeEventV2('gpuFault', { faultType: 2, accessType: 2, gpuIndex: 1, batchId: i >> 6, ...place });
    }),
  );
  for (let left = rows; left > 0; left -= 1000) writer.appendEvents(block.subarray(0, Math.min(left, 1000) * 72));
  writer.end('time');
  writer.close();
}

const PARTS = {
  write: (folder, rows) => {
    const trace = synthetic(rows);
    const start = performance.now();
    saveTrace(join(folder, 'trace.parquet'), trace);
    return performance.now() - start;
  },
  'read all columns': async (folder) => {
    const start = performance.now();
    await readTrace(join(folder, 'trace.parquet'));
    return performance.now() - start;
  },
  "read the explorer's columns": async (folder) => {
    const start = performance.now();
    await readTrace(join(folder, 'trace.parquet'), { keys: EXPLORER });
    return performance.now() - start;
  },
  'make a recording': (folder, rows) => {
    const start = performance.now();
    writeRecording(join(folder, 'run.uvmrec'), rows);
    return performance.now() - start;
  },
  'export for Perfetto': async (folder) => {
    const trace = await readTrace(join(folder, 'trace.parquet'));
    const start = performance.now();
    const out = createLineWriter(join(folder, 'trace.perfetto-trace'));
    exportPerfetto(trace, out.writeBytes);
    out.commit();
    return performance.now() - start;
  },
  'open a recording': async (folder) => {
    const start = performance.now();
    await createRecordingTrace(join(folder, 'run.uvmrec'), { uvmlab: 'bench' });
    return performance.now() - start;
  },
};
const QUERIES = {
  'query: by kind': 'SELECT kind, src, count(*), sum(bytes), max(time) FROM events GROUP BY ALL',
  'query: by buffer and kind': 'SELECT buffer, kind, count(*), min("offset") FROM events GROUP BY ALL',
  'query: batches': 'SELECT count(*), avg(duration), max(faults) FROM batches',
};

/** Runs node and returns its seconds, its peak of memory and what it printed. */
function measured(args) {
  const report = "process.on('exit', () => process.stderr.write('\\nRSS ' + process.resourceUsage().maxRSS))";
  const start = performance.now();
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', `data:text/javascript,${report}`, ...args],
    {
      encoding: 'utf8',
    },
  );
  const seconds = (performance.now() - start) / 1000;
  if (status !== 0) throw new Error(`${args.join(' ')}\n${stderr}`);
  return { seconds, mib: Number(/RSS (\d+)/.exec(stderr)?.[1]) / 1024, stdout };
}

function say(what, seconds, mib, more = '') {
  console.log(
    `${what.padEnd(30)} ${seconds.toFixed(2).padStart(7)} s  ${mib.toFixed(0).padStart(6)} MiB at most  ${more}`,
  );
}

async function main() {
  const rows = Number(process.argv.slice(2).find((arg) => /^\d+$/.test(arg)) ?? 10_000_000);
  const folder = mkdtempSync(join(tmpdir(), 'uvmlab-bench-'));
  console.log(`${cpus()[0]?.model ?? 'a processor'}, ${cpus().length} threads, Node ${process.version}, ${rows} rows`);
  try {
    for (const part of Object.keys(PARTS)) {
      if (part.includes('recording') && !process.argv.includes('--recording')) continue;
      if (part.includes('Perfetto') && !process.argv.includes('--perfetto')) continue;
      const { mib, stdout } = measured([SELF, '--part', part, folder, String(rows)]);
      say(part, Number(stdout) / 1000, mib);
    }
    const size = statSync(join(folder, 'trace.parquet')).size;
    console.log(`the file of the trace: ${(size / MIB).toFixed(0)} MiB, ${(size / rows).toFixed(1)} bytes a row`);
    const perfetto = statSync(join(folder, 'trace.perfetto-trace'), { throwIfNoEntry: false });
    if (perfetto !== undefined) console.log(`the file for Perfetto: ${(perfetto.size / MIB).toFixed(0)} MiB`);
    for (const [what, sql] of Object.entries(QUERIES)) {
      const { seconds, mib, stdout } = measured([CLI, 'query', join(folder, 'trace.parquet'), sql, '--csv']);
      say(what, seconds, mib, `${stdout.trim().split('\n').length - 1} rows, with the start of the command`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const at = process.argv.indexOf('--part');
if (at < 0) await main();
else {
  const [part, folder, rows] = process.argv.slice(at + 1);
  process.stdout.write(String(await PARTS[part](folder, Number(rows))));
}
