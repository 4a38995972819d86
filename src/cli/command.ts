/** What the commands share: exit codes, errors for the user, progress. */

/** Everything ran; every case is exact. */
export const EXIT_OK = 0;
/** A scenario failed, or a case is not exact. */
export const EXIT_FAILED = 1;
/** Wrong usage, or a file, process or driver that cannot be used. */
export const EXIT_USAGE = 2;

export const EXIT_CODES = `
Exit codes:
  0  everything ran (validate: and no case differs)
  1  a scenario or a line of a file failed (validate: or a case is not exact)
  2  wrong usage, or a file, process or driver that cannot be used
`;

/** A mistake on the command line; the message says what to write instead. */
export class UsageError extends Error {
  override name = 'UsageError';
}

/** A whole number of an option; undefined where the option was left out. Throws UsageError. */
export function wholeNumber(
  option: string,
  text: string | undefined,
  least: number,
  most = Number.MAX_SAFE_INTEGER,
): number | undefined {
  if (text === undefined) return undefined;
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (number >= least && number <= most) return number;
  const upTo = most === Number.MAX_SAFE_INTEGER ? '' : ` to ${most}`;
  throw new UsageError(`--${option} ${text}: expected a whole number from ${least}${upTo}`);
}

export interface Progress {
  /** Says what is going on. Nothing is shown in the first second, and nothing unless stderr is a terminal. */
  say(text: string): void;
  /** Takes the line away, so that something else can be printed. */
  clear(): void;
}

const FIRST_SHOWN_MS = 1000;
const BETWEEN_MS = 100;

/** A line on stderr that rewrites itself. */
export function createProgress(stream: NodeJS.WriteStream = process.stderr): Progress {
  let next = Date.now() + FIRST_SHOWN_MS;
  let shown = false;
  return {
    say: (text) => {
      if (!stream.isTTY || Date.now() < next) return;
      stream.write(`\r\u001b[K${text.slice(0, (stream.columns || 80) - 1)}`);
      shown = true;
      next = Date.now() + BETWEEN_MS;
    },
    clear: () => {
      if (shown) stream.write('\r\u001b[K');
      shown = false;
    },
  };
}
