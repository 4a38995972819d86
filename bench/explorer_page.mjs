/**
 * The explorer's page over a long trace, in a headless browser: seconds from the start of the server to the first events
 * on the timeline, frames a second while panning, and memory. After `npm run build`:
 *
 *     node bench/explorer_page.mjs [ROWS]      10 million where no number is named
 *
 * Prints one line of JSON. Nothing of it is a test: figures depend on the machine.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { saveTrace } from '../dist/trace/store/trace_writer.js';
import { launchBrowser } from '../scripts/browser.mjs';
import { syntheticTrace } from './synthetic_trace.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const MAKE = '--make';
if (process.argv[2] === MAKE) {
  saveTrace(process.argv[3], syntheticTrace(Number(process.argv[4])));
  process.exit();
}
const rows = Number(process.argv[2] ?? 10_000_000);
/** Pixels that the pointer goes in a frame while it drags, and for how long, ms. */
const PIXELS = 4;
const PAN_MS = 4000;

const folder = mkdtempSync(join(tmpdir(), 'uvmlab-page-'));
const path = join(folder, 'long.parquet');
// By a process of its own: this one would collect gigabytes while the server is timed.
const made = spawnSync(process.execPath, [fileURLToPath(import.meta.url), MAKE, path, String(rows)], {
  stdio: 'inherit',
});
if (made.status !== 0) throw new Error('the trace could not be made');
const browser = await launchBrowser();
const page = await browser.newPage({ viewport: { width: 1280, height: 720 } });

const begin = performance.now();
const server = spawn(process.execPath, [join(root, 'dist', 'cli', 'main.js'), 'serve', path]);
const address = await new Promise((resolve, reject) => {
  server.stdout.on('data', (piece) => {
    const found = /http:\S+/.exec(String(piece));
    if (found !== null) resolve(found[0]);
  });
  server.stderr.pipe(process.stderr);
  server.on('exit', reject);
});
try {
  await page.goto(address);
  await page.waitForFunction(
    () => {
      const canvas = document.querySelector('.canvas-holder canvas');
      if (canvas === null || canvas.width === 0) return false;
      const { data } = canvas.getContext('2d').getImageData(0, 24, canvas.width, 60);
      for (let i = 0; i < data.length; i += 4) {
        const least = Math.min(data[i], data[i + 1], data[i + 2]);
        const most = Math.max(data[i], data[i + 1], data[i + 2]);
        if (data[i + 3] > 0 && most - least > 60) return true;
      }
      return false;
    },
    null,
    { timeout: 120_000, polling: 20 },
  );
  const openSeconds = (performance.now() - begin) / 1000;

  // A window of a tenth, so that there is something to pan over.
  const box = await page.locator('.canvas-holder canvas').boundingBox();
  const middle = { x: box.x + box.width / 2, y: box.y + 60 };
  await page.mouse.move(middle.x, middle.y);
  for (let i = 0; i < 10; i++) await page.mouse.wheel(0, -100);
  await page.waitForTimeout(1500);
  // The page itself counts its frames, and drags as a hand does: a little further in each frame, back and forth.
  const frames = await page.evaluate(
    ({ pixels, ms }) =>
      new Promise((resolve) => {
        const canvas = document.querySelector('.canvas-holder canvas');
        const rect = canvas.getBoundingClientRect();
        const send = (type, x) =>
          canvas.dispatchEvent(
            new PointerEvent(type, {
              clientX: rect.left + x,
              clientY: rect.top + 60,
              pointerId: 1,
              button: 0,
              buttons: 1,
              bubbles: true,
            }),
          );
        canvas.setPointerCapture = () => {};
        let x = rect.width / 2;
        let way = -pixels;
        send('pointerdown', x);
        const times = [];
        const start = performance.now();
        const frame = (now) => {
          times.push(now);
          x += way;
          if (x < 40 || x > rect.width - 40) way = -way;
          send('pointermove', x);
          if (now - start < ms) requestAnimationFrame(frame);
          else {
            send('pointerup', x);
            resolve(times);
          }
        };
        requestAnimationFrame(frame);
      }),
    { pixels: PIXELS, ms: PAN_MS },
  );
  const gaps = frames.slice(1).map((time, i) => time - frames[i]);
  gaps.sort((a, b) => a - b);
  const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'));
  const heap = await page.evaluate(() => performance.memory?.usedJSHeapSize ?? null);
  const figures = {
    rows,
    openSeconds: Number(openSeconds.toFixed(2)),
    framesASecond: Number(((gaps.length * 1000) / (frames[frames.length - 1] - frames[0])).toFixed(1)),
    slowestFrameOfAHundredMs: Number(gaps[Math.floor(gaps.length * 0.99)].toFixed(1)),
    serverPeakMiB: peak === null ? null : Math.round(Number(peak[1]) / 1024),
    pageHeapMiB: heap === null ? null : Math.round(heap / 2 ** 20),
  };
  console.log(JSON.stringify(figures));
} finally {
  await browser.close();
  server.kill('SIGINT');
  rmSync(folder, { recursive: true, force: true });
}
