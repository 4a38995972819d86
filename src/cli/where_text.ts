/** The answers of the command `where` as text. */
import type { Definition, ModelPlace } from '../analysis/driver_map.ts';
import {
  MODEL_BRANCH,
  type Spot,
  type WhereItem,
  type WhereLine,
  type WhereParameter,
} from '../analysis/driver_where.ts';
import { type Colors, table } from './text.ts';

const CALLERS_SHOWN = 8;

function lines({ from, to }: { from: number; to: number }): string {
  return from === to ? `${from}` : `${from}..${to}`;
}

function placeText(place: ModelPlace | null): string {
  if (place === null) return 'not in it';
  if (place.symbol === null) return `${place.path}, in a comment`;
  return `${place.path}:${place.symbol}${place.by === 'comment' ? ', whose comment names it' : ''}`;
}

function parameterText({ default: value, valid }: WhereParameter): string {
  const range = valid as { min: number; max: number; outside: string } | null;
  if (valid === null) return `${value}; every value is valid`;
  if (Array.isArray(valid)) return `${value}; valid: ${valid.join(', ')}`;
  const other = range?.outside === 'clamp' ? 'the nearest valid value' : 'the default';
  return `${value}; valid: ${range?.min} to ${range?.max}, for others the driver takes ${other}`;
}

function branchRows(item: WhereItem, colors: Colors): string[][] {
  return item.branches.flatMap(({ tag, at }) => {
    if (at.length === 0) return [[tag, colors.dim('not there'), '', '']];
    return at.map((spot: Spot, i) => [
      i === 0 ? tag : '',
      spot.name === item.name ? spot.name : colors.bold(spot.name),
      `${spot.file}:${lines(spot)}`,
      spot.conditional ? 'under an #if' : '',
    ]);
  });
}

function callersText(item: WhereItem): string {
  const shown = item.calledBy.slice(0, CALLERS_SHOWN).map(({ name, file, from }) => `${name} (${file}:${from})`);
  const rest = item.calledBy.length - CALLERS_SHOWN;
  if (rest > 0) shown.push(`and ${rest} more`);
  return shown.map((text, i) => `  ${i === 0 ? `in ${MODEL_BRANCH} called by` : ' '.repeat(16)}  ${text}\n`).join('');
}

function itemText(item: WhereItem, colors: Colors): string {
  const older = item.names.filter((name) => name !== item.name);
  const was = older.length === 0 ? '' : `; earlier ${older.join(', ')}`;
  let text = `${colors.bold(item.name)}: ${item.kind}${was}\n`;
  const header = ['driver', 'name there', 'where', ''].map((cell) => colors.dim(cell));
  text += table([header, ...branchRows(item, colors)], 'llll', '  ');
  if (item.parameter !== null) text += `  default           ${parameterText(item.parameter)}\n`;
  text += callersText(item);
  text += `  in the model      ${placeText(item.model)}\n`;
  return text;
}

export function whereNameText(items: readonly WhereItem[], colors: Colors): string {
  return items.map((item) => itemText(item, colors)).join('\n');
}

function neighbour(word: string, one: Definition | null): string {
  return one === null ? '' : ` ${word} ${one.name} (${lines(one)})`;
}

function callsText({ calls, callsKnown, line, definition }: WhereLine, colors: Colors): string {
  if (definition === null || definition.kind !== 'function') return '';
  if (!callsKnown) return '  The map does not have the calls of this function: the model does not name it.\n';
  if (calls.length === 0) return '  No call to another function of the driver at or before this line of it.\n';
  const names = calls.map((call) => (call.name[0] === '.' ? `${call.name.slice(1)} (through a table)` : call.name));
  const where = calls[0].line === line ? 'on this line' : `nearest before it, on line ${calls[0].line}`;
  return `  call  ${names.map((name) => colors.bold(name)).join(', inside the call of ')}: ${where}\n`;
}

/** `asked`: whether the user said which driver. */
export function whereLineText(answer: WhereLine, asked: boolean, colors: Colors): string {
  const { file, line, tag, definition, before, after, field, item, elsewhere } = answer;
  const head = `${file}:${line} in ${tag}: `;
  let text = head;
  if (definition === null) {
    text += `between definitions:${neighbour('after', before)}${neighbour('before', after)}\n`;
    if (after === null) text += '  the last definition of the file; where the file ends the map does not know\n';
  } else {
    const kind = definition.kind === 'function' ? '' : `${definition.kind} `;
    const of = field === null ? '' : `${field.name} of `;
    text += `${of}${kind}${colors.bold(definition.name)} (${lines(definition)})\n`;
    text += callsText(answer, colors);
  }
  const others = elsewhere.filter(({ name }) => name !== definition?.name);
  if (!asked && others.length > 0) {
    const list = others.map(({ branch, name }) => `${branch} ${name}`).join(', ');
    text += `  the same line in other branches: ${list} (--driver says which one is meant)\n`;
  }
  return item === null ? text : `${text}\n${itemText(item, colors)}`;
}
