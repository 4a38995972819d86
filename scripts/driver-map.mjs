/**
 * Makes data/driver-map.json from a clone of the driver's source, NVIDIA/open-gpu-kernel-modules, and
 * data/driver-model.json from this repository:
 *
 *     node scripts/driver-map.mjs CLONE     both; CLONE is a work tree or a bare repository that has the tags below
 *     node scripts/driver-map.mjs           data/driver-model.json alone
 *     node scripts/driver-map.mjs CLONE --renames     prints what may have been renamed between two branches
 *
 * The map holds facts only: names, files and line numbers. Its format is read by src/analysis/driver_map.ts.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { modelFieldPlaces, modelPlaces } from './driver-model.mjs';
import { printRenames } from './driver-renames.mjs';
import { scan } from './driver-scan.mjs';
import { isMain, root } from './steps.mjs';

const MAP = 'data/driver-map.json';
const SOURCE = 'NVIDIA/open-gpu-kernel-modules';
const FOLDER = 'kernel-open/nvidia-uvm';
/** The newest tag of each branch, but the one that the model follows for 580. */
const TAGS = ['535.288.01', '545.29.06', '550.163.01', '570.211.01', '580.105.08', '590.48.01', '595.45.04'];
const FILE = /^(?:uvm.*|nv-kthread-q)\.[ch]$/;
/** Tests, and files that have nothing to do with faults, blocks, channels and their locks: only their parameters count. */
const LEFT_OUT =
  /test|unit|sec2|kvmalloc|rb_tree|range_allocator|procfs|debug_optimized|_ibm|_sva|map_external|device_p2p|pageable/;

/** Structures of which the map holds the fields, and enumerations of which it holds the values, by their names. */
const WITH_FIELDS =
  /^uvm_(parent_gpu|gpu|fault_buffer|fault_buffer_info|fault_service_batch_context|fault_buffer_entry|fault_buffer_hal|ats_fault_context|va_block|va_block_gpu_state|va_block_cpu_node_state|va_space|va_range|va_range_managed|managed_range|va_policy|service_block_context|va_block_context|va_block_retry|channel|channel_manager|channel_pool|gpfifo_entry|push|push_info|pushbuffer|tracker|tracker_entry|gpu_semaphore|gpu_tracking_semaphore|channel_type|channel_pool_type|perf_thrashing_hint|perf_fault_replay_policy|fault_replay_type|fault_access_type|fault_type|prot|make_resident_cause|service_operation|lock_order|isr_info|intr_handler|ce_hal|host_hal|va_space_mm|global)(_struct|_t)?$/;

/**
 * @typedef {import('./driver-scan.mjs').FileFacts} FileFacts
 * @typedef {{ tag: string, files: Map<string, FileFacts> }} Branch
 */

/**
 * @param {string} clone
 * @param {string[]} args
 */
function git(clone, args) {
  const dir = existsSync(join(clone, '.git')) ? join(clone, '.git') : clone;
  return execFileSync('git', [`--git-dir=${dir}`, ...args], { encoding: 'utf8', maxBuffer: 1 << 26 });
}

/**
 * @param {string} clone
 * @param {string} tag
 * @returns {Map<string, string>} text by file name
 */
function readBranch(clone, tag) {
  const names = git(clone, ['ls-tree', '--name-only', `${tag}:${FOLDER}`])
    .trim()
    .split('\n');
  const wanted = names.filter((name) => FILE.test(name));
  return new Map(wanted.map((name) => [name, git(clone, ['show', `${tag}:${FOLDER}/${name}`])]));
}

/**
 * Numbers are written to base 36.
 * @param {number} n
 */
function short(n) {
  return n.toString(36);
}

/**
 * @param {string} name of the file
 * @param {string} text
 * @returns {FileFacts}
 */
function readFacts(name, text) {
  const facts = scan(text);
  return LEFT_OUT.test(name) ? { functions: [], types: [], parameters: facts.parameters } : facts;
}

/**
 * What is the same in several branches is written once: [[branch indices], value].
 * @param {(string | null)[]} values by branch
 * @returns {[branches: number[], value: string][]}
 */
function shared(values) {
  /** @type {Map<string, number[]>} */
  const by = new Map();
  for (const [i, value] of values.entries()) {
    if (value !== null && value !== '') by.set(value, [...(by.get(value) ?? []), i]);
  }
  return [...by].map(([value, branches]) => /** @type {[number[], string]} */ ([branches, value]));
}

/**
 * All definitions in a file, in the order of their lines. Kinds: f function, s struct, u union, e enum, p parameter.
 * @param {FileFacts} facts
 */
function definitions(facts) {
  const all = [
    ...facts.functions.map((one) => ({ ...one, name: `f${one.name}` })),
    ...facts.types.filter(({ name }) => name !== '').map((one) => ({ ...one, name: one.kind[0] + one.name })),
    ...facts.parameters.map(({ name, line }) => ({ name: `p${name}`, from: line, to: line, conditional: false })),
  ];
  return all.sort((a, b) => a.from - b.from || a.to - b.to);
}

/**
 * @param {string} file
 * @param {Branch[]} branches
 */
function fileEntry(file, branches) {
  const names = new Map();
  for (const { files } of branches) {
    const facts = files.get(file);
    for (const { name } of facts === undefined ? [] : definitions(facts)) {
      if (!names.has(name)) names.set(name, names.size);
    }
  }
  // Numbers: difference of the name's index to the last one's successor, lines since the last definition began, and
  // twice the lines until the definition ends, plus 1 where it stands under a condition.
  const at = branches.map(({ files }) => {
    const facts = files.get(file);
    if (facts === undefined) return null;
    const numbers = [];
    let next = 0;
    let line = 0;
    for (const { name, from, to, conditional } of definitions(facts)) {
      const index = names.get(name);
      numbers.push(...[index - next, from - line, 2 * (to - from) + (conditional ? 1 : 0)].map(short));
      next = index + 1;
      line = from;
    }
    return numbers.join(' ');
  });
  return { names: [...names.keys()].join(' '), at: shared(at) };
}

