import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { captureCli } from '../../test/support/captured_cli.ts';
import { itOnLinux } from '../../test/support/on_linux.ts';
import { platformProblem } from '../device/linux/ffi.ts';
import { createRecordingWriter } from '../trace/recording_file.ts';

const cli = captureCli();
const EXAMPLE = fileURLToPath(new URL('../../examples/copy-at-the-fault.json', import.meta.url));
const NOBODY = '2147483647';
const ME = String(process.pid);
const NO_DRIVER = platformProblem(process.platform, process.arch);
const GONE = NO_DRIVER ?? `process ${NOBODY}: there is no such process (any more)`;
const NO_CUDA = NO_DRIVER ?? 'has no open /dev/nvidia-uvm: it is no CUDA program, or has not started CUDA yet';

let dir = '';
/** A file that is there. */
let taken = '';
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'uvmlab-live-cli-'));
  taken = join(dir, 'taken.uvmrec');
  const writer = createRecordingWriter(taken, {
    format: 1,
    uvmlab: '1.0.0',
    driver: null,
    kernel: null,
    pid: 12,
    command: null,
    executable: null,
    processors: [],
    events: ['migration'],
    ringEntries: 8,
    machine: null,
    parameters: {},
    attached: 'late',
    cpuClock: 'CLOCK_MONOTONIC_RAW',
  });
  writer.close();
  writeFileSync(join(dir, 'empty'), '');
  writeFileSync(join(dir, 'large'), '');
  truncateSync(join(dir, 'large'), 2 ** 20 + 1);
  copyFileSync(EXAMPLE, join(dir, 'a.json'));
});
afterAll(() => rmSync(dir, { recursive: true }));

/** A command line, its arguments apart at spaces; DIR is the folder of these tests. */
async function refused(line: string, message: string): Promise<void> {
  const args = line.split(' ').map((arg) => arg.replace('DIR', dir).replace(/^EMPTY$/, ''));
  expect(await cli.run(...args)).toBe(2);
  expect(cli.err).toContain(message.replaceAll('DIR', dir));
  expect(cli.err).not.toContain('internal error');
  expect(cli.out).toBe('');
}

describe('record', () => {
  it.each([
    ['record', 'give a program to start, as in: uvmlab record -- ./program, or --pid PID'],
    ['record --pid 12 -- ./program', '--pid 12 beside a program (./program): give one of them'],
    ['record --pid 0', '--pid 0: expected a whole number from 1 to 2147483647'],
    ['record --pid 2147483648', '--pid 2147483648: expected a whole number from 1 to 2147483647'],
    ['record --pid x', '--pid x: expected a whole number from 1 to 2147483647'],
    ['record --pid 12 -o a.jsonl', '--output a.jsonl: expected a name that ends in .uvmrec'],
    ['record --pid 12 -o DIR/taken.uvmrec', '--output DIR/taken.uvmrec: exists already; name another file, or add'],
    ['record --pid 12 --ring 1', '--ring 1: expected a whole number from 2 to 4194304'],
    ['record --pid 12 --ring 3', '--ring 3: expected a power of two, such as 2 or 4'],
    ['record --pid 12 --ring 8388608', '--ring 8388608: expected a whole number from 2 to 4194304'],
    ['record --pid 12 --ring 4194303', '--ring 4194303: expected a power of two, such as 2097152 or 4194304'],
    ['record --pid 12 --seconds 0', '--seconds 0: expected a whole number from 1 to 86400'],
    ['record --pid 12 --seconds 1.5', '--seconds 1.5: expected a whole number from 1 to 86400'],
    ['record --pid 12 --events cpuFault,x', '--events: "x"; valid: cpuFault, migration, gpuFault, replay, fatalFault'],
    ['record --pid 12 --events EMPTY', '--events: ""; valid: cpuFault'],
    ['record --pid 12 --events eviction', '"eviction" (the driver defines it and never records it); valid: cpuFault'],
    ['record --pid 12 --what', "unknown option '--what'"],
    [`record --pid ${NOBODY}`, GONE],
    [`record --pid ${NOBODY} -o DIR/taken.uvmrec --overwrite`, GONE],
    [`record --pid ${NOBODY} --ring 4194304 --seconds 86400 --events replay,replay`, GONE],
    [`record --pid ${ME}`, NO_CUDA],
  ])('refuses: %s', async (line, message) => {
    const before = readFileSync(taken);
    await refused(line, message);
    expect(readFileSync(taken)).toEqual(before);
    for (const pid of [ME, NOBODY]) expect(existsSync(`uvmlab-${pid}.uvmrec`)).toBe(false);
  });

  const ENDS: [string, number][] = [
    ['exit 0', 1],
    ['exit 3', 3],
    ['kill -9 $$', 137],
  ];
  for (const [script, code] of ENDS) {
    itOnLinux(`of a program that starts no CUDA has its exit code, and 1 where that is 0: ${script}`, async () => {
      const output = join(dir, 'none.uvmrec');
      expect(await cli.run('record', '-o', output, '--', 'sh', '-c', script)).toBe(code);
      expect(cli.err).toContain('the program ended without starting CUDA: there is nothing to record\n');
      expect(existsSync(output)).toBe(false);
    });
  }

  itOnLinux('of a program that is not there fails', async () => {
    expect(await cli.run('record', '--', '/no/such/program', '--pid', '1')).toBe(1);
    expect(cli.err).toContain('/no/such/program: cannot be started: there is no such program\n');
    expect(await cli.run('record', '--', '')).toBe(1);
    expect(cli.err).toContain('the program to start has an empty name\n');
  });
});

