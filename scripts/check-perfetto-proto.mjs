/**
 * Compares test/fixtures/perfetto-trace.proto, by which the tests read exported traces, with a copy of the file that
 * Perfetto publishes: every message, and of every field its name, number, type, label and oneof, and every value.
 *
 *     node scripts/check-perfetto-proto.mjs perfetto_trace.proto
 *
 * The published file is protos/perfetto/trace/perfetto_trace.proto of https://github.com/google/perfetto.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { isMain, root } from './steps.mjs';

/** @param {protobuf.Field} field */
function fieldText(field) {
  const label = field.repeated ? 'repeated ' : field.required ? 'required ' : '';
  const type = field.resolvedType === null ? field.type : field.resolvedType.fullName;
  return `${label}${type} ${field.name} = ${field.id}${field.partOf ? ` in ${field.partOf.name}` : ''}`;
}

/** @param {string} text */
function parse(text) {
  const { root: parsed } = protobuf.parse(text, { keepCase: true });
  parsed.resolveAll();
  return parsed;
}

/**
 * What the listing has that the published file does not have so, and how much was compared.
 * @param {string} listing
 * @param {string} published
 */
export function compareProtos(listing, published) {
  const full = parse(published);
  /** @type {string[]} */
  const differences = [];
  let compared = 0;
  /** @param {protobuf.NamespaceBase} space */
  const walk = (space) => {
    for (const one of space.nestedArray) {
      const twin = find(full, one.fullName.slice(1).split('.'));
      compared++;
      if (one instanceof protobuf.Type) {
        if (!(twin instanceof protobuf.Type)) differences.push(`message ${one.fullName}: not published`);
        else {
          for (const field of one.fieldsArray) {
            compared++;
            const other = twin.fields[field.name];
            const [mine, its] = [fieldText(field), other === undefined ? 'nothing' : fieldText(other)];
            if (mine !== its) differences.push(`${one.fullName}: ${mine}; published: ${its}`);
          }
        }
      } else if (one instanceof protobuf.Enum) {
        if (!(twin instanceof protobuf.Enum)) differences.push(`enum ${one.fullName}: not published`);
        else {
          for (const [name, value] of Object.entries(one.values)) {
            compared++;
            const its = twin.values[name];
            if (its !== value) differences.push(`${one.fullName}: ${name} = ${value}; published: ${its ?? 'nothing'}`);
          }
        }
      }
      if (one instanceof protobuf.Namespace) walk(one);
    }
  };
  walk(parse(listing));
  return { compared, differences };
}

/**
 * @param {protobuf.NamespaceBase} space
 * @param {string[]} path
 * @returns {protobuf.ReflectionObject | null}
 */
function find(space, path) {
  /** @type {protobuf.ReflectionObject | null} */
  let at = space;
  for (const name of path) at = at instanceof protobuf.Namespace ? at.get(name) : null;
  return at;
}

function main() {
  const path = process.argv[2];
  if (path === undefined) {
    console.error('usage: node scripts/check-perfetto-proto.mjs perfetto_trace.proto');
    return 2;
  }
  const listing = readFileSync(join(root, 'test/fixtures/perfetto-trace.proto'), 'utf8');
  const { compared, differences } = compareProtos(listing, readFileSync(path, 'utf8'));
  for (const line of differences) console.error(line);
  console.log(`${compared} messages, fields, enums and values compared, ${differences.length} differ`);
  return differences.length === 0 ? 0 : 1;
}

if (isMain(import.meta.url)) process.exitCode = main();
