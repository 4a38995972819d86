/**
 * Reading files of scenarios or of ground-truth cases: one JSON value (`.json`), lines of them (`.jsonl`, `.jsonl.gz`),
 * or a recording (`.uvmrec`), which is one case. A bad line is an entry of its own, so that the other lines still run;
 * lines are counted from 1.
 *
 * Files are streamed, so that only one line is in memory at a time.
 */
import { accessSync, constants, createReadStream, type Stats, statSync } from 'node:fs';
import { createGunzip } from 'node:zlib';
import type { CaseLine } from './case_check.ts';
import { createRecordingCase, type RecordingCaseOptions } from './recording_case.ts';
import { RECORDING_SUFFIX, RecordingFileError, readRecordingHeader } from './recording_file.ts';

/** A line that cannot be used, or the place where a file ends too early. */
export interface BadLine {
  kind: 'error';
  line: number;
  error: string;
}
export type CaseEntry = CaseLine | BadLine;

/** A file that cannot be read at all: missing, a folder, of an unknown kind. */
export class CaseFileError extends Error {
  override name = 'CaseFileError';
}

type Format = 'json' | 'jsonl' | 'jsonl.gz' | 'uvmrec';
/** A path, or bytes with the name that tells their format. */
export type CaseSource = string | { name: string; bytes: Uint8Array };

function formatOf(name: string): Format {
  if (name.endsWith('.jsonl.gz')) return 'jsonl.gz';
  if (name.endsWith('.jsonl')) return 'jsonl';
  if (name.endsWith('.json')) return 'json';
  if (name.endsWith(RECORDING_SUFFIX)) return 'uvmrec';
  throw new CaseFileError(`${name}: unknown kind of file; its name must end in .json, .jsonl, .jsonl.gz or .uvmrec`);
}

function openFile(path: string): AsyncIterable<Uint8Array> {
  let stat: Stats | undefined;
  try {
    stat = statSync(path, { throwIfNoEntry: false });
    if (stat !== undefined) accessSync(path, constants.R_OK);
  } catch (error) {
    throw new CaseFileError(`${path}: cannot be read: ${(error as Error).message}`);
  }
  if (stat === undefined) throw new CaseFileError(`${path}: no such file`);
  if (stat.isDirectory())
    throw new CaseFileError(`${path}: is a folder; give a .json, .jsonl, .jsonl.gz or .uvmrec file`);
  return createReadStream(path, { highWaterMark: 1 << 18 });
}

/** Why a stream of bytes ended before its time; null while it has not. */
interface Ending {
  problem: string | null;
}

/** Passes the chunks on and keeps a reading error for the end, as everything read before it still counts. */
async function* readable(chunks: AsyncIterable<Uint8Array>, ending: Ending): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks;
  } catch (error) {
    ending.problem = `the file cannot be read further (${(error as Error).message})`;
  }
}

/**
 * Unpacks gzip data: all of it up to the place where it is cut off; where it is damaged, the chunks before that one.
 * Input goes in chunk by chunk and output is taken out before the next one, since a failing stream drops what nobody
 * has taken.
 */
async function* unpacked(chunks: AsyncIterable<Uint8Array>, ending: Ending): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip();
  let out: Uint8Array[] = [];
  let failure: NodeJS.ErrnoException | null = null;
  let over = false;
  let settle = (): void => {};
  gunzip.on('data', (chunk: Uint8Array) => out.push(chunk));
  gunzip.on('error', (error) => {
    failure = error;
    over = true;
    settle();
  });
  // It may end by itself, at bytes that follow the data, and then calls nobody back.
  gunzip.on('end', () => {
    over = true;
    settle();
  });
  const step = (act: (done: () => void) => void): Promise<void> =>
    new Promise((resolve) => {
      settle = resolve;
      if (over) resolve();
      else act(resolve);
    });
  const take = (): Uint8Array[] => {
    const taken = out;
    out = [];
    return taken;
  };
  try {
    for await (const chunk of chunks) {
      await step((done) => gunzip.write(chunk, () => done()));
      yield* take();
      if (over) break;
    }
    // Only now may it find the end missing: whatever came before has been taken.
    await step(() => gunzip.end());
    yield* take();
  } finally {
    gunzip.destroy();
  }
  if (failure !== null && ending.problem === null) {
    const { code, message } = failure as NodeJS.ErrnoException;
    ending.problem = code === 'Z_BUF_ERROR' ? 'the file is truncated' : `the file is damaged gzip data (${message})`;
  }
}

/** Longest line: more characters than this make no text in Node. */
const LINE_BYTES_MAX = 2 ** 29 - 2 ** 16;

/** The lines of the chunks without their newline; `ended` is false for a last line that has none. */
async function* linesOf(
  chunks: AsyncIterable<Uint8Array>,
  ending: Ending,
): AsyncGenerator<{ bytes: Uint8Array; ended: boolean }> {
  let parts: Uint8Array[] = [];
  let held = 0;
  for await (const chunk of chunks) {
    let start = 0;
    if (held + chunk.length > LINE_BYTES_MAX) {
      ending.problem = `a line of more than ${LINE_BYTES_MAX} bytes`;
      return;
    }
    held += chunk.length;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, start)) {
      parts.push(chunk.subarray(start, at));
      yield { bytes: parts.length === 1 ? parts[0] : Buffer.concat(parts), ended: true };
      parts = [];
      start = at + 1;
      held = chunk.length - start;
    }
    if (start < chunk.length) parts.push(chunk.subarray(start));
  }
  if (parts.length > 0) yield { bytes: Buffer.concat(parts), ended: false };
}

