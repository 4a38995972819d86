/** Where a step of a walk stands among the functions of the driver. */
import type { Walk } from '../src/explorer/api.ts';

/** Functions that a step stands in, the outermost first, each with the step in which it was called. */
export function stackOf({ steps }: Pick<Walk, 'steps'>, step: number): { at: number; name: string }[] {
  const stack: { at: number; name: string }[] = [];
  let depth = steps[step]?.depth ?? 0;
  for (let at = step - 1; at >= 0 && depth > 0; at--) {
    const its = steps[at];
    if (its.depth >= depth) continue;
    depth = its.depth;
    if (its.kind === 'call') stack.unshift({ at, name: its.title.split(':')[0] });
  }
  return stack;
}

/** Lines without the indentation that all of them have. */
export function dedented(lines: readonly string[]): string {
  const indents = lines.filter((line) => line.trim() !== '').map((line) => line.length - line.trimStart().length);
  const least = Math.min(...indents, 80);
  return lines.map((line) => line.slice(least)).join('\n');
}
