/** "Did you mean": the names that are most like one that nobody knows. */

const SHOWN = 5;

/** Insertions, deletions and replacements that lead from `a` to `b`. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}

/** Up to five of `known`, the nearest first: those that contain the name, then those a few letters away. */
export function nearestNames(name: string, known: readonly string[]): string[] {
  const wanted = name.toLowerCase();
  if (wanted === '') return [];
  const most = Math.max(2, Math.floor(wanted.length / 3));
  const scored: { name: string; score: number }[] = [];
  for (const one of known) {
    const lower = one.toLowerCase();
    if (lower.includes(wanted)) scored.push({ name: one, score: (lower.length - wanted.length) / 100 });
    else if (Math.abs(lower.length - wanted.length) <= most) {
      const score = editDistance(wanted, lower);
      if (score <= most) scored.push({ name: one, score });
    }
  }
  scored.sort((a, b) => a.score - b.score || (a.name < b.name ? -1 : 1));
  return scored.slice(0, SHOWN).map((one) => one.name);
}