describe('copy', () => {
  it.each([
    ['copy --to DIR/new', "required option '--pid <PID>' not specified"],
    ['copy --pid 12 --from 0 --length 1', "required option '--to <FILE>' not specified"],
    ['copy --pid 0 --to DIR/new', '--pid 0: expected a number from 1 to 2147483647'],
    ['copy --pid 1e3 --to DIR/new', '--pid 1e3: expected a number from 1 to 2147483647'],
    ['copy --pid 12 --to DIR/new --length 1', '--from: missing; where to copy from (0x... or decimal)'],
    ['copy --pid 12 --to DIR/new --from 0x1000', '--length: missing; how many bytes (also 4K, 64M, 1G)'],
    ['copy --pid 12 --to DIR/new --from 1000h --length 1', '--from 1000h: expected an address, 0x... or decimal'],
    ['copy --pid 12 --to DIR/new --from 0 --length 0', '--length 0: expected bytes from 1 to 281474976710656, also as'],
    ['copy --pid 12 --to DIR/new --from 0 --length 262145G', '--length 262145G: expected bytes from 1 to'],
    ['copy --pid 12 --to DIR/new --from 0 --length 4KB', '--length 4KB: expected bytes from 1 to'],
    [
      'copy --pid 12 --to DIR/new --from 0 --length 1 --in-flight 0',
      '--in-flight 0: expected a whole number from 1 to 64',
    ],
    [
      'copy --pid 12 --to DIR/new --from 0 --length 1 --in-flight 65',
      '--in-flight 65: expected a whole number from 1 to 64',
    ],
    [
      'copy --pid 12 --to DIR/new --armed best-effort --length 1',
      '--length beside --armed: an armed copy is of one page',
    ],
    ['copy --pid 12 --to DIR/new --armed best-effort --copy-abi x', '--copy-abi beside --armed'],
    [
      'copy --pid 12 --to DIR/new --armed yes',
      '--armed yes: a stock driver has no armed copy (NV_ERR_NOT_SUPPORTED); valid: best-effort',
    ],
    [
      'copy --pid 12 --to DIR/new --armed best-effort --timeout 0',
      '--timeout 0: expected a whole number from 1 to 86400',
    ],
    ['copy --pid 12 --to DIR/new --armed best-effort --from x', '--from x: expected an address, 0x... or decimal'],
    ['copy --pid 12 --to DIR/taken.uvmrec --armed best-effort', '--to DIR/taken.uvmrec: exists already; name another'],
    [`copy --pid ${NOBODY} --to DIR/taken.uvmrec --from 0 --length 262144G --overwrite`, GONE],
    [`copy --pid ${NOBODY} --to DIR/new --armed best-effort --timeout 86400`, GONE],
    [`copy --pid ${ME} --to DIR/new --from 0x1000 --length 4K --in-flight 64`, NO_CUDA],
  ])('refuses: %s', async (line, message) => {
    const before = readFileSync(taken);
    await refused(line, message);
    expect(readFileSync(taken)).toEqual(before);
    expect(existsSync(join(dir, 'new'))).toBe(false);
  });
});

