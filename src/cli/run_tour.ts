/** What the command `tour` does. */
import type { TextStyle } from '../analysis/explain_layout.ts';
import { loadMachines } from '../analysis/machines.ts';
import { collectTour } from '../analysis/tour.ts';
import { EXIT_OK, UsageError } from './command.ts';
import { colorsFor } from './text.ts';
import { itemFacts, TOUR_ITEMS, tourText } from './tour_text.ts';

/** Columns where the output is no terminal, and the fewest and most that lines take on one. */
const WIDTH_DEFAULT = 110;
const WIDTH_MIN = 100;
const WIDTH_MAX = 120;

function parseItem(text: string): number {
  const item = TOUR_ITEMS.find((candidate) => String(candidate) === text);
  if (item === undefined) throw new UsageError(`item ${text}: there is none; valid: ${TOUR_ITEMS.join(', ')}`);
  return item;
}

/** Prints the tour, or one item of it, and returns the exit code. */
export function runTour(wanted: string | undefined, json: boolean): number {
  const items = wanted === undefined ? TOUR_ITEMS : [parseItem(wanted)];
  const tour = collectTour(loadMachines());
  if (json) {
    const { driver, scenario, page, zero } = tour;
    const facts = { driver, scenario, page, zero, items: items.map((item) => itemFacts(tour, item)) };
    process.stdout.write(`${JSON.stringify(facts, null, 2)}\n`);
    return EXIT_OK;
  }
  const colors = colorsFor(process.stdout);
  const style: TextStyle = {
    strong: (text) => colors.bold(text),
    faint: (text) => colors.dim(text),
    call: (text) => colors.cyan(text),
  };
  const width = Math.max(WIDTH_MIN, Math.min(process.stdout.columns ?? WIDTH_DEFAULT, WIDTH_MAX));
  process.stdout.write(tourText(tour, items, style, width));
  return EXIT_OK;
}
