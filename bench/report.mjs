/**
 * How long `uvmlab report` takes for a long trace, and how much memory: after `npm run build`,
 *
 *     node bench/report.mjs [ROWS] [parquet | uvmrec]
 *
 * The trace is made up: two GPUs fault their way through four allocations of 8 GiB in batches, blocks move there and back.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const rows = Number(process.argv[2] ?? 10_000_000);
const form = process.argv[3] ?? 'parquet';
/** Where to put the trace, in a process that only makes it: its gigabytes are not held while the report is timed. */
const makeTo = process.argv[4];
const dist = new URL('../dist/', import.meta.url);
const load = (path) => import(new URL(path, dist).href);
const { addRow, createTraceColumns, wordNumber } = await load('trace/store/trace_columns.js');
const { emptyTraceInfo } = await load('trace/store/trace_info.js');
const { saveTrace } = await load('trace/store/trace_writer.js');
const { createRecordingWriter } = await load('trace/recording_file.js');
const { encodeEventV2 } = await load('device/abi/events.js');

const NAMES = ['7f0000000000', '7f1000000000', '7f2000000000', '7f3000000000'];
const BYTES = 8 * 2 ** 30;
const PAGES = BYTES / 4096;

/** Calls `add` for each row: its kind and numbers. The sequence is the same in each run. */
function generate(add) {
  let seed = 1;
  const random = (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  let time = 0;
  for (let n = 0, batch = 1; n < rows; batch++) {
    const gpu = random(2);
    const buffer = random(NAMES.length);
    const first = random(PAGES - 512);
    time += 20_000;
    const size = Math.min(rows - n, 20 + random(230));
    for (let i = 0; i < size; i++, n++) {
      const page = first + random(256);
      add({ kind: 'gpuFault', gpu, buffer, page, batch, time: time + i * 20, write: random(2) });
    }
    const moves = Math.min(rows - n, 1 + random(60));
    for (let i = 0; i < moves; i++, n++) {
      const page = first + random(480);
      add({ kind: 'migration', gpu, buffer, page, pages: 1 + random(16), out: random(2), time: time + 9000 + i * 40 });
    }
    if (n < rows) {
      add({ kind: 'replay', gpu, batch, time: time + 15_000 });
      n++;
    }
    if (n < rows && random(4) === 0) {
      add({ kind: 'cpuFault', buffer, page: first, time: time + 16_000, write: 0 });
      n++;
    }
  }
}

function writeParquet(path) {
  const columns = createTraceColumns({ capacity: rows });
  const a = columns.arrays;
  const word = (key, row, text) => {
    a[key][row] = wordNumber(columns.words[key], text);
  };
  generate((e) => {
    const row = addRow(columns);
    word('kind', row, e.kind);
    a.time[row] = e.time;
    if (e.kind !== 'replay') {
      word('buffer', row, NAMES[e.buffer]);
      a.offset[row] = e.page * 4096;
    }
    if (e.kind === 'gpuFault' || e.kind === 'replay') {
      word('src', row, `gpu${e.gpu}`);
      a.batch[row] = e.batch;
      a.gpuTime[row] = e.time;
    }
    if (e.kind === 'cpuFault') word('src', row, 'cpu');
    if (e.kind === 'gpuFault' || e.kind === 'cpuFault') word('access', row, e.write === 1 ? 'write' : 'read');
    if (e.kind === 'gpuFault') word('type', row, 'invalidPte');
    if (e.kind !== 'migration') return;
    word('src', row, e.out === 1 ? `gpu${e.gpu}` : 'cpu');
    word('dst', row, e.out === 1 ? 'cpu' : `gpu${e.gpu}`);
    word('cause', row, e.pages === 1 ? 'coherence' : 'prefetch');
    a.bytes[row] = e.pages * 4096;
    a.timeEnd[row] = e.time + 3000;
    a.gpuTime[row] = e.time;
    a.gpuTimeEnd[row] = e.time + 500 * e.pages;
  });
  const info = {
    ...emptyTraceInfo('long', 'recording', '0'),
    allocations: NAMES.map((name) => ({ name, bytes: BYTES, kind: 'managed', address: name })),
    hasBuffers: true,
  };
  saveTrace(path, { info, columns });
}

function writeRecording(path) {
  const processors = ['cpu', 'gpu0', 'gpu1'].map((word, number) => ({ number, word, uuid: word, name: word }));
  const writer = createRecordingWriter(path, {
    ...{ format: 1, uvmlab: '0', driver: null, kernel: null, pid: 1, command: null, executable: null, processors },
    ...{ events: ['cpuFault', 'migration', 'gpuFault', 'replay'], ringEntries: 1024, machine: null, parameters: {} },
    ...{ attached: 'before the first managed allocation', cpuClock: 'CLOCK_MONOTONIC_RAW' },
  });
  const begin = (name) => Number(BigInt(`0x${name}`));
  const ranges = NAMES.map((name) => ({ start: name, end: (begin(name) + BYTES).toString(16) }));
  writer.appendMaps({ time: 0, ranges });
  let pending = [];
  const flush = () => {
    writer.appendEvents(Buffer.concat(pending));
    pending = [];
  };
  generate((e) => {
    const address = e.kind === 'replay' ? 0 : begin(NAMES[e.buffer]) + e.page * 4096;
    const base = { address, timeStamp: e.time, timeStampGpu: BigInt(e.time), gpuIndex: 1 + (e.gpu ?? 0) };
    const access = { faultType: 2, accessType: e.write === 1 ? 2 : 1, clientType: 1, batchId: e.batch };
    const times = { beginTimeStamp: e.time, endTimeStamp: e.time + 3000 };
    const [src, dst] = e.out === 1 ? [1 + e.gpu, 0] : [0, 1 + e.gpu];
    const cause = {
      migrationCause: e.pages === 1 ? 2 : 3,
      srcIndex: src,
      dstIndex: dst,
      migratedBytes: e.pages * 4096,
    };
    const fields = { gpuFault: { ...base, ...access }, cpuFault: { accessType: 1, address, timeStamp: e.time } };
    fields.replay = { gpuIndex: base.gpuIndex, batchId: e.batch, timeStamp: e.time, timeStampGpu: base.timeStampGpu };
    fields.migration = { ...times, ...cause, address };
    pending.push(encodeEventV2(e.kind, fields[e.kind]));
    if (pending.length === 65_536) flush();
  });
  flush();
  writer.end('target exited');
  writer.close();
}

function measure() {
  const dir = mkdtempSync(join(tmpdir(), 'uvmlab-bench-'));
  try {
    const path = join(dir, `long.${form}`);
    const made = spawnSync(process.execPath, [fileURLToPath(import.meta.url), String(rows), form, path], {
      stdio: 'inherit',
    });
    if (made.status !== 0) throw new Error('the trace could not be made');
    const main = fileURLToPath(new URL('cli/main.js', dist));
    const page = join(dir, 'out.html');
    const code = `process.on('exit', () => process.stderr.write('most memory ' + Math.round(process.resourceUsage().maxRSS / 1024) + ' MiB, ' + (process.cpuUsage().user / 1e6).toFixed(1) + ' s of CPU\\n'));`;
    const args = ['--import', `data:text/javascript,${encodeURIComponent(code)}`, main, 'report', path, '--html', page];
    const begin = performance.now();
    const { status, stderr, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    const seconds = (performance.now() - begin) / 1000;
    process.stdout.write(
      `${rows.toLocaleString('en-US')} rows of ${form}: ${seconds.toFixed(1)} s\n${stderr}${stdout}`,
    );
    process.exitCode = status ?? 1;
  } finally {
    if (process.env.KEEP === undefined) rmSync(dir, { recursive: true });
    else process.stdout.write(`${dir}\n`);
  }
}

if (makeTo === undefined) measure();
else if (form === 'parquet') writeParquet(makeTo);
else writeRecording(makeTo);
