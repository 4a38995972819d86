/** Numbers, units and tables as people read them. */
import pc from 'picocolors';

export type Colors = ReturnType<typeof pc.createColors>;
export const PLAIN: Colors = pc.createColors(false);

/** Colours for a terminal alone, and there unless the user asked for none. */
export function colorsFor(stream: { isTTY?: boolean }): Colors {
  const { NO_COLOR, TERM } = process.env;
  const wanted = stream.isTTY === true && (NO_COLOR === undefined || NO_COLOR === '') && TERM !== 'dumb';
  return pc.createColors(wanted);
}

/** 12345 as 12,345. */
export function count(n: number): string {
  return n.toLocaleString('en-US');
}

/** "1 case", "2 cases". */
export function counted(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

function threeDigits(n: number): string {
  const digits = n >= 99.95 ? 0 : n >= 9.995 ? 1 : 2;
  return n.toFixed(digits);
}

/** Microseconds with a unit that leaves one to three digits before the point. */
export function duration(microseconds: number): string {
  if (microseconds < 0.9995) return microseconds === 0 ? '0' : `${Math.round(microseconds * 1000)} ns`;
  if (microseconds < 999.5) return `${threeDigits(microseconds)} µs`;
  if (microseconds < 999_500) return `${threeDigits(microseconds / 1000)} ms`;
  return `${threeDigits(microseconds / 1e6)} s`;
}

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** 4096 as 4 KiB. */
export function bytes(n: number): string {
  let value = n;
  let unit = 0;
  while (value >= 1024 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : threeDigits(value)} ${BYTE_UNITS[unit]}`;
}

/** A share as a percentage without decimals. */
export function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

/** The length of a text as a terminal shows it: without colour codes. */
function shownLength(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the escape character begins a colour code
  return text.replace(/\u001b\[\d+m/g, '').length;
}

/** Cuts a text to a width; what is left out is shown as "...". */
export function clip(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 3)}...`;
}

/**
 * Rows of cells in columns, two blanks apart. `align` has one letter a column: l or r; a cell that is alone in its row
 * takes part in no column. Lines have no blanks at their ends.
 */
export function table(rows: readonly (readonly string[])[], align: string, indent = ''): string {
  const widths: number[] = [];
  for (const row of rows) {
    if (row.length === 1) continue;
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, shownLength(cell));
  }
  const lines = rows.map((row) => {
    if (row.length === 1) return indent + row[0];
    const cells = row.map((cell, i) => {
      const pad = ' '.repeat(widths[i] - shownLength(cell));
      return align[i] === 'r' ? pad + cell : cell + pad;
    });
    return `${indent}${cells.join('  ')}`.trimEnd();
  });
  return lines.map((line) => `${line}\n`).join('');
}
