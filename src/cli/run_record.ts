/** What the command `record` does. */
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { type LiveTally, liveLines, livePlainLine } from '../analysis/live_tally.ts';
import { EVENT_TYPE, type EventTypeName, RECORDED_EVENTS } from '../device/abi/events.ts';
import { createLinuxDevice, type LinuxDevice } from '../device/linux/linux_device.ts';
import { readManagedMappings } from '../device/linux/proc.ts';
import { attachAtStart, LaunchError, launch, type Program, type ProgramEnd } from '../live/record/launch.ts';
import { type Recorder, type RecorderEnd, type RecorderOptions, startRecorder } from '../live/record/recorder.ts';
import { attachToProcess } from '../live/target.ts';
import { EXIT_FAILED, EXIT_OK, UsageError, wholeNumber } from './command.ts';
import type { RecordFlags } from './record.ts';
import { bytes, colorsFor, counted } from './text.ts';

const RING_MAX = 2 ** 22;

function eventTypes(text: string | undefined): EventTypeName[] | undefined {
  if (text === undefined) return undefined;
  const names = text.split(',').map((name) => name.trim());
  for (const name of names) {
    if (!(RECORDED_EVENTS as readonly string[]).includes(name)) {
      const never = Object.hasOwn(EVENT_TYPE, name) ? ' (the driver defines it and never records it)' : '';
      throw new UsageError(`--events: ${JSON.stringify(name)}${never}; valid: ${RECORDED_EVENTS.join(', ')}`);
    }
  }
  return [...new Set(names)] as EventTypeName[];
}

function ringEntries(text: string | undefined): number | undefined {
  const entries = wholeNumber('ring', text, 2, RING_MAX);
  if (entries !== undefined && (entries & (entries - 1)) !== 0) {
    const below = 2 ** Math.floor(Math.log2(entries));
    throw new UsageError(`--ring ${entries}: expected a power of two, such as ${below} or ${below * 2}`);
  }
  return entries;
}

/** The view of what goes on, on stderr: rewritten lines on a terminal, one plain line a few seconds apart elsewhere. */
interface View {
  show(tally: LiveTally, seconds: number): void;
  clear(): void;
}

const PLAIN_SECONDS = 5;

function createView(stream: NodeJS.WriteStream, quiet: boolean): View {
  if (quiet) return { show: () => {}, clear: () => {} };
  let before: LiveTally | null = null;
  let shown = 0;
  let next = PLAIN_SECONDS;
  const clear = (): void => {
    if (shown > 0) stream.write(`\u001b[${shown}A\u001b[J`);
    shown = 0;
  };
  return {
    clear,
    show: (tally, seconds) => {
      if (!stream.isTTY) {
        if (seconds < next) return;
        next = seconds + PLAIN_SECONDS;
        stream.write(`${livePlainLine(tally, seconds)}\n`);
        return;
      }
      const lines = liveLines(before, tally, seconds);
      before = structuredClone(tally);
      clear();
      const width = (stream.columns || 80) - 1;
      for (const line of lines) stream.write(`${line.slice(0, width)}\n`);
      shown = lines.length;
    },
  };
}

/** What is asked for, checked before anything is started. */
interface Wanted {
  command: string[];
  pid: number | null;
  flags: RecordFlags;
  options: Pick<RecorderOptions, 'events' | 'ringEntries' | 'overwrite'>;
  seconds: number | undefined;
}

function wanted(command: string[], flags: RecordFlags): Wanted {
  const pid = wholeNumber('pid', flags.pid, 1, 2 ** 31 - 1) ?? null;
  if (pid === null && command.length === 0) {
    throw new UsageError('give a program to start, as in: uvmlab record -- ./program, or --pid PID');
  }
  if (pid !== null && command.length > 0) {
    throw new UsageError(`--pid ${pid} beside a program (${command[0]}): give one of them`);
  }
  const { output, overwrite = false } = flags;
  if (output !== undefined && !output.endsWith('.uvmrec')) {
    throw new UsageError(`--output ${output}: expected a name that ends in .uvmrec`);
  }
  if (output !== undefined && !overwrite && existsSync(output)) {
    throw new UsageError(`--output ${output}: exists already; name another file, or add --overwrite`);
  }
  return {
    command,
    pid,
    flags,
    options: { events: eventTypes(flags.events), ringEntries: ringEntries(flags.ring), overwrite },
    seconds: wholeNumber('seconds', flags.seconds, 1, 86_400),
  };
}

