import { describe, expect, it } from 'vitest';
import { FILE_LINES_MAX, LINE_COLUMNS_MAX, tidy } from '../scripts/tidy.mjs';

/** The findings on a tree of one file, with `present` as the only other paths that exist. */
function findings(path: string, text: string, present: string[] = []): string[] {
  return tidy([{ path, text }], (p) => p === path || present.includes(p));
}

const HEADER = '// Models uvm_tracker.c of 580.105.08.\n';

describe('tidy', () => {
  it('allows the last line that fits and refuses the next', () => {
    expect(findings('test/a.ts', 'x;\n'.repeat(FILE_LINES_MAX))).toEqual([]);
    expect(findings('test/a.ts', 'x;\n'.repeat(FILE_LINES_MAX + 1))).toEqual([
      'test/a.ts: 701 lines, at most 700: move one of its subjects into its own file',
    ]);
  });

  it('counts columns in src alone', () => {
    const fits = 'x'.repeat(LINE_COLUMNS_MAX);
    expect(findings('src/a.ts', fits)).toEqual([]);
    expect(findings('scripts/a.mjs', `${fits}x`)).toEqual([]);
    expect(findings('src/a.ts', `\n${fits}x`)).toEqual([
      'src/a.ts:2: 121 columns, at most 120: break the line, or name a part of it',
    ]);
  });

  it.each(['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK'])('refuses the marker %s as a word', (word) => {
    expect(findings('src/a.ts', `// ${word}: later`)[0]).toMatch(`src/a.ts:1: "${word}"`);
    expect(findings('src/a.ts', `const a${word}b = 1;`)).toEqual([]);
  });

  it.each(['only', 'skip', 'todo', 'skipIf'])('refuses .%s of a test, not of anything else', (word) => {
    expect(findings('src/a.test.ts', `it.${word}('a')`)).toHaveLength(1);
    expect(findings('src/a.test.ts', `describe.concurrent.${word}('a')`)).toHaveLength(1);
    expect(findings('src/a.test.ts', `reader.${word}(4)`)).toEqual([]);
  });

  it('wants a driver file named in the first comment of src/model/uvm', () => {
    expect(findings('src/model/uvm/tracker.ts', `${HEADER}x;`)).toEqual([]);
    expect(findings('src/model/uvm/tracker.ts', '/**\n * From `uvm_tracker.h`.\n */\nx;')).toEqual([]);
    expect(findings('src/model/uvm/tracker.ts', '// The tracker.\nx;')).toHaveLength(1);
    expect(findings('src/model/uvm/tracker.ts', `x;\n${HEADER}`)).toHaveLength(1);
    expect(findings('src/model/uvm/tracker.test.ts', 'x;')).toEqual([]);
    expect(findings('src/model/gpu/tlb.ts', 'x;')).toEqual([]);
  });

  it('follows relative links from where the document stands', () => {
    const text = 'See [a](../src/a.ts#L3), [b](decisions/b.md), [c](https://example.org/x) and [d](#here).';
    expect(findings('docs/x.md', text, ['src/a.ts', 'docs/decisions/b.md'])).toEqual([]);
    expect(findings('docs/x.md', text, ['src/a.ts'])).toEqual([
      'docs/x.md:1: the link to decisions/b.md leads nowhere: correct the path, or take the link out',
    ]);
    expect(findings('README.md', '[a]: gone.md')).toHaveLength(1);
    expect(findings('README.md', '[up](../other/x.md)')).toHaveLength(1);
  });

  it('leaves code in documents alone', () => {
    expect(findings('README.md', '`[a](gone.md)`\n```\n[a](gone.md)\n```\n')).toEqual([]);
    expect(findings('README.md', '```\n```\n[a](gone.md)')).toHaveLength(1);
  });
});
