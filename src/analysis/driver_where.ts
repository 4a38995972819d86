/** Answers to "where is this in the driver?": by name, and by file and line. */
import { MODULE_PARAMETERS, type NumericParameter, type TextParameter } from '../model/uvm/params.ts';
import type { Branch, Definition, DriverMap, Field, ModelPlace, NamedLine } from './driver_map.ts';
import { allNames, FIELD_RENAMES, newestName } from './driver_renames.ts';
import { nearestNames } from './nearest_names.ts';

export type WhereKind = 'function' | 'structure' | 'enumeration' | 'parameter' | 'field' | 'value';

/** One place in a branch. */
export interface Spot {
  readonly name: string;
  readonly file: string;
  readonly from: number;
  /** Last line; the first one for fields, values and parameters. */
  readonly to: number;
  readonly conditional: boolean;
}

export interface WhereBranch {
  readonly branch: string;
  readonly tag: string;
  /** Empty: it is not there. More than one: under conditions of the preprocessor, or static ones of several files. */
  readonly at: readonly Spot[];
}

export interface WhereParameter {
  readonly default: number | string;
  readonly valid: NumericParameter['range'] | readonly string[];
}

export interface WhereItem {
  readonly kind: WhereKind;
  /** The newest name; of a field or value with its type: "uvm_push_struct.gpu". */
  readonly name: string;
  /** All names over the branches, the oldest first. */
  readonly names: readonly string[];
  readonly branches: readonly WhereBranch[];
  readonly model: ModelPlace | null;
  /** Of functions: who calls it in the branch that the model follows, as far as the map knows. */
  readonly calledBy: readonly Spot[];
  readonly parameter: WhereParameter | null;
}

/** The branch that the model follows. */
export const MODEL_BRANCH = '580';
/** More fits than this are too many for an answer. */
const FITS_MAX = 12;
const KIND_NAMES = { function: 'function', struct: 'structure', union: 'structure', enum: 'enumeration' } as const;

function calledBy(map: DriverMap, names: readonly string[]): Spot[] {
  const branch = map.branches.find((one) => one.branch === MODEL_BRANCH);
  const found: Spot[] = [];
  for (const [key, calls] of branch?.calls ?? []) {
    const [file, name] = key.split(':');
    for (const call of calls) {
      if (names.includes(call.name)) found.push({ name, file, from: call.line, to: call.line, conditional: false });
    }
  }
  return found.sort((a, b) => (a.file === b.file ? a.from - b.from : a.file < b.file ? -1 : 1));
}

function parameterOf(name: string): WhereParameter | null {
  const all: Readonly<Record<string, NumericParameter | TextParameter>> = MODULE_PARAMETERS;
  if (!Object.hasOwn(all, name)) return null;
  const info = all[name];
  return { default: info.default, valid: info.type === 'charp' ? info.choices : info.range };
}

function firstPlace(places: ReadonlyMap<string, ModelPlace>, names: readonly string[]): ModelPlace | null {
  for (const name of [...names].reverse()) {
    const place = places.get(name);
    if (place !== undefined) return place;
  }
  return null;
}

/** What a name stands for that is defined somewhere: a function, a type or a parameter. */
function definedItem(map: DriverMap, name: string): WhereItem | null {
  const names = allNames(name);
  const branches = map.branches.map(({ branch, tag, byName }) => ({
    branch,
    tag,
    at: names.flatMap((one): readonly Definition[] => byName.get(one) ?? []),
  }));
  const newest = branches.findLast(({ at }) => at.length > 0)?.at[0];
  if (newest === undefined) return null;
  const { kind } = newest;
  const parameter = kind === 'parameter' ? parameterOf(newest.name) : null;
  const own: ModelPlace | null =
    parameter === null ? null : { path: 'src/model/uvm/params.ts', symbol: 'MODULE_PARAMETERS', by: 'name' };
  return {
    kind: kind === 'parameter' ? 'parameter' : KIND_NAMES[kind],
    name: newestName(name),
    names: names.filter((one) => branches.some(({ at }) => at.some((spot) => spot.name === one))),
    branches,
    model: own ?? firstPlace(map.places, names),
    calledBy: kind === 'function' ? calledBy(map, names) : [],
    parameter,
  };
}

/** TYPE.FIELD with the newest names of both. */
function fieldKey(field: Field): string {
  return newestName(`${newestName(field.type)}.${field.name}`, FIELD_RENAMES);
}

