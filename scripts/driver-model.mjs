/** Where the model has the driver's functions and types: read from src/model by names and comments. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDERS = ['src/model/uvm', 'src/model/kernel', 'src/model/gpu'];

/**
 * Symbol: null where a comment inside the file names it alone. A third part says that the comment of the symbol names
 * it, and not the rule of names.
 * @typedef {[path: string, symbol: string | null, by?: 'comment']} Place
 */

/**
 * uvm_va_block_select_residency is vaBlockSelectResidency, _main_loop is mainLoop.
 * @param {string} name of a driver function
 */
export function modelName(name) {
  return name
    .replace(/^uvm_/, '')
    .replace(/^_+/, '')
    .replace(/_+([a-z0-9])/gi, (_, letter) => letter.toUpperCase());
}

/**
 * uvm_va_block_struct, uvm_va_block_t: VaBlock.
 * @param {string} name of a driver type
 */
function modelTypeName(name) {
  const camel = modelName(name.replace(/_(struct|t)$/, ''));
  return camel[0].toUpperCase() + camel.slice(1);
}

/** Architectures whose functions for the hardware the model follows: Hopper's own and those that it takes over. */
const HAL_FUNCTION = /^uvm_hal_(?:volta|turing|ampere|hopper)_(?:(fault_buffer|host|ce)_)?(\w+)$/;

/**
 * uvm_hal_volta_fault_buffer_read_get is faultBufferHalReadGet, uvm_hal_turing_disable_replayable_faults is
 * halDisableReplayableFaults.
 * @param {string} name of a driver function
 */
function halName(name) {
  const match = HAL_FUNCTION.exec(name);
  if (match === null) return name;
  return modelName(match[1] === undefined ? `hal_${match[2]}` : `${match[1]}_hal_${match[2]}`);
}

/**
 * Fields that the model keeps under a name that no rule leads to.
 * @type {Record<string, Place>}
 */
const FIELDS_ELSEWHERE = {
  'uvm_channel_struct.tracking_sem': ['src/model/uvm/channel.ts', 'Channel.trackingSem'],
  'uvm_fault_buffer_t.replayable': ['src/model/uvm/gpu.ts', 'Gpu.replayable'],
  'uvm_fault_buffer_t.non_replayable': ['src/model/uvm/gpu.ts', 'Gpu.nonReplayable'],
  'uvm_fault_buffer_t.replayable.batch_service_context': [
    'src/model/uvm/gpu_replayable_faults_types.ts',
    'ReplayableFaults.batch',
  ],
  'uvm_parent_gpu_struct.fault_buffer': ['src/model/uvm/gpu.ts', 'Gpu.replayable'],
  'uvm_gpfifo_entry_struct.tracking_semaphore_value': ['src/model/uvm/channel.ts', 'GPFIFO_TRACKING_VALUE'],
};

/**
 * The functions and types of a file of the model, each with the words of the comment before it.
 * @param {string} text
 * @returns {{ symbol: string, isType: boolean, comment: Set<string> }[]}
 */
export function symbolsOf(text) {
  const found = [];
  const declaration =
    /((?:^\/\*\*(?:(?!\*\/)[\s\S])*\*\/\n)?)^(?:export )?(?:(function)\*? (\w+)|(?:interface|type) (\w+))/gm;
  for (const match of text.matchAll(declaration)) {
    const [, comment, isFunction, name, typeName] = match;
    found.push({
      symbol: name ?? typeName,
      isType: isFunction === undefined,
      comment: new Set(comment.match(/\w+/g) ?? []),
    });
  }
  return found;
}

/**
 * The fields of the model's interfaces whose names have several words and belong to one interface alone.
 * @param {string} text of a file
 * @returns {{ symbol: string, field: string }[]}
 */
