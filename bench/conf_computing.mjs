/**
 * What Confidential Computing adds to a migration, in counts: the table of docs/confidential-computing.md. Buffers of 1
 * to 64 MiB are written by the CPU, then prefetched to the GPU and back; each prefetch is one row. Counts come from the
 * model's rules; times are left out, as no recording has them.
 *
 *     npm run build && node bench/conf_computing.mjs
 */
import { loadMachines } from '../dist/analysis/machines.js';
import { advanceRun } from '../dist/scenario/runner.js';
import { parseScenario } from '../dist/scenario/scenario.js';
import { createSession } from '../dist/scenario/session.js';

const MIB = 1024 * 1024;
const PAGE = 4096;
const machines = loadMachines();

/** A run whose buffer of `bytes` bytes has been written by the CPU. */
function written(/** @type {string} */ machine, /** @type {number} */ bytes) {
  const whole = { buffer: 'a', offset: 0, length: bytes };
  const parsed = parseScenario(
    {
      name: 'migration',
      machine,
      allocations: [{ name: 'a', bytes }],
      steps: [
        { do: 'write', on: 'cpu', ...whole, stride: PAGE },
        { do: 'prefetch', to: 'gpu0', ...whole },
        { do: 'prefetch', to: 'cpu', ...whole },
      ],
    },
    machines.known,
  );
  if (!parsed.ok) throw new Error(parsed.error);
  const session = createSession(parsed.scenario, machines.profile(machine));
  if (!session.ok) throw new Error(session.error);
  advanceRun(session.run, bytes / PAGE);
  return session.run;
}

/** Pushes of the copy engines' channels so far, and what was counted for Confidential Computing. */
function counted(/** @type {import('../dist/scenario/runner.js').Run} */ run) {
  const { pools, confComputing } = run.m.gpus[0].channelManager;
  const channels = pools.filter((pool) => pool.poolType === 1).flatMap((pool) => pool.channels);
  const pushes = channels.reduce((sum, channel) => sum + channel.trackingSem.queuedValue, 0);
  return { pushes, ...confComputing?.counts };
}

/** One step further; the growth of each count. */
function grown(/** @type {import('../dist/scenario/runner.js').Run} */ run) {
  const before = /** @type {Record<string, number>} */ (counted(run));
  advanceRun(run, 1);
  if (run.state.error !== null) throw new Error(run.state.error);
  return Object.fromEntries(Object.entries(counted(run)).map(([name, value]) => [name, value - before[name]]));
}

const header = [
  'MiB',
  'to',
  'pushes without',
  'pushes with',
  'launches',
  'pages',
  'CPU encrypts, times',
  'CPU encrypts, bytes',
  'GPU encrypts, times',
  'GPU encrypts, bytes',
];
const rows = [header, header.map(() => '--:')];
for (const mib of [1, 2, 4, 8, 16, 32, 64]) {
  const on = written('h100-cc', mib * MIB);
  const off = written('h200-pcie5', mib * MIB);
  for (const to of ['GPU', 'CPU']) {
    const with_ = grown(on);
    const without = grown(off);
    rows.push([
      String(mib),
      to,
      String(without.pushes),
      String(with_.pushes),
      String(with_.launches),
      String(with_.pagesToGpu + with_.pagesToCpu),
      String(with_.cpuEncryptions),
      String(with_.cpuEncryptedBytes),
      String(with_.gpuEncryptions),
      String(with_.gpuEncryptedBytes),
    ]);
  }
}
for (const row of rows) console.log(`| ${row.join(' | ')} |`);