function lastWord(path: string): string {
  return path.slice(path.lastIndexOf('.') + 1);
}

function fieldItem(map: DriverMap, key: string): WhereItem {
  let isValue = false;
  const branches = map.branches.map(({ branch, tag, fields }) => {
    const at = fields.filter((field) => fieldKey(field) === key);
    isValue ||= at.some((field) => field.typeKind === 'enum');
    const spot = ({ type, name, file, line }: Field): Spot => ({
      name: `${type}.${name}`,
      file,
      from: line,
      to: line,
      conditional: false,
    });
    return { branch, tag, at: at.map(spot) };
  });
  const names = [...new Set(branches.flatMap(({ at }) => at.map((spot) => spot.name)))];
  const words = names.map(lastWord);
  return {
    kind: isValue ? 'value' : 'field',
    name: key,
    names,
    branches,
    model: firstPlace(map.fieldPlaces, [...words, ...names]) ?? firstPlace(map.places, words),
    calledBy: [],
    parameter: null,
  };
}

/** Keys of the fields and values that `fits`. */
function fieldKeys(map: DriverMap, fits: (path: string, type: string) => boolean): string[] {
  const keys = new Set<string>();
  for (const { fields } of map.branches) {
    for (const field of fields) if (fits(field.name, field.type)) keys.add(fieldKey(field));
  }
  return [...keys];
}

/** Whether `path` is `name`, or ends with it after a dot. */
function endsPath(path: string, name: string): boolean {
  return path === name || path.endsWith(`.${name}`);
}

/** What has the name itself: a definition, a type under its other name, a field or a value. */
function exactItems(map: DriverMap, name: string): WhereItem[] {
  const base = name.replace(/_(t|struct)$/, '');
  for (const one of [name, `${base}_struct`, `${base}_t`, base]) {
    const item = definedItem(map, one);
    if (item !== null && (one === name || item.kind === 'structure' || item.kind === 'enumeration')) return [item];
  }
  const keys = fieldKeys(map, (path, type) => endsPath(path, name) || `${type}.${path}` === name);
  if (keys.length > 0) return keys.map((key) => fieldItem(map, key));
  return wayItems(map, name.split('.'));
}

/**
 * The fields on a way through several structures, as parent_gpu.fault_buffer_info.replayable: from the right, the
 * longest ends that fields have. The first word may be a variable. Of fields with one name, those are meant whose type
 * has the name of the field before them.
 */
function wayItems(map: DriverMap, parts: readonly string[]): WhereItem[] {
  if (parts.length < 2) return [];
  for (let i = 0; i < parts.length; i++) {
    const end = parts.slice(i).join('.');
    const keys = fieldKeys(map, (path) => path === end);
    if (keys.length === 0) continue;
    const items = keys.map((key) => fieldItem(map, key));
    if (i === 0) return items;
    const before = parts.slice(0, i);
    const fitting = items.filter(({ names }) => names.some((one) => one.split('.')[0].includes(before[i - 1])));
    const first = before.length === 1 ? fieldKeys(map, (path) => path === before[0]) : [];
    const outer = before.length === 1 ? first.map((key) => fieldItem(map, key)) : wayItems(map, before);
    return [...outer, ...(fitting.length > 0 ? fitting : items)];
  }
  return [];
}

/** What architectures put into a member of a table of functions. */
function implementations(map: DriverMap, field: WhereItem): WhereItem[] {
  const match = /^uvm_(\w+)_hal_struct\.(\w+)$/.exec(field.name);
  if (match === null) return [];
  return itemsEnding(map, `_${match[1]}_${match[2]}`).filter(({ name }) => name.startsWith('uvm_hal_'));
}

/** Everything whose name ends so. */
function itemsEnding(map: DriverMap, end: string): WhereItem[] {
  const names = new Set<string>();
  for (const { byName } of map.branches)
    for (const name of byName.keys()) if (name.endsWith(end)) names.add(newestName(name));
  const items = [...names].flatMap((name) => definedItem(map, name) ?? []);
  return [...items, ...fieldKeys(map, (path) => path.endsWith(end)).map((key) => fieldItem(map, key))];
}

/**
 * A name as people write it in notes: without the arguments of a call, without "…" and what stands before it, and with
 * arrows as dots.
 */