/** A recording under way, with the program that was started for it. */
interface Started {
  recorder: Recorder;
  program: Program | null;
  pid: number;
  path: string;
}

async function startOnCommand(device: LinuxDevice, want: Wanted, view: View): Promise<Started> {
  const program = await launch(want.command);
  try {
    const { pid, attachment, early, resume } = await attachAtStart(device, program);
    try {
      const path = want.flags.output ?? `uvmlab-${pid}.uvmrec`;
      const notes = pid === program.pid ? [] : [`process ${pid} was started by the command, and is the one recorded`];
      const recorder = await startRecorder(device, pid, attachment, {
        ...want.options,
        path,
        command: want.command,
        attached: early ? 'before the first managed allocation' : 'late',
        notes,
        onTally: view.show,
      });
      return { recorder, program, pid, path };
    } finally {
      resume();
    }
  } catch (error) {
    if (!(error instanceof LaunchError)) program.kill('SIGTERM');
    throw error;
  }
}

async function startOnProcess(device: LinuxDevice, want: Wanted, pid: number, view: View): Promise<Started> {
  const attachment = await attachToProcess(device, pid);
  const path = want.flags.output ?? `uvmlab-${pid}.uvmrec`;
  const attached = readManagedMappings(pid).length === 0 ? 'before the first managed allocation' : 'late';
  const recorder = await startRecorder(device, pid, attachment, {
    ...want.options,
    path,
    attached,
    onTally: view.show,
  });
  return { recorder, program: null, pid, path };
}

/** Lets the recording run to its end: the program's, the user's, or that of the time. */
async function finish({ recorder, program }: Started, seconds: number | undefined): Promise<RecorderEnd> {
  const interrupt = (): void => {
    recorder.stop('interrupted');
    // A terminal sends the signal to the program as well.
    if (program !== null && !process.stdin.isTTY) program.kill('SIGINT');
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  const timer = seconds === undefined ? null : setTimeout(() => recorder.stop('time'), seconds * 1000);
  try {
    return await recorder.done;
  } finally {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
    if (timer !== null) clearTimeout(timer);
  }
}

function endText(path: string, end: RecorderEnd): string {
  const colors = colorsFor(process.stderr);
  const lost =
    end.dropped === 0
      ? 'nothing lost'
      : colors.red(`${counted(end.dropped, 'event')} lost: the queue was full; a larger --ring holds more`);
  return (
    `${path}: ${counted(end.events, 'event')}, ${bytes(end.bytes)}, ${lost} (${end.reason})\n` +
    colors.dim(`uvmlab report ${path} says what is in it\n`)
  );
}

function exitCodeOf(end: ProgramEnd): number {
  if (end.signal !== null) return 128 + (constants.signals[end.signal as NodeJS.Signals] ?? 0);
  return end.code ?? EXIT_FAILED;
}

/** Records, and returns the exit code: the program's own where one was started. */
export async function runRecord(command: string[], flags: RecordFlags): Promise<number> {
  const want = wanted(command, flags);
  const device = await createLinuxDevice();
  const view = createView(process.stderr, flags.quiet ?? false);
  let started: Started;
  try {
    started = await (want.pid === null
      ? startOnCommand(device, want, view)
      : startOnProcess(device, want, want.pid, view));
  } catch (error) {
    if (!(error instanceof LaunchError)) throw error;
    process.stderr.write(`${colorsFor(process.stderr).red('error:')} ${error.message}\n`);
    return error.end === null || exitCodeOf(error.end) === 0 ? EXIT_FAILED : exitCodeOf(error.end);
  }
  const end = await finish(started, want.seconds);
  view.clear();
  process.stderr.write(endText(started.path, end));
  if (started.program === null) return EXIT_OK;
  return exitCodeOf(await started.program.ended);
}