function fieldsOf(text) {
  const found = [];
  for (const [, symbol, body] of text.matchAll(/^(?:export )?interface (\w+)[^{]*\{\n([\s\S]*?)^\}/gm)) {
    for (const [, field] of body.matchAll(/^ {2,}(?:readonly )?([a-z]+(?:[A-Z0-9][a-z0-9]*)+)\??:/gm)) {
      found.push({ symbol, field });
    }
  }
  return found;
}

/**
 * The texts of the model's files, without tests.
 * @param {string} root of the repository
 * @returns {{ path: string, text: string }[]}
 */
function readModel(root) {
  return FOLDERS.flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
      .sort()
      .map((file) => ({ path: `${folder}/${file}`, text: readFileSync(join(root, folder, file), 'utf8') })),
  );
}

/**
 * Where the model has fields and values: UVM_CHANNEL_TYPE_MEMOPS is the constant CHANNEL_TYPE_MEMOPS, cached_get the
 * field cachedGet, and a member of a table of functions is the function that the model calls instead.
 * @param {string} root of the repository
 * @param {Iterable<string>} paths fields of the map, as "uvm_fault_buffer_t.replayable.cached_get"
 * @returns {Record<string, Place>} by the whole path, or by its last word
 */
export function modelFieldPlaces(root, paths) {
  /** @type {Map<string, Place | null>} */
  const fields = new Map();
  /** @type {Map<string, Place>} */
  const others = new Map();
  for (const { path, text } of readModel(root)) {
    for (const { symbol, field } of fieldsOf(text)) {
      fields.set(field, fields.has(field) ? null : [path, `${symbol}.${field}`]);
    }
    for (const [, name] of text.matchAll(/^export (?:const|function\*?) (\w+)/gm)) others.set(name, [path, name]);
  }
  /** @type {Record<string, Place>} */
  const places = { ...FIELDS_ELSEWHERE };
  for (const path of [...new Set(paths)].sort()) {
    const word = path.slice(path.lastIndexOf('.') + 1);
    const table = /^uvm_(\w+_hal)_struct\.\w+$/.exec(path);
    if (table !== null) {
      const place = others.get(modelName(`${table[1]}_${word}`)) ?? others.get(modelName(`hal_${word}`));
      if (place !== undefined) places[path] = place;
      continue;
    }
    const place = /^[A-Z0-9_]+$/.test(word) ? others.get(word.replace(/^UVM_/, '')) : fields.get(modelName(word));
    if (place) places[word] = place;
  }
  return places;
}

/**
 * @param {string} root of the repository
 * @param {Set<string>} names of the map, each with the letter of its kind before it
 * @returns {Record<string, Place>} by the driver's name
 */
export function modelPlaces(root, names) {
  /** @type {Map<string, Place>} */
  const functions = new Map();
  /** @type {Map<string, Place>} */
  const types = new Map();
  /** @type {Map<string, Place>} */
  const commented = new Map();
  /** @type {Map<string, Place>} */
  const mentioned = new Map();
  for (const { path, text } of readModel(root)) {
    for (const { symbol, isType, comment } of symbolsOf(text)) {
      const kind = isType ? types : functions;
      if (!kind.has(symbol)) kind.set(symbol, [path, symbol]);
      for (const word of comment) if (!commented.has(word)) commented.set(word, [path, symbol, 'comment']);
    }
    for (const comment of text.match(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g) ?? []) {
      for (const word of comment.match(/\w+/g) ?? []) if (!mentioned.has(word)) mentioned.set(word, [path, null]);
    }
  }
  /** @type {Record<string, Place>} */
  const places = {};
  for (const tagged of [...names].sort((a, b) => (a.slice(1) < b.slice(1) ? -1 : 1))) {
    const name = tagged.slice(1);
    if (tagged[0] === 'p') continue;
    const own =
      tagged[0] === 'f'
        ? (functions.get(modelName(name)) ?? functions.get(halName(name)))
        : types.get(modelTypeName(name));
    // A comment may have a type by its other name.
    const other = name.replace(/_struct$/, '_t');
    const place = own ?? commented.get(name) ?? commented.get(other) ?? mentioned.get(name);
    if (place !== undefined) places[name] = place;
  }
  return places;
}
