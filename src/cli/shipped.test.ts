import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../analysis/machines.ts';
import { shippedHint } from './shipped.ts';

describe('a file that is not there', () => {
  const message = 'elsewhere/cpu.jsonl.gz: no such file';

  it('may be one that the package has', () => {
    expect(shippedHint(message, ['report', 'elsewhere/cpu.jsonl.gz'], join(packageRoot(), 'docs'))).toBe(
      `; uvmlab comes with ${join('..', 'recordings', 'cpu.jsonl.gz')}`,
    );
    expect(shippedHint('two-sides.json: no such file', ['two-sides.json'], packageRoot())).toBe(
      `; uvmlab comes with ${join('examples', 'two-sides.json')}`,
    );
  });

  it('is not talked about where the message is of something else', () => {
    expect(shippedHint(message, ['report', 'other'])).toBe('');
    expect(shippedHint('none.json: no such file', ['none.json'])).toBe('');
    expect(shippedHint('elsewhere/cpu.jsonl.gz: line 3', ['elsewhere/cpu.jsonl.gz'])).toBe('');
    expect(shippedHint('.: no such file', ['.'])).toBe('');
  });
});
