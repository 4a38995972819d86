/**
 * The map of the UVM driver's branches: where functions, types, fields and module parameters are defined, what some of
 * the functions call, and where the model has them. Facts only, made by scripts/driver-map.mjs; read when first asked.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from './machines.ts';

export type DefinitionKind = 'function' | 'struct' | 'union' | 'enum' | 'parameter';

export interface Definition {
  readonly kind: DefinitionKind;
  readonly name: string;
  /** In kernel-open/nvidia-uvm. */
  readonly file: string;
  /** Lines count from 1; both belong to the definition. */
  readonly from: number;
  readonly to: number;
  /** Stands under a condition of the preprocessor. */
  readonly conditional: boolean;
}

export interface NamedLine {
  readonly name: string;
  readonly line: number;
}

/** A field of a structure, or a value of an enumeration. */
export interface Field extends NamedLine {
  readonly type: string;
  readonly typeKind: DefinitionKind;
  /** As in "replayable.cached_get": the way through unnamed structures. */
  readonly name: string;
  readonly file: string;
}

/** Where the model has something: `symbol` is null where only a file's comments name it. */
export interface ModelPlace {
  readonly path: string;
  readonly symbol: string | null;
  /** By the rule of names (vaBlockMap), or because the comment of the symbol has the driver's name. */
  readonly by: 'name' | 'comment';
}

export interface Branch {
  readonly branch: string;
  /** The version whose lines the map has. */
  readonly tag: string;
  readonly byName: ReadonlyMap<string, readonly Definition[]>;
  /** In the order of their lines. */
  readonly byFile: ReadonlyMap<string, readonly Definition[]>;
  readonly fields: readonly Field[];
  /** By file and function, as "uvm_push.c:uvm_push_end". */
  readonly calls: ReadonlyMap<string, readonly NamedLine[]>;
}

export interface DriverMap {
  readonly source: string;
  readonly folder: string;
  readonly branches: readonly Branch[];
  /** By the driver's name of a function or type. */
  readonly places: ReadonlyMap<string, ModelPlace>;
  /** By TYPE.FIELD, or by the last word of a field's path. */
  readonly fieldPlaces: ReadonlyMap<string, ModelPlace>;
}

/** What is the same in several branches: their indices, and the text. */
type Shared = readonly (readonly [branches: readonly number[], text: string])[];

interface MapFile {
  readonly source: string;
  readonly folder: string;
  readonly tags: readonly string[];
  readonly files: Readonly<Record<string, { readonly names: string; readonly at: Shared }>>;
  readonly fields: Readonly<Record<string, Shared>>;
  readonly callees: string;
  readonly calls: Readonly<Record<string, Shared>>;
}

type PlaceFile = Readonly<Record<string, readonly [path: string, symbol: string | null, by?: string]>>;

const KINDS: Readonly<Record<string, DefinitionKind>> = {
  f: 'function',
  s: 'struct',
  u: 'union',
  e: 'enum',
  p: 'parameter',
};

interface BranchParts {
  readonly byName: Map<string, Definition[]>;
  readonly byFile: Map<string, Definition[]>;
  readonly fields: Field[];
  readonly calls: Map<string, NamedLine[]>;
}

function numbers(text: string): number[] {
  return text.split(' ').map((word) => Number.parseInt(word, 36));
}

/** `at`: for each definition the step of its name's index, of its first line, and its length with the condition. */
function readDefinitions(file: string, names: readonly string[], at: string): Definition[] {
  const found: Definition[] = [];
  const steps = numbers(at);
  let index = 0;
  let from = 0;
  for (let i = 0; i < steps.length; i += 3) {
    index += steps[i];
    from += steps[i + 1];
    const size = steps[i + 2];
    const tagged = names[index];
    const kind = KINDS[tagged[0]];
    found.push({ kind, name: tagged.slice(1), file, from, to: from + (size >> 1), conditional: (size & 1) === 1 });
    index++;
  }
  return found;
}

function addFile(parts: BranchParts, file: string, definitions: readonly Definition[]): void {
  parts.byFile.set(file, [...definitions]);
  for (const definition of definitions) {
    const same = parts.byName.get(definition.name);
    if (same === undefined) parts.byName.set(definition.name, [definition]);
    else same.push(definition);
  }
}

function addFields(parts: BranchParts, key: string, text: string): void {
  const [file, type] = key.split(':');
  const of = parts.byName.get(type)?.find((one) => one.file === file && one.kind !== 'function');
  if (of === undefined) throw new Error(`the driver map has fields of ${key}, and no such type`);
  const words = text.split(' ');
  for (let i = 0; i < words.length; i += 2) {
    const line = of.from + Number.parseInt(words[i + 1], 36);
    parts.fields.push({ type, typeKind: of.kind, name: words[i], file, line });
  }
}

function addCalls(parts: BranchParts, key: string, text: string, callees: readonly string[]): void {
  const [file, caller] = key.split(':');
  let line = parts.byName.get(caller)?.find((one) => one.file === file)?.from ?? 0;
  const steps = numbers(text);
  const calls: NamedLine[] = [];
  for (let i = 0; i < steps.length; i += 2) {
    line += steps[i];
    calls.push({ name: callees[steps[i + 1]], line });
  }
  parts.calls.set(key, calls);
}

function places(file: PlaceFile): Map<string, ModelPlace> {
  const found = new Map<string, ModelPlace>();
  for (const [name, [path, symbol, by]] of Object.entries(file)) {
    found.set(name, { path, symbol, by: by === 'comment' || symbol === null ? 'comment' : 'name' });
  }
  return found;
}

function readMap(map: MapFile, model: { places: PlaceFile; fields: PlaceFile }): DriverMap {
  const parts = map.tags.map(
    (): BranchParts => ({ byName: new Map(), byFile: new Map(), fields: [], calls: new Map() }),
  );
  for (const [file, { names, at }] of Object.entries(map.files)) {
    for (const [branches, text] of at) {
      const definitions = readDefinitions(file, names.split(' '), text);
      for (const b of branches) addFile(parts[b], file, definitions);
    }
  }
  for (const [key, shared] of Object.entries(map.fields)) {
    for (const [branches, text] of shared) for (const b of branches) addFields(parts[b], key, text);
  }
  const callees = map.callees.split(' ');
  for (const [key, shared] of Object.entries(map.calls)) {
    for (const [branches, text] of shared) for (const b of branches) addCalls(parts[b], key, text, callees);
  }
  return {
    source: map.source,
    folder: map.folder,
    branches: parts.map((part, b) => ({ branch: map.tags[b].split('.')[0], tag: map.tags[b], ...part })),
    places: places(model.places),
    fieldPlaces: places(model.fields),
  };
}

let loaded: DriverMap | null = null;

function readJson<T>(name: string): T {
  return JSON.parse(readFileSync(join(packageRoot(), 'data', name), 'utf8')) as T;
}

/** The package's map. */
export function loadDriverMap(): DriverMap {
  loaded ??= readMap(readJson('driver-map.json'), readJson('driver-model.json'));
  return loaded;
}

/** The branch of a name (580) or of a full version that the map has (580.105.08); null where there is none. */
export function findBranch(map: DriverMap, name: string): Branch | null {
  return map.branches.find(({ branch, tag }) => branch === name || tag === name) ?? null;
}

/** "535 (535.288.01), …": what findBranch knows. */
export function branchChoices(map: DriverMap): string {
  return map.branches.map(({ branch, tag }) => `${branch} (${tag})`).join(', ');
}
