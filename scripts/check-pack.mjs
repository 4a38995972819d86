/**
 * Packs the package, installs the tarball into an empty folder and uses it there as a user would: the command, the
 * import, the types. Needs no network: the packages it depends on are packed from node_modules, where the lock file's
 * versions lie. Expects a fresh dist/ (npm run build).
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMain, root } from './steps.mjs';

/** What an installation may weigh, in bytes, without the optional package. */
const INSTALLED_BYTES_MAX = 15_000_000;

const MUST_HOLD = [
  'dist/index.js',
  'dist/index.d.ts',
  'dist/cli/main.js',
  'data/driver-map.json',
  'README.md',
  'LICENSE',
  'CHANGELOG.md',
];
const MUST_NOT_HOLD = /\.test\.|^src\/|^test\/|^node_modules\/|\.tsbuildinfo$/;

const SCENARIO = {
  name: 'packed',
  machine: 'h200-pcie5',
  allocations: [{ name: 'a', bytes: 8192 }],
  steps: [
    { on: 'cpu', do: 'write', buffer: 'a', pages: [0] },
    { on: 'gpu0', do: 'read', buffer: 'a', pages: [0] },
  ],
};

/** The package's doors, each with a name that it has to have. */
const DOORS = { uvmlab: 'executeRun', 'uvmlab/device': 'createModelProgram', 'uvmlab/linux': 'startRecorder' };
const CONSUMER = Object.entries(DOORS)
  .map(([door, name]) => `import { ${name} } from '${door}';\nexport const ${name}Type: string = typeof ${name};\n`)
  .join('');
const CONSUMER_TSCONFIG = {
  compilerOptions: { noEmit: true, strict: true, target: 'es2023', module: 'nodenext', types: [] },
  files: ['consumer.mts'],
};

/**
 * @param {string} command
 * @param {string[]} args
 * @param {string} cwd
 * @returns {string} stdout; throws with all output when the command fails
 */
function run(command, args, cwd) {
  const shell = process.platform === 'win32' && command !== process.execPath;
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, shell, encoding: 'utf8' });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}\n${stdout}${stderr}`);
  return stdout;
}

/**
 * The folders in node_modules of everything that an installation of this package brings, from the lock file.
 * @returns {string[]}
 */
function runtimePackages() {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  return Object.entries(lock.packages)
    .filter(([path, pkg]) => path !== '' && !pkg.dev && !pkg.devOptional && !pkg.optional)
    .map(([path]) => `./${path}`);
}

/**
 * @param {string} dir
 * @returns {number} bytes of all files below
 */
function bytesBelow(dir) {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}

/**
 * @param {boolean} ok
 * @param {string} message
 */
function must(ok, message) {
  if (!ok) throw new Error(message);
}

/**
 * @param {string} into
 * @returns {string[]} paths of the tarballs: this package first, then what it depends on
 */
function pack(into) {
  mkdirSync(into);
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', into, '.', ...runtimePackages()];
  /** @type {{ filename: string, name: string, files: { path: string }[] }[]} */
  const packed = Object.values(JSON.parse(run('npm', args, root)));
  const paths = packed[0].files.map((file) => file.path);
  for (const path of MUST_HOLD) must(paths.includes(path), `the package lacks ${path}`);
  const strangers = paths.filter((path) => MUST_NOT_HOLD.test(path));
  must(strangers.length === 0, `the package holds ${strangers.join(', ')}`);
  console.log(`packed ${paths.length} files`);
  return packed.map(({ filename }) => join(into, filename));
}

/** @param {string} home the folder of the installation */
function useCommand(home) {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const said = run('npx', ['--no-install', 'uvmlab', '--version'], home).trim();
  must(said.split(/\s/).includes(version), `uvmlab --version says ${said}, package.json ${version}`);

  writeFileSync(join(home, 'tiny.json'), JSON.stringify(SCENARIO));
  run('npx', ['--no-install', 'uvmlab', 'run', 'tiny.json', '--events', 'out.jsonl'], home);
  const lines = readFileSync(join(home, 'out.jsonl'), 'utf8').trimEnd().split('\n');
  const result = JSON.parse(lines[0]);
  must(lines.length === 1 && result.scenario === SCENARIO.name, `uvmlab run wrote ${lines[0]}`);
  /** @type {{ event?: string, kind?: string }[]} */
  const events = result.events;
  must(Array.isArray(events) && events.length > 0, 'uvmlab run wrote no events');
  must(JSON.stringify(events).includes('"gpuFault"'), 'the GPU read a page of the CPU, and no gpuFault was written');
  console.log(`uvmlab ${version} runs: ${events.length} events`);
}

/** @param {string} home */
function useLibrary(home) {
  for (const [door, name] of Object.entries(DOORS)) {
    const show = `import('${door}').then((m) => console.log(typeof m.${name}))`;
    const type = run(process.execPath, ['--input-type=module', '-e', show], home).trim();
    must(type === 'function', `import('${door}') has no function ${name}: ${type}`);
  }

  writeFileSync(join(home, 'consumer.mts'), CONSUMER);
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  writeFileSync(join(home, 'tsconfig.json'), JSON.stringify(CONSUMER_TSCONFIG));
  run(process.execPath, [tsc, '-p', 'tsconfig.json'], home);
  console.log(`${Object.keys(DOORS).join(', ')} can be imported, and their types compile`);
}

function main() {
  const temporary = mkdtempSync(join(tmpdir(), 'uvmlab-pack-'));
  try {
    const tarballs = pack(join(temporary, 'tarballs'));
    const home = join(temporary, 'home');
    mkdirSync(home);
    writeFileSync(join(home, 'package.json'), '{ "private": true }\n');
    // Without the optional koffi: npm may have it in its cache, and then what is weighed would hang on that.
    const flags = ['--offline', '--no-audit', '--no-fund', '--ignore-scripts', '--omit=optional'];
    run('npm', ['install', ...flags, ...tarballs], home);
    const bytes = bytesBelow(join(home, 'node_modules'));
    must(bytes <= INSTALLED_BYTES_MAX, `installed: ${bytes} bytes, at most ${INSTALLED_BYTES_MAX}`);
    console.log(`installed: ${(bytes / 1e6).toFixed(1)} MB`);
    useCommand(home);
    useLibrary(home);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

if (isMain(import.meta.url)) {
  try {
    main();
  } catch (error) {
    console.error(`The package fails: ${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  }
}
