/** How explanations are laid out: a column of times, indentation, lines that break, words for numbers and pages. */
import { type PageRun, runPages } from './explain_items.ts';

/** How parts of the text stand out; each gets text and gives it back with or without colour. */
export interface TextStyle {
  strong(text: string): string;
  faint(text: string): string;
  /** Functions of the driver. */
  call(text: string): string;
}

const same = (text: string): string => text;
export const PLAIN_STYLE: TextStyle = { strong: same, faint: same, call: same };

/** "1 page", "16 pages". */
export function counted(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}

export function list(words: readonly string[]): string {
  return words.length === 0 ? 'none' : words.join(', ');
}

/** "5" or "16..31". */
export function runText(run: PageRun): string {
  return run.count === 1 ? `${run.first}` : `${run.first}..${run.first + run.count - 1}`;
}

export const RUNS_SHOWN = 6;

/** "page 5", "pages 0..15, 32..47". */
export function pagesText(runs: readonly PageRun[]): string {
  const pages = runPages(runs);
  const shown = runs.slice(0, RUNS_SHOWN).map(runText).join(', ');
  const rest = runs.length > RUNS_SHOWN ? ` and ${counted(runs.length - RUNS_SHOWN, 'more run')}` : '';
  return `${pages === 1 ? 'page' : 'pages'} ${shown}${rest}`;
}

/** "16 pages 16..31", "page 5". */
export function countedPages(runs: readonly PageRun[]): string {
  const pages = runPages(runs);
  return pages === 1 ? pagesText(runs) : `${pages} ${pagesText(runs)}`;
}

/** Microseconds with three decimals. */
export function microseconds(ns: number): string {
  return (ns / 1000).toFixed(3);
}

export const TIME_WIDTH = 10;
const WIDTH_MIN = 80;

/** Columns that a text takes on a terminal: colour codes take none. */
function shownWidth(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the escape character begins a colour code
  return text.replace(/\u001b\[\d+m/g, '').length;
}

/** Breaks a text at blanks, so that no line is wider than `width`, except one that has no blank to break at. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && shownWidth(line) + 1 + shownWidth(word) > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}

/** Lines with a column of times since `zero`. */
export class TextBuilder {
  lines: string[] = [];
  readonly style: TextStyle;
  #zero: number;
  #width: number;

  constructor(zero: number, style: TextStyle, width: number) {
    this.#zero = zero;
    this.style = style;
    this.#width = Math.max(width, WIDTH_MIN);
  }

  /** A time since the zero, as in the column. */
  at(time: number): string {
    const since = microseconds(Math.abs(time - this.#zero));
    return `${time < this.#zero ? '-' : '+'}${since}`;
  }

  line(time: number | null, depth: number, text: string): void {
    const column = (time === null ? '' : this.at(time)).padStart(TIME_WIDTH);
    const indent = '  '.repeat(depth);
    const room = this.#width - TIME_WIDTH - 4 - indent.length;
    for (const [i, part] of wrap(text, room).entries()) {
      const start = i === 0 ? `${this.style.faint(column)}  ${indent}` : ' '.repeat(TIME_WIDTH + 4 + indent.length);
      this.lines.push((start + part).trimEnd());
    }
  }

  /** A line that is part of a table: kept as it is. */
  row(depth: number, text: string): void {
    this.lines.push(`${' '.repeat(TIME_WIDTH + 2 + 2 * depth)}${text}`.trimEnd());
  }

  /** A line that explains the one before it. */
  note(depth: number, text: string): void {
    this.line(null, depth, text);
  }
}