describe('peek', () => {
  it.each([
    ['peek --at 0', "required option '--pid <PID>' not specified"],
    ['peek --pid 12', "required option '--at <ADDRESS>' not specified"],
    ['peek --pid -1 --at 0', '--pid -1: expected a number from 1 to 2147483647'],
    ['peek --pid 12 --at 0x', '--at 0x: expected an address, 0x... or decimal'],
    ['peek --pid 12 --at 0 --length 0', '--length 0: expected bytes from 1 to 1048576, also as 4K, 64M, 1G'],
    ['peek --pid 12 --at 0 --length 1048577', '--length 1048577: expected bytes from 1 to 1048576'],
    ['peek --pid 13 --at 0 --recording DIR/taken.uvmrec', '--recording DIR/taken.uvmrec: is of process 12, not of 13'],
    ['peek --pid 13 --at 0 --recording DIR/no.uvmrec', 'DIR/no.uvmrec: '],
    ['peek --pid 13 --at 0 --recording DIR/a.json', 'DIR/a.json: byte 0: this is no recording of uvmlab'],
    [`peek --pid ${NOBODY} --at 0xffffffffffffffff --length 1M`, GONE],
    [`peek --pid ${ME} --at 0x1000`, NO_CUDA],
  ])('refuses: %s', refused);
});

describe('poke', () => {
  it.each([
    ['poke --at 0 --hex 00', "required option '--pid <PID>' not specified"],
    ['poke --pid 12 --hex 00', "required option '--at <ADDRESS>' not specified"],
    ['poke --pid 0 --at 0 --hex 00', '--pid 0: expected a number from 1 to 2147483647'],
    ['poke --pid 12 --at x --hex 00', '--at x: expected an address, 0x... or decimal'],
    ['poke --pid 12 --at 0', 'give the bytes either with --hex or with --file'],
    ['poke --pid 12 --at 0 --hex 00 --file DIR/empty', 'give the bytes either with --hex or with --file'],
    ['poke --pid 12 --at 0 --hex 001', '--hex 001: expected two hexadecimal digits for each byte, such as 01ff'],
    ['poke --pid 12 --at 0 --hex 0g', '--hex 0g: expected two hexadecimal digits for each byte, such as 01ff'],
    ['poke --pid 12 --at 0 --hex EMPTY', '--hex : expected two hexadecimal digits for each byte, such as 01ff'],
    ['poke --pid 12 --at 0 --file DIR/no', '--file DIR/no: no such file'],
    ['poke --pid 12 --at 0 --file DIR', '--file DIR: is no file'],
    ['poke --pid 12 --at 0 --file DIR/empty', '--file DIR/empty: has 0 bytes; expected 1 to 1048576'],
    ['poke --pid 12 --at 0 --file DIR/large', '--file DIR/large: has 1048577 bytes; expected 1 to 1048576'],
    [`poke --pid ${NOBODY} --at 0 --hex 01_FF`, GONE],
    [`poke --pid ${ME} --at 0x1000 --file DIR/taken.uvmrec`, NO_CUDA],
  ])('refuses: %s', refused);
});

