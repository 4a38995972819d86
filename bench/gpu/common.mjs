/** What the measurements on a real GPU share: target programs that are talked to line by line, statistics, output. */
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const TARGET = fileURLToPath(new URL('target.mjs', import.meta.url));

/** @typedef {{ pid: number, send: (line: string) => void, next: () => Promise<any>, end: () => Promise<void>, kill: (signal: NodeJS.Signals) => void }} Target */

/**
 * Starts target.mjs and gives a way to talk to it.
 * @param {(string | number)[]} args
 * @returns {Promise<Target & { ready: any }>}
 */
export async function startTarget(...args) {
  const child = spawn(process.execPath, [TARGET, ...args.map(String)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const next = async () => {
    const line = await lines.next();
    if (line.done) throw new Error('the target program has ended');
    return JSON.parse(line.value);
  };
  const ready = await next();
  return {
    pid: child.pid ?? 0,
    ready,
    next,
    send: (line) => child.stdin.write(`${line}\n`),
    end: async () => {
      child.stdin.end('end\n');
      await exited;
    },
    kill: (signal) => child.kill(signal),
  };
}

/** @param {number[]} values */
export function statistics(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (/** @type {number} */ q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  return {
    n: sorted.length,
    min: sorted[0],
    q1: at(0.25),
    median: at(0.5),
    q3: at(0.75),
    p99: at(0.99),
    max: sorted.at(-1),
  };
}

/** @param {number} ms */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function readGpuInformation() {
  const folder = '/proc/driver/nvidia/gpus';
  try {
    return readFileSync(join(folder, readdirSync(folder)[0], 'information'), 'utf8');
  } catch {
    return '';
  }
}

/** What the machine is, for the head of a measurement. */
export function machine() {
  const read = (/** @type {string} */ path) => {
    try {
      return readFileSync(path, 'utf8').trim();
    } catch {
      return null;
    }
  };
  return {
    driver: read('/sys/module/nvidia_uvm/version'),
    gpu: /Model:\s*(.+)/.exec(readGpuInformation())?.[1] ?? null,
    kernel: read('/proc/sys/kernel/osrelease')?.replace(/-.*/, '') ?? null,
    commit: process.env.UVMLAB_COMMIT ?? null,
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
    user: process.getuid?.() ?? null,
  };
}

/**
 * Writes a measurement to the folder of the first argument, and prints it.
 * @param {string} name
 * @param {object} result
 */
export function report(name, result) {
  const text = JSON.stringify({ measurement: name, ...machine(), ...result }, null, 2);
  console.log(text);
  const folder = process.argv[2];
  if (folder === undefined) return;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.json`), `${text}\n`);
}
