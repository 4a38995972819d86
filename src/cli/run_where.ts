/** What the command `where` does. */
import { type Branch, branchChoices, type DriverMap, findBranch, loadDriverMap } from '../analysis/driver_map.ts';
import { fileNames, MODEL_BRANCH, whereLine, whereName } from '../analysis/driver_where.ts';
import { nearestNames } from '../analysis/nearest_names.ts';
import { EXIT_OK, UsageError } from './command.ts';
import { colorsFor } from './text.ts';
import { whereLineText, whereNameText } from './where_text.ts';

const NAMES_SHOWN = 40;
const FILE_LINE = /^(?:.*\/)?([\w.-]+\.[ch]):(.*)$/s;

/** The branch that the user names. */
export function wantedBranch(map: DriverMap, name: string, option: string): Branch {
  const branch = findBranch(map, name);
  if (branch === null) throw new UsageError(`${option} ${name}: not in the map; valid: ${branchChoices(map)}`);
  return branch;
}

function didYouMean(names: readonly string[]): string {
  return names.length === 0 ? '' : `; did you mean ${names.join(', ')}?`;
}

function findLine(map: DriverMap, what: string, file: string, line: string, driver: string) {
  const branch = wantedBranch(map, driver, '--driver');
  const number = /^\d+$/.test(line) ? Number(line) : Number.NaN;
  if (!(Number.isSafeInteger(number) && number >= 1)) {
    throw new UsageError(`${what}: expected FILE:LINE, where LINE is a whole number from 1`);
  }
  if (!branch.byFile.has(file)) {
    const others = map.branches.filter(({ byFile }) => byFile.has(file)).map((one) => one.branch);
    const also =
      others.length > 0 ? `; there is one in ${others.join(', ')}` : didYouMean(nearestNames(file, fileNames(map)));
    throw new UsageError(`${what}: the map of ${branch.tag} has no file ${file}${also}`);
  }
  return whereLine(map, branch, file, number);
}

function findName(map: DriverMap, what: string, driver: string | undefined) {
  if (driver !== undefined) wantedBranch(map, driver, '--driver');
  const answer = whereName(map, what);
  if (answer.others.length > 0) {
    const rest = answer.others.length - NAMES_SHOWN;
    const more = rest > 0 ? ` and ${rest} more` : '';
    throw new UsageError(`${what}: which one? ${answer.others.slice(0, NAMES_SHOWN).join(', ')}${more}`);
  }
  if (answer.items.length === 0) {
    throw new UsageError(
      `${what}: no function, type, field or module parameter has this name${didYouMean(answer.nearest)}`,
    );
  }
  return answer.items;
}

/** Prints where something is and returns the exit code. */
export function runWhere(what: string, { driver, json = false }: { driver?: string; json?: boolean }): number {
  const map = loadDriverMap();
  const colors = colorsFor(process.stdout);
  const line = FILE_LINE.exec(what);
  let data: object;
  let text: string;
  if (line === null) {
    const items = findName(map, what, driver);
    data = { items };
    text = whereNameText(items, colors);
  } else {
    const answer = findLine(map, what, line[1], line[2], driver ?? MODEL_BRANCH);
    data = answer;
    text = whereLineText(answer, driver !== undefined, colors);
  }
  process.stdout.write(json ? `${JSON.stringify(data, null, 2)}\n` : text);
  return EXIT_OK;
}