type Json = { ok: true; value: unknown } | { ok: false; error: string };

function parseJson(text: string): Json {
  try {
    return { ok: true, value: JSON.parse(text) };
  } catch (error) {
    return { ok: false, error: `not JSON: ${(error as Error).message}` };
  }
}

function decode(bytes: Uint8Array): { ok: true; text: string } | { ok: false; error: string } {
  try {
    return { ok: true, text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
  } catch {
    return { ok: false, error: 'not UTF-8 text' };
  }
}

/** The entry of a line's JSON value: a case has a `scenario` inside, everything else is taken for a bare scenario. */
export function entryOf(value: unknown, line: number): CaseEntry {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { kind: 'error', line, error: 'expected an object: a scenario, or a case with a scenario inside' };
  }
  if (!Object.hasOwn(value, 'scenario')) return { kind: 'case', line, scenario: value };
  const { scenario, recordedFromStep, observed } = value as Record<string, unknown>;
  if (typeof scenario !== 'object' || scenario === null || Array.isArray(scenario)) {
    return { kind: 'error', line, error: 'scenario: expected an object (a line of results is not a case)' };
  }
  const entry: CaseLine = { kind: 'case', line, scenario };
  if (recordedFromStep !== undefined) entry.recordedFromStep = recordedFromStep;
  if (observed !== undefined) entry.observed = observed;
  return entry;
}

/** What a reader makes of the JSON value of a line. */
type Make<T> = (value: unknown, line: number) => T | BadLine;

function isBad(entry: object): entry is BadLine {
  return (entry as { kind?: unknown }).kind === 'error';
}

function parseEntry<T extends object>(bytes: Uint8Array, line: number, make: Make<T>): T | BadLine | null {
  const decoded = decode(bytes);
  if (!decoded.ok) return { kind: 'error', line, error: decoded.error };
  if (decoded.text.trim() === '') return null;
  const json = parseJson(decoded.text);
  return json.ok ? make(json.value, line) : { kind: 'error', line, error: json.error };
}

async function* readLines<T extends object>(
  chunks: AsyncIterable<Uint8Array>,
  ending: Ending,
  make: Make<T>,
): AsyncGenerator<T | BadLine> {
  let line = 0;
  for await (const { bytes, ended } of linesOf(chunks, ending)) {
    const entry = parseEntry(bytes, line + 1, make);
    // What stands before a cut without a newline counts only if it is whole: an object that parses is.
    if (!ended && ending.problem !== null && (entry === null || isBad(entry))) break;
    line += 1;
    if (entry !== null && isBad(entry) && !ended) {
      entry.error += '; the line has no end, so the file may be truncated';
    }
    if (entry !== null) yield entry;
  }
  if (ending.problem !== null) {
    yield {
      kind: 'error',
      line: line + 1,
      error: `${ending.problem} after ${line === 0 ? 'no line' : `line ${line}`}`,
    };
  }
}

async function* readWhole<T extends object>(
  chunks: AsyncIterable<Uint8Array>,
  ending: Ending,
  make: Make<T>,
): AsyncGenerator<T | BadLine> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  const entry = parseEntry(Buffer.concat(parts), 1, make);
  if (ending.problem !== null) yield { kind: 'error', line: 1, error: ending.problem };
  else yield entry ?? { kind: 'error', line: 1, error: 'the file is empty; expected a scenario or a case' };
}

function readEntries<T extends object>(source: CaseSource, format: Format, make: Make<T>): AsyncGenerator<T | BadLine> {
  const opened = typeof source === 'string' ? openFile(source) : inOneChunk(source.bytes);
  const ending: Ending = { problem: null };
  const chunks = readable(opened, ending);
  if (format === 'json') return readWhole(chunks, ending, make);
  return readLines(format === 'jsonl' ? chunks : unpacked(chunks, ending), ending, make);
}

/** The JSON value of a line. */
export interface JsonLine {
  kind: 'value';
  line: number;
  value: unknown;
}

/**
 * Reads the values of a `.json`, `.jsonl` or `.jsonl.gz` file in order, whatever they are. Throws and gives errors as
 * readCases does.
 */
export function readJson(source: CaseSource): AsyncGenerator<JsonLine | BadLine> {
  const format = formatOf(typeof source === 'string' ? source : source.name);
  return readEntries(source, format, (value, line): JsonLine => ({ kind: 'value', line, value }));
}

/**
 * Reads the cases of a file in order. Throws CaseFileError, before the first entry, for a file that is not there or
 * whose name says no known kind; everything else that is wrong is an entry. Empty lines are skipped. A file that ends
 * in the middle gives its whole lines and then one error. A recording is read from a path alone; `options` say what it
 * does not tell by itself.
 */
export async function* readCases(source: CaseSource, options: RecordingCaseOptions = {}): AsyncGenerator<CaseEntry> {
  const format = formatOf(typeof source === 'string' ? source : source.name);
  if (format === 'uvmrec') {
    yield await readRecordingEntry(source, options);
    return;
  }
  yield* readEntries<CaseLine>(source, format, entryOf);
}

async function readRecordingEntry(source: CaseSource, options: RecordingCaseOptions): Promise<CaseEntry> {
  if (typeof source !== 'string') throw new CaseFileError(`${source.name}: a recording is read from a file alone`);
  await readRecordingHeader(source);
  try {
    return await createRecordingCase(source, options);
  } catch (error) {
    if (!(error instanceof RecordingFileError)) throw error;
    return { kind: 'error', line: 1, error: error.message.replace(`${source}: `, '') };
  }
}

async function* inOneChunk(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
