/**
 * The model and the explorer run in a browser: bundles them for one, fails if anything of Node is needed, and loads the
 * bundles where neither process nor require nor Buffer exist. If test/browser-smoke.ts is there, its `smoke()` runs in
 * that place too: it imports from src/, resolves with a line of text to print, and rejects when something is wrong.
 */
import { existsSync } from 'node:fs';
import { createContext, runInContext } from 'node:vm';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { root } from './steps.mjs';

/** The web's own globals that the ECMAScript language does not bring along. */
const WEB_GLOBALS = { structuredClone, TextEncoder, TextDecoder };

/**
 * @param {string} entry relative to the root
 * @param {'esm' | 'iife'} format
 * @param {boolean} minify
 * @returns {Promise<string>} the bundle
 */
async function bundle(entry, format, minify) {
  const result = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    bundle: true,
    write: false,
    minify,
    platform: 'browser',
    format,
    globalName: format === 'iife' ? 'bundled' : undefined,
    target: 'es2023',
    logLevel: 'error',
  });
  return result.outputFiles[0].text;
}

/**
 * @param {string} code an iife bundle that leaves its exports in `bundled`
 * @param {string} expression evaluated after it
 * @returns {unknown}
 */
function runAlone(code, expression) {
  const context = createContext({ ...WEB_GLOBALS });
  const strangers = runInContext(
    "['process', 'require', 'Buffer'].filter((name) => name in globalThis).join()",
    context,
  );
  if (strangers !== '') throw new Error(`the context for the bundle is not empty: ${strangers}`);
  runInContext(code, context, { filename: 'bundle.js' });
  return runInContext(expression, context);
}

/** @param {string} entry */
async function check(entry) {
  const page = await bundle(entry, 'esm', true);
  const kib = (/** @type {number} */ bytes) => `${(bytes / 1024).toFixed(1)} KiB`;
  const names = runAlone(await bundle(entry, 'iife', false), 'Object.keys(bundled).length');
  if (!(Number(names) > 0)) throw new Error(`${entry} exports nothing`);
  const sizes = `${kib(Buffer.byteLength(page))} minified, ${kib(gzipSync(page).length)} gzipped`;
  console.log(`${entry}: ${names} exports, ${sizes}`);
}

try {
  if (!existsSync(`${root}src/model/index.ts`)) throw new Error('src/model/index.ts is missing: the model has no door');
  await check('src/model/index.ts');
  if (existsSync(`${root}src/scenario/index.ts`)) await check('src/scenario/index.ts');
  if (existsSync(`${root}test/browser-smoke.ts`)) {
    const said = await runAlone(await bundle('test/browser-smoke.ts', 'iife', false), 'bundled.smoke()');
    if (typeof said !== 'string' || said === '')
      throw new Error('test/browser-smoke.ts: smoke() resolved with no text');
    console.log(`test/browser-smoke.ts: ${said}`);
  }
} catch (error) {
  console.error(`The browser bundle fails: ${error instanceof Error ? error.message : error}`);
  console.error(
    'src/base, src/model, src/scenario and src/explorer must run in a browser: take Node values as parameters.',
  );
  process.exitCode = 1;
}