export function plainName(text: string): string {
  const name = text
    .trim()
    .replace(/\(.*$/s, '')
    .replaceAll('->', '.')
    .replace(/^.*(?:…|\.\.\.)/s, '');
  return name.replace(/^[.&*\s]+|[.;\s]+$/g, '').replace(/^(?:struct|union|enum)\s+/, '');
}

/** All that a name can stand for, best first; none: `nearest` has names that are like it. */
export interface WhereAnswer {
  readonly name: string;
  readonly items: readonly WhereItem[];
  /** Names that end so, where they are too many to be answers. */
  readonly others: readonly string[];
  readonly nearest: readonly string[];
}

function knownNames(map: DriverMap): string[] {
  const names = new Set<string>();
  for (const { byName, fields } of map.branches) {
    for (const name of byName.keys()) names.add(name);
    for (const field of fields) names.add(lastWord(field.name));
  }
  return [...names];
}

/** Looks a name up: of a function, a type, a module parameter, a field or a value of an enumeration. */
export function whereName(map: DriverMap, text: string): WhereAnswer {
  const name = plainName(text);
  let items = name === '' ? [] : exactItems(map, name);
  items.push(...items.filter(({ kind }) => kind === 'field').flatMap((item) => implementations(map, item)));
  if (items.length === 0 && /^\w+$/.test(name)) items = itemsEnding(map, `_${name}`);
  if (items.length > FITS_MAX) return { name, items: [], others: items.map((item) => item.name), nearest: [] };
  const nearest = items.length > 0 ? [] : nearestNames(name, knownNames(map));
  return { name, items, others: [], nearest };
}

/** What stands at a line of a file in a branch. */
export interface WhereLine {
  readonly branch: string;
  readonly tag: string;
  readonly file: string;
  readonly line: number;
  /** The function, type or parameter there; null between definitions. */
  readonly definition: Definition | null;
  /** Its neighbours, where it is null. */
  readonly before: Definition | null;
  readonly after: Definition | null;
  /** Calls on the line, or on the nearest line before it in the function, in the order of evaluation. */
  readonly calls: readonly NamedLine[];
  /** Whether the map has the calls of this function. */
  readonly callsKnown: boolean;
  readonly field: Field | null;
  /** The definition over the branches. */
  readonly item: WhereItem | null;
  /** What stands at the same line in other branches: "535: init_queue_on_node". */
  readonly elsewhere: readonly { readonly branch: string; readonly name: string }[];
}

/** The innermost definition around a line. */
function around(branch: Branch, file: string, line: number): Definition | null {
  const fits = (branch.byFile.get(file) ?? []).filter(({ from, to }) => from <= line && line <= to);
  return fits.length === 0 ? null : fits.reduce((a, b) => (b.to - b.from < a.to - a.from ? b : a));
}

function callsAt(branch: Branch, definition: Definition, line: number): readonly NamedLine[] | null {
  const calls = branch.calls.get(`${definition.file}:${definition.name}`);
  if (calls === undefined) return null;
  const at = calls.findLast((call) => call.line <= line)?.line;
  return calls.filter((call) => call.line === at);
}

/**
 * Looks a line up. `file` is a name in kernel-open/nvidia-uvm that the branch has; `line` counts from 1.
 */
export function whereLine(map: DriverMap, branch: Branch, file: string, line: number): WhereLine {
  const definitions = branch.byFile.get(file) ?? [];
  const definition = around(branch, file, line);
  const calls = definition === null ? null : callsAt(branch, definition, line);
  const isType = definition !== null && definition.kind !== 'function' && definition.kind !== 'parameter';
  const elsewhere = map.branches.flatMap((other) => {
    const name = other === branch ? undefined : around(other, file, line)?.name;
    return name === undefined ? [] : [{ branch: other.branch, name }];
  });
  return {
    branch: branch.branch,
    tag: branch.tag,
    file,
    line,
    definition,
    before: definition === null ? (definitions.findLast(({ to }) => to < line) ?? null) : null,
    after: definition === null ? (definitions.find(({ from }) => from > line) ?? null) : null,
    calls: calls ?? [],
    callsKnown: calls !== null,
    field: isType ? (branch.fields.findLast((one) => one.file === file && one.line === line) ?? null) : null,
    item: definition === null ? null : definedItem(map, definition.name),
    elsewhere,
  };
}

/** The file names of a map, of all branches. */
export function fileNames(map: DriverMap): string[] {
  return [...new Set(map.branches.flatMap(({ byFile }) => [...byFile.keys()]))];
}
