/**
 * Proposes renames between neighbouring branches: a function that goes and one that comes in the same file, with bodies
 * of nearly the same words. It only proposes; the reviewed table is src/analysis/driver_renames.ts.
 */
import { stripComments } from './driver-scan.mjs';

/**
 * @param {string} text
 * @param {{ from: number, to: number, name: string }} one
 */
function words(text, { from, to, name }) {
  const body = text
    .split('\n')
    .slice(from - 1, to)
    .join('\n');
  return (body.match(/[A-Za-z_]\w*/g) ?? []).filter((word) => word !== name);
}

/**
 * The share of words that two lists have in common, 0 to 1.
 * @param {string[]} a
 * @param {string[]} b
 */
function likeness(a, b) {
  const counts = new Map();
  for (const word of a) counts.set(word, (counts.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of b) {
    const left = counts.get(word) ?? 0;
    if (left > 0) common++;
    counts.set(word, left - 1);
  }
  return (2 * common) / (a.length + b.length || 1);
}

/**
 * @param {{ tag: string, files: Map<string, import('./driver-scan.mjs').FileFacts> }[]} branches
 * @param {Map<string, string>[]} texts by branch and file
 * @param {Record<string, unknown>} model names that the model has
 */
export function printRenames(branches, texts, model) {
  for (let b = 1; b < branches.length; b++) {
    const before = branches[b - 1];
    const after = branches[b];
    const all = (/** @type {typeof before} */ { files }) =>
      new Set([...files.values()].flatMap((facts) => facts.functions.map((one) => one.name)));
    const [had, has] = [all(before), all(after)];
    const stripped = [texts[b - 1], texts[b]].map(
      (by) => new Map([...by].map(([name, text]) => [name, stripComments(text)])),
    );
    for (const [file, facts] of before.files) {
      const gone = facts.functions.filter(({ name }) => !has.has(name));
      for (const old of gone) {
        const oldWords = words(stripped[0].get(file) ?? '', old);
        const candidates = [...after.files].flatMap(([file2, facts2]) =>
          facts2.functions
            .filter(({ name }) => !had.has(name))
            .map((now) => ({ now, file2, share: likeness(oldWords, words(stripped[1].get(file2) ?? '', now)) })),
        );
        candidates.sort((x, y) => y.share - x.share);
        const [best] = candidates;
        if (best === undefined || best.share < 0.6) {
          if (old.name in model) console.log(`${before.tag} -> ${after.tag}: ${old.name} (${file}) is gone`);
          continue;
        }
        const mark = old.name in model || best.now.name in model ? '*' : ' ';
        console.log(
          `${mark} ${before.tag} -> ${after.tag}: ${old.name} -> ${best.now.name} (${file} ${best.file2}, ${best.share.toFixed(2)})`,
        );
      }
    }
  }
}
