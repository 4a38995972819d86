/** The option `--names`: the driver's functions under the names that they have in another branch. */
import { branchChoices, findBranch, loadDriverMap } from '../analysis/driver_map.ts';
import { allNames } from '../analysis/driver_renames.ts';
import { MODEL_BRANCH } from '../analysis/driver_where.ts';
import { UsageError } from './command.ts';

export interface BranchNames {
  /** The name there; one that the branch does not have stays as it is, with a mark. */
  marked(name: string): string;
  /** The mark's footnote, with what the names are of. */
  footnote(): string;
  /** A copy of plain data in which every `function` has its name there. */
  renamed(data: unknown): unknown;
  /** What JSON says of the names: the version, and those that it does not have. Call it after `renamed`. */
  summary(): { names: { driver: string; notThere: string[] } };
}

const MARK = '*';

/** The names of a branch or version. Throws a UsageError that lists those that there are. */
export function branchNames(wanted: string): BranchNames {
  const map = loadDriverMap();
  const branch = findBranch(map, wanted);
  if (branch === null) throw new UsageError(`--names ${wanted}: not in the map; valid: ${branchChoices(map)}`);
  const missing = new Set<string>();
  const nameThere = (name: string): string => {
    const there = allNames(name).findLast((one) => branch.byName.has(one));
    if (there === undefined) missing.add(name);
    return there ?? name;
  };
  const renamed = (data: unknown): unknown => {
    if (Array.isArray(data)) return data.map(renamed);
    if (typeof data !== 'object' || data === null) return data;
    return Object.fromEntries(
      Object.entries(data).map(([key, value]) => [
        key,
        key === 'function' && typeof value === 'string' ? nameThere(value) : renamed(value),
      ]),
    );
  };
  return {
    marked: (name) => {
      const there = nameThere(name);
      return missing.has(name) ? there + MARK : there;
    },
    footnote: () => {
      const what = `what happens is what ${MODEL_BRANCH} does`;
      const head = `\nNames of functions are those of driver ${branch.tag}; ${what}.\n`;
      if (missing.size === 0) return head;
      return `${head}${MARK} not a function of ${branch.tag} under this name: ${[...missing].sort().join(', ')}\n`;
    },
    renamed,
    summary: () => ({ names: { driver: branch.tag, notThere: [...missing].sort() } }),
  };
}