describe('run', () => {
  it.each([
    ['run DIR/a.json --device gpu', '--device gpu: valid: model, linux'],
    ['run DIR/a.json --managed-limit 1G', '--managed-limit goes with --device linux'],
    ['run DIR/a.json --oversubscribe', '--oversubscribe goes with --device linux'],
    ['run DIR/a.json --untraced', '--untraced goes with --device linux'],
    ['run DIR/a.json --record DIR/r.jsonl', '--record goes with --device linux'],
    [
      'run DIR/a.json --device linux --traced',
      '--traced is of the model; a real run is traced unless --untraced is given',
    ],
    [
      'run DIR/a.json --device linux --param a=1',
      "--param: a real driver's module parameters are set when it is loaded",
    ],
    [
      'run DIR/a.json --device linux --untraced --events DIR/e.jsonl',
      '--untraced records nothing: leave out --events and',
    ],
    [
      'run DIR/a.json --device linux --untraced --record DIR/e.jsonl',
      '--untraced records nothing: leave out --events and',
    ],
    ['run DIR/a.json --device linux --managed-limit 1K', '--managed-limit 1K: expected bytes from 4096'],
    [
      'run DIR/a.json --device linux --events DIR/a.json',
      '--events DIR/a.json: is one of the files to read; name another',
    ],
    [
      'run DIR/a.json --device linux --record DIR/a.json',
      '--record DIR/a.json: is one of the files to read; name another',
    ],
    ['run DIR/no.json --device linux', 'DIR/no.json: '],
    ['run --device linux', "missing required argument 'FILE'"],
  ])('refuses: %s', refused);
});

describe('validate', () => {
  const FILES = 'give files with scenarios, or --random N for random histories';
  it.each([
    ['validate', 'give files with recorded cases, such as recordings/*.jsonl.gz'],
    ['validate --random 5', '--random goes with --device linux'],
    ['validate --device linux --random 5 --walls x', '--walls is of recorded cases'],
    ['validate --seed 5', '--seed goes with --device linux'],
    ['validate --record DIR/r.jsonl', '--record goes with --device linux'],
    ['validate --device x', '--device x: valid: model, linux'],
    ['validate --device linux', FILES],
    ['validate --device linux --seed 5', FILES],
    ['validate DIR/a.json --device linux --seed 5', '--seed 5 goes with --random'],
    ['validate --device linux --random 0', '--random 0: expected a whole number from 1 to 100000'],
    ['validate --device linux --random 100001', '--random 100001: expected a whole number from 1 to 100000'],
    ['validate --device linux --random 1.5', '--random 1.5: expected a whole number from 1 to 100000'],
    ['validate --device linux --random 5 --seed -1', '--seed -1: expected a whole number from 0 to 4294967295'],
    ['validate --device linux --random 5 --seed 4294967296', '--seed 4294967296: expected a whole number from 0 to'],
    ['validate --device linux --random 5 --machine x', '--machine x: valid: '],
    ['validate --device linux --random 5 --managed-limit 0', '--managed-limit 0: expected bytes from 4096'],
    [
      'validate DIR/a.json --device linux --record DIR/a.json',
      '--record DIR/a.json: is one of the files to read; name',
    ],
    ['validate DIR/no.jsonl --device linux', 'DIR/no.jsonl: '],
  ])('refuses: %s', refused);
});

describe('compare-copies', () => {
  it.each([
    ['compare-copies --device x', '--device x: valid: model, linux'],
    ['compare-copies --runs 5', '--runs goes with --device linux'],
    ['compare-copies --managed-limit 1G', '--managed-limit goes with --device linux'],
    ['compare-copies --device linux --traced', '--traced is of the model: leave it out with --device linux'],
    ['compare-copies --device linux --param a=1', '--param is of the model: leave it out with --device linux'],
    ['compare-copies --device linux --runs 0', '--runs 0: expected a whole number from 1'],
    ['compare-copies --device linux --runs x', '--runs x: expected a whole number from 1'],
    ['compare-copies --device linux --count 0', '--count 0: expected a whole number from 1'],
    ['compare-copies --device linux --scenario a', '--scenario goes with a FILE'],
    ['compare-copies --device linux --managed-limit x', '--managed-limit x: expected bytes from 4096'],
    ['compare-copies DIR/no.json --device linux', 'DIR/no.json: '],
  ])('refuses: %s', refused);
});
