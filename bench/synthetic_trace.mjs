/**
 * A trace of any length that looks like a program's: the same rows for the same number. Steps go over allocations in
 * turn, GPU faults come in batches that end with a replay, each batch brings migrations of blocks; CPU faults, thrashing,
 * throttling and evictions come between them.
 */
import { createPrng, prngBelow } from '../dist/base/prng.js';
import { createTraceColumns, wordNumber } from '../dist/trace/store/trace_columns.js';
import { emptyTraceInfo } from '../dist/trace/store/trace_info.js';

const PAGE = 4096;
const BLOCK_PAGES = 512;
const STEPS = 20;
const ALLOCATIONS = [
  { name: 'weights', blocks: 4096 },
  { name: 'state', blocks: 2048 },
  { name: 'input', blocks: 1536 },
  { name: 'output', blocks: 512 },
];
const BATCH_FAULTS = 24;

/** @param {number} rows */
export function syntheticTrace(rows) {
  const p = createPrng(1);
  const columns = createTraceColumns({ capacity: rows });
  const { arrays: a, words } = columns;
  const word = (key, text) => wordNumber(words[key], text);
  const all = (key, texts) => texts.map((text) => word(key, text));
  const kindNames = ['gpuFault', 'migration', 'replay', 'cpuFault', 'thrashing', 'eviction', 'mapRemote'];
  const kinds = Object.fromEntries(kindNames.map((name) => [name, word('kind', name)]));
  const [cpu, gpu] = all('src', ['cpu', 'gpu0']);
  const [toCpu, toGpu] = all('dst', ['cpu', 'gpu0']);
  const buffers = all(
    'buffer',
    ALLOCATIONS.map(({ name }) => name),
  );
  const accesses = all('access', ['read', 'write', 'prefetch']);
  const causes = all('cause', ['coherence', 'prefetch', 'eviction']);
  const both = word('processors', 'cpu,gpu0');
  const type = word('type', 'invalidPte');
  let n = 0;
  let time = 1000;
  let batch = 0;
  const row = (kind, step) => {
    time += prngBelow(p, 200);
    a.kind[n] = kinds[kind];
    a.time[n] = time;
    a.step[n] = step;
    return n++;
  };
  const place = (i, which, block, page) => {
    a.buffer[i] = buffers[which];
    a.offset[i] = (block * BLOCK_PAGES + page) * PAGE;
  };
  while (n < rows) {
    const step = Math.floor((n * STEPS) / rows);
    const which = prngBelow(p, 4) === 0 ? prngBelow(p, ALLOCATIONS.length) : step % ALLOCATIONS.length;
    const { blocks } = ALLOCATIONS[which];
    const block = Math.floor(((n % (rows / STEPS)) * blocks * STEPS) / rows) % blocks;
    if (prngBelow(p, 40) === 0) {
      for (let k = prngBelow(p, 30); k >= 0 && n < rows; k--) {
        const i = row('cpuFault', step);
        place(i, which, block, prngBelow(p, BLOCK_PAGES));
        a.src[i] = cpu;
        a.access[i] = accesses[prngBelow(p, 2)];
      }
      if (n < rows) {
        const i = row('thrashing', step);
        place(i, which, block, prngBelow(p, BLOCK_PAGES));
        a.bytes[i] = PAGE;
        a.processors[i] = both;
      }
      continue;
    }
    for (let k = 1 + prngBelow(p, 2 * BATCH_FAULTS); k > 0 && n < rows; k--) {
      const i = row('gpuFault', step);
      place(i, which, Math.min(blocks - 1, block + prngBelow(p, 3)), prngBelow(p, BLOCK_PAGES));
      a.src[i] = gpu;
      a.gpuTime[i] = time + 500;
      a.type[i] = type;
      a.access[i] = accesses[prngBelow(p, 3)];
      a.batch[i] = batch;
      a.gpc[i] = prngBelow(p, 8);
      a.client[i] = prngBelow(p, 70);
    }
    for (let k = 1 + prngBelow(p, 8); k > 0 && n < rows; k--) {
      const i = row('migration', step);
      const page = prngBelow(p, BLOCK_PAGES);
      const out = prngBelow(p, 5) === 0;
      place(i, which, Math.min(blocks - 1, block + prngBelow(p, 3)), page);
      a.src[i] = out ? gpu : cpu;
      a.dst[i] = out ? toCpu : toGpu;
      a.timeEnd[i] = time + 5000;
      a.gpuTime[i] = time + 600;
      a.gpuTimeEnd[i] = time + 600 + 3000;
      a.cause[i] = out ? causes[2] : causes[prngBelow(p, 2)];
      a.bytes[i] = PAGE * (1 + prngBelow(p, BLOCK_PAGES - page));
    }
    if (prngBelow(p, 50) === 0 && n < rows) {
      const i = row('eviction', step);
      place(i, which, prngBelow(p, blocks), 0);
      a.src[i] = gpu;
      a.dst[i] = toCpu;
      a.bytes[i] = PAGE * BLOCK_PAGES;
    }
    if (n < rows) {
      const i = row('replay', step);
      a.src[i] = gpu;
      a.gpuTime[i] = time + 1200;
      a.batch[i] = batch++;
    }
  }
  columns.count = rows;
  const info = {
    ...emptyTraceInfo('synthetic', 'recording', 'bench'),
    processors: [{ word: 'cpu' }, { word: 'gpu0' }],
    allocations: ALLOCATIONS.map(({ name, blocks }) => ({
      name,
      bytes: blocks * BLOCK_PAGES * PAGE,
      kind: 'managed',
      address: null,
    })),
    hasSteps: true,
    hasBuffers: true,
    clock: 'CLOCK_MONOTONIC_RAW',
  };
  return { info, columns };
}
