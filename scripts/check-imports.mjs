/**
 * Holds src/ to the import table of .dependency-cruiser.cjs. Every TypeScript file of src/ must have been seen:
 * with a compiler it cannot use, dependency-cruiser finds nothing and calls that a success.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { root } from './steps.mjs';

/** @typedef {{ from: string, to: string, rule: { name: string }, comment?: string, cycle?: { name: string }[] }} Violation */
/** @typedef {{ modules: { source: string }[], summary: { violations: Violation[], totalDependenciesCruised: number,
 *   ruleSetUsed: { forbidden: { name: string, comment: string }[] } } }} CruiseResult */

/** @returns {CruiseResult} */
function cruise() {
  const bin = `${root}node_modules/dependency-cruiser/bin/dependency-cruise.mjs`;
  const args = [bin, 'src', 'web', '--config', '.dependency-cruiser.cjs', '--output-type', 'json'];
  const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
  try {
    return JSON.parse(stdout);
  } catch {
    console.error(stderr || stdout);
    throw new Error('dependency-cruiser gave no result');
  }
}

const { modules, summary } = cruise();
const why = new Map(summary.ruleSetUsed.forbidden.map((rule) => [rule.name, rule.comment]));
let failed = false;
for (const v of summary.violations) {
  failed = true;
  const cycle = v.cycle ? ` -> ${v.cycle.map((c) => c.name).join(' -> ')}` : ` -> ${v.to}`;
  console.error(`${v.from}${cycle}\n    ${v.rule.name}: ${why.get(v.rule.name) ?? ''}`);
}

const seen = new Set(modules.map((m) => m.source));
const files = readdirSync(`${root}src`, { recursive: true, encoding: 'utf8' })
  .map((name) => `src/${name.replaceAll('\\', '/')}`)
  .filter((name) => name.endsWith('.ts'));
const unseen = files.filter((name) => !seen.has(name));
if (files.length === 0 || unseen.length > 0) {
  failed = true;
  console.error(
    `The import check saw ${files.length - unseen.length} of the ${files.length} TypeScript files of src/.`,
  );
  for (const name of unseen.slice(0, 5)) console.error(`    not seen: ${name}`);
}
if (!failed) console.log(`${files.length} files, ${summary.totalDependenciesCruised} imports, all within the table`);
process.exitCode = failed ? 1 : 0;
