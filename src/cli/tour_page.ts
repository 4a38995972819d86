/** How the tour is laid out: headings, what the notes say, paragraphs, stages with their times, tables. */
import { RENAMES } from '../analysis/driver_renames.ts';
import { microseconds, type TextStyle, wrap } from '../analysis/explain_layout.ts';
import { table } from './text.ts';

/** What a function was called in 535 and 545; undefined where it has the same name there. */
export function earlierName(name: string): string | undefined {
  return RENAMES.find(([, newer]) => newer === name)?.[0];
}

/** "uvm_gpu_init_isr (from 550 on uvm_parent_gpu_init_isr)". */
export function bothNames(name: string): string {
  const rename = RENAMES.find(([, newer]) => newer === name);
  return rename === undefined ? name : `${rename[0]} (from ${rename[2]} on ${name})`;
}

const INDENT = '  ';
const STAGE_WIDTH = 24;

export class TourPage {
  readonly style: TextStyle;
  #zero: number;
  #width: number;
  #text = '';

  /** `zero` is the time that `at` counts from, ns. */
  constructor(zero: number, style: TextStyle, width: number) {
    this.#zero = zero;
    this.style = style;
    this.#width = width;
  }

  get text(): string {
    return this.#text;
  }

  /** Microseconds since the fault's entry, as "+3.004". */
  at(time: number): string {
    return `${time < this.#zero ? '-' : '+'}${microseconds(Math.abs(time - this.#zero))}`;
  }

  #lines(text: string, indent: string, first = indent): void {
    for (const [i, line] of wrap(text, this.#width - indent.length).entries()) {
      this.#text += `${(i === 0 ? first : indent) + line}\n`;
    }
  }

  title(text: string): void {
    this.#text += `${this.style.strong(text)}\n\n`;
  }

  heading(item: number, text: string): void {
    const line = `${item}. ${text}`;
    this.#text += `\n${this.style.strong(line)}\n${this.style.strong('='.repeat(line.length))}\n\n`;
  }

  part(text: string): void {
    this.#text += `${this.style.strong(text)}\n\n`;
  }

  /** What the notes say. */
  notes(text: string): void {
    for (const line of wrap(text, this.#width - 2)) this.#text += `${this.style.faint(`> ${line}`)}\n`;
    this.#text += '\n';
  }

  paragraph(text: string): void {
    this.#lines(text, INDENT);
    this.#text += '\n';
  }

  /** One station on the way: its name, when it began, and what happened. */
  stage(name: string, time: number, text: string): void {
    const indent = ' '.repeat(STAGE_WIDTH + 2);
    const label = name.padEnd(STAGE_WIDTH - 9);
    const first = `${INDENT}${this.style.strong(label)}${this.at(time).padStart(9)}${INDENT}`;
    this.#lines(text, `${indent}${INDENT}`, first);
  }

  blank(): void {
    this.#text += '\n';
  }

  /** A table; its first row is the header. */
  table(rows: readonly (readonly string[])[], align: string): void {
    const [header, ...rest] = rows;
    this.#text += `${table([header.map((cell) => this.style.faint(cell)), ...rest], align, '    ')}\n`;
  }
}
