/**
 * The pictures of docs/explorer.md and docs/report.md: the explorer and reports over what ships with the package, in a
 * headless browser. After
 * `npm run build`:
 *
 *     node scripts/screenshots.mjs [FOLDER]      docs/images where no folder is named
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launchBrowser } from './browser.mjs';
import { root } from './steps.mjs';

const WIDTH = 1280;
const HEIGHT = 720;
/** @type {readonly { name: string, hash: string, theme: 'light' | 'dark' }[]} */
const PICTURES = [
  { name: 'timeline-h200', hash: 'trace=t1&lane=cpu%20gpu0&window=106000000-134000000&time=121000000', theme: 'light' },
  { name: 'timeline-model', hash: 'trace=t2&lane=faults%20gpu0&window=2000000-9000000&time=2450000', theme: 'light' },
  { name: 'timeline-dark', hash: 'trace=t2&lane=gpu0%2F8&row=100&window=2000000-4000000&time=2450000', theme: 'dark' },
  { name: 'block', hash: 'view=block&trace=t2&time=2450000', theme: 'light' },
  { name: 'fault', hash: 'view=walk&trace=t2&fault=30&step=11', theme: 'light' },
  { name: 'compare', hash: 'view=compare&trace=t1&other=t2', theme: 'light' },
  { name: 'live', hash: 'view=live', theme: 'light' },
];

/** @type {readonly { name: string, file: string }[]} */
const REPORTS = [
  { name: 'report-h200', file: 'recordings/h200-two-sides.jsonl.gz' },
  { name: 'report-model', file: 'examples/two-sides.json' },
];

/**
 * @param {import('node:child_process').ChildProcessWithoutNullStreams} child
 * @returns {Promise<string>} the address that the server prints
 */
function addressOf(child) {
  return new Promise((resolve, reject) => {
    let said = '';
    child.stdout.on('data', (piece) => {
      said += piece;
      const found = /http:\S+/.exec(said);
      if (found !== null) resolve(found[0]);
    });
    child.stderr.pipe(process.stderr);
    child.on('exit', (status) => reject(new Error(`the server ended with ${status}; was it built (npm run build)?`)));
  });
}

const folder = process.argv[2] ?? join(root, 'docs', 'images');
mkdirSync(folder, { recursive: true });
const command = join(root, 'dist', 'cli', 'main.js');
const server = spawn(process.execPath, [command, 'serve']);
const address = await addressOf(server);
const browser = await launchBrowser();
try {
  for (const { name, hash, theme } of PICTURES) {
    const page = await browser.newPage({ viewport: { width: WIDTH, height: HEIGHT }, colorScheme: theme });
    await page.goto(`${address}#${hash}`);
    await page.waitForSelector('main .panel');
    await page.waitForLoadState('networkidle');
    // Tiles are painted in the frame behind the one in which they come.
    await page.waitForTimeout(400);
    await page.screenshot({ path: join(folder, `${name}.png`) });
    await page.close();
    console.log(`${name}.png`);
  }
  for (const { name, file } of REPORTS) {
    const html = join(tmpdir(), `uvmlab-${process.pid}.html`);
    const made = spawnSync(process.execPath, [command, 'report', join(root, file), '--html', html], {
      encoding: 'utf8',
    });
    if (made.status !== 0) throw new Error(made.stderr);
    const page = await browser.newPage({ viewport: { width: WIDTH, height: HEIGHT } });
    await page.goto(`file://${html}`);
    await page.screenshot({ path: join(folder, `${name}.png`) });
    await page.close();
    rmSync(html);
    console.log(`${name}.png`);
  }
} finally {
  await browser.close();
  server.kill('SIGINT');
}
