/** Where the model has the driver's functions and types: read from src/model by names and comments. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDERS = ['src/model/uvm', 'src/model/kernel', 'src/model/gpu'];

/** @typedef {[path: string, symbol: string | null]} Place symbol: null where the file's comments name it alone */

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
 * @param {string} root of the repository
 * @param {Iterable<string>} paths fields of the map, as "replayable.cached_get"
 * @returns {Record<string, Place>} by the last word of the path
 */
export function modelFieldPlaces(root, paths) {
  /** @type {Map<string, Place | null>} */
  const known = new Map();
  for (const folder of FOLDERS) {
    for (const file of readdirSync(join(root, folder)).sort()) {
      if (!file.endsWith('.ts') || file.endsWith('.test.ts')) continue;
      const path = `${folder}/${file}`;
      for (const { symbol, field } of fieldsOf(readFileSync(join(root, path), 'utf8'))) {
        known.set(field, known.has(field) ? null : [path, `${symbol}.${field}`]);
      }
    }
  }
  /** @type {Record<string, Place>} */
  const places = {};
  for (const name of [...new Set([...paths].map((path) => path.slice(path.lastIndexOf('.') + 1)))].sort()) {
    const place = known.get(modelName(name));
    if (place) places[name] = place;
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
  for (const folder of FOLDERS) {
    for (const file of readdirSync(join(root, folder)).sort()) {
      if (!file.endsWith('.ts') || file.endsWith('.test.ts')) continue;
      const path = `${folder}/${file}`;
      const text = readFileSync(join(root, path), 'utf8');
      for (const { symbol, isType, comment } of symbolsOf(text)) {
        const kind = isType ? types : functions;
        if (!kind.has(symbol)) kind.set(symbol, [path, symbol]);
        for (const word of comment) if (!commented.has(word)) commented.set(word, [path, symbol]);
      }
      for (const comment of text.match(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g) ?? []) {
        for (const word of comment.match(/\w+/g) ?? []) if (!mentioned.has(word)) mentioned.set(word, [path, null]);
      }
    }
  }
  /** @type {Record<string, Place>} */
  const places = {};
  for (const tagged of [...names].sort((a, b) => (a.slice(1) < b.slice(1) ? -1 : 1))) {
    const name = tagged.slice(1);
    if (tagged[0] === 'p') continue;
    const own = tagged[0] === 'f' ? functions.get(modelName(name)) : types.get(modelTypeName(name));
    const place = own ?? commented.get(name) ?? mentioned.get(name);
    if (place !== undefined) places[name] = place;
  }
  return places;
}