/**
 * Calls of each function that the model knows, to functions of the map: pairs of the lines since the last call (for
 * the first one: since the beginning of the function) and the index of the callee.
 * @param {Branch[]} branches
 * @param {Record<string, unknown>} model
 */
function callEntries(branches, model) {
  const known = new Set(
    branches.flatMap(({ files }) => [...files.values()].flatMap((f) => f.functions.map((one) => one.name))),
  );
  const members = new Set(['.read_get', '.read_put', '.write_get', '.parse_replayable_entry', '.entry_is_valid']);
  const callees = new Map();
  /** @type {Record<string, unknown>} */
  const calls = {};
  /** @type {Map<string, (string | null)[]>} key: file and function */
  const found = new Map();
  for (const [b, { files }] of branches.entries()) {
    for (const [file, { functions }] of files) {
      for (const one of functions) {
        // Before branch 550 the functions of a parent GPU were called uvm_gpu_...
        if (!(one.name in model) && !(one.name.replace(/^uvm_gpu_/, 'uvm_parent_gpu_') in model)) continue;
        const key = `${file}:${one.name}`;
        let line = one.from;
        const words = [];
        for (const call of one.calls) {
          if (!known.has(call.name) && !members.has(call.name)) continue;
          if (!callees.has(call.name)) callees.set(call.name, callees.size);
          words.push(short(call.line - line), short(callees.get(call.name)));
          line = call.line;
        }
        const values = found.get(key) ?? branches.map(() => null);
        // Both definitions under #if and #else: the first one counts.
        values[b] ??= words.join(' ');
        found.set(key, values);
      }
    }
  }
  for (const [key, values] of [...found].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const entry = shared(values);
    if (entry.length > 0) calls[key] = entry;
  }
  return { callees: [...callees.keys()].join(' '), calls };
}

/** @param {Branch[]} branches */
function fieldEntries(branches) {
  /** @type {Map<string, (string | null)[]>} */
  const found = new Map();
  for (const [b, { files }] of branches.entries()) {
    for (const [file, { types }] of files) {
      for (const { name, from, fields } of types) {
        if (!WITH_FIELDS.test(name)) continue;
        const key = `${file}:${name}`;
        const values = found.get(key) ?? branches.map(() => null);
        values[b] ??= fields.map((field) => `${field.name} ${short(field.line - from)}`).join(' ');
        found.set(key, values);
      }
    }
  }
  return Object.fromEntries(
    [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, values]) => [key, shared(values)]),
  );
}

/**
 * One line for each entry, so that a change of the map can be read.
 * @param {string} path
 * @param {Record<string, unknown>} data
 */
function write(path, data) {
  const parts = Object.entries(data).map(([key, value]) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return `${JSON.stringify(key)}:${JSON.stringify(value)}`;
    const lines = Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}:${JSON.stringify(inner)}`);
    return `${JSON.stringify(key)}:{\n${lines.join(',\n')}\n}`;
  });
  const text = `{\n${parts.join(',\n')}\n}\n`;
  mkdirSync(join(root, 'data'), { recursive: true });
  writeFileSync(join(root, path), text);
  console.log(`${path}: ${text.length} bytes`);
}

/** @param {Branch[]} branches */
function namesOf(branches) {
  const names = new Set();
  for (const { files } of branches) {
    for (const facts of files.values()) for (const { name } of definitions(facts)) names.add(name);
  }
  return names;
}

/**
 * Writes where the model has what the map names.
 * @param {{ files: Record<string, { names: string }>, fields: Record<string, [number[], string][]> }} map
 */
function writeModel(map) {
  const names = new Set(Object.values(map.files).flatMap((file) => file.names.split(' ')));
  const fields = Object.entries(map.fields).flatMap(([key, entries]) =>
    entries.flatMap(([, text]) => {
      const words = text.split(' ').filter((_, i) => i % 2 === 0);
      return words.map((word) => `${key.slice(key.indexOf(':') + 1)}.${word}`);
    }),
  );
  write('data/driver-model.json', { places: modelPlaces(root, names), fields: modelFieldPlaces(root, fields) });
}

/** @param {string[]} args */
function main(args) {
  const clone = args.find((arg) => !arg.startsWith('--'));
  if (clone === undefined) {
    writeModel(JSON.parse(readFileSync(join(root, MAP), 'utf8')));
    return;
  }
  const texts = TAGS.map((tag) => readBranch(clone, tag));
  const branches = TAGS.map((tag, b) => ({
    tag,
    files: new Map([...texts[b]].map(([name, text]) => [name, readFacts(name, text)])),
  }));
  const places = modelPlaces(root, namesOf(branches));
  if (args.includes('--renames')) {
    printRenames(branches, texts, places);
    return;
  }
  const files = [...new Set(branches.flatMap(({ files }) => [...files.keys()]))].sort();
  const entries = files.map((file) => /** @type {const} */ ([file, fileEntry(file, branches)]));
  const { callees, calls } = callEntries(branches, places);
  const map = {
    about: 'Facts of the UVM driver by branch: names, files, lines. Made by scripts/driver-map.mjs.',
    source: SOURCE,
    folder: FOLDER,
    tags: TAGS,
    files: Object.fromEntries(entries.filter(([, { names }]) => names !== '')),
    fields: fieldEntries(branches),
    callees,
    calls,
  };
  write(MAP, map);
  writeModel(map);
}

if (isMain(import.meta.url)) main(process.argv.slice(2));
