/** docs/report.md shows commands and what they print: each is run, and prints that. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { captureCli } from './support/captured_cli.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const text = readFileSync(`${root}docs/report.md`, 'utf8');
const cli = captureCli();

interface Shown {
  command: string;
  lines: string[];
  /** More is printed than is shown. */
  cut: boolean;
}

/** The blocks that begin with a command. */
function shownCommands(): Shown[] {
  const blocks = text.match(/(?:^ {4}.*\n)+/gm) ?? [];
  return blocks.flatMap((block) => {
    const [first, ...rest] = block
      .trimEnd()
      .split('\n')
      .map((line) => line.slice(4));
    if (!first.startsWith('$ npx uvmlab ')) return [];
    const cut = rest.at(-1) === '…';
    return [{ command: first.slice('$ npx uvmlab '.length), lines: cut ? rest.slice(0, -1) : rest, cut }];
  });
}

/** The words of a command line; double quotes hold one together. */
function words(command: string): string[] {
  const found = command.match(/"[^"]*"|\S+/g) ?? [];
  return found
    .map((word) => word.replace(/^"|"$/g, ''))
    .map((word) => word.replace(/^recordings\//, `${root}recordings/`));
}

describe('docs/report.md', () => {
  const all = shownCommands();

  it('shows two reports, and questions to the recordings', () => {
    const of = (what: string): number => all.filter(({ command }) => command.startsWith(what)).length;
    expect([of('report'), of('query')]).toEqual([2, 8]);
  });

  it.each(all)('$command', async ({ command, lines, cut }) => {
    expect(await cli.run(...words(command))).toBe(0);
    const printed = cli.out.replaceAll(root, '').trimEnd().split('\n');
    expect(cut ? printed.slice(0, lines.length) : printed).toEqual(lines);
  });

  it('has in the README the answers that it has', async () => {
    const readme = readFileSync(`${root}README.md`, 'utf8');
    const [answers] = all.filter(({ command }) => command === 'report recordings/h100-cupy-sort.uvmrec');
    for (const line of answers.lines.slice(1)) expect(readme).toContain(`    ${line}\n`);
    expect(answers.lines.length).toBeGreaterThan(4);
  });
});
