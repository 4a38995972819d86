/**
 * A Chromium for the tests of the page and for the screenshots of the documents: one of the machine where there is one,
 * else the one that the package @sparticuz/chromium carries, unpacked once below node_modules/.cache.
 *
 * That package unpacks itself for one cloud alone and takes an unpacked browser on trust; so its archives are unpacked
 * here, beside a list of fonts that names its own.
 */
import { spawnSync } from 'node:child_process';
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createBrotliDecompress } from 'node:zlib';
import { chromium } from 'playwright-core';
import { root } from './steps.mjs';

const require = createRequire(import.meta.url);
const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
/** Name a browser that should be taken, as a path; the first one counts. */
export const BROWSER_VARIABLES = ['UVMLAB_CHROMIUM', 'CHROME_PATH'];
const INSTALL =
  `install a Chromium (for example: apt-get install chromium), or set ${BROWSER_VARIABLES[0]} to the path of one, ` +
  'or install the development packages again (npm ci)';

/** @returns {string | null} the path of a browser of this machine */
function installed() {
  for (const variable of BROWSER_VARIABLES) {
    const named = process.env[variable];
    if (named === undefined || named === '') continue;
    if (!existsSync(named)) throw new Error(`${variable} is ${named}, and there is no such file; ${INSTALL}`);
    return named;
  }
  for (const name of NAMES) {
    const { status, stdout } = spawnSync('which', [name], { encoding: 'utf8' });
    if (status === 0 && stdout.trim() !== '') return stdout.trim();
  }
  return null;
}

/** @returns {string | null} the folder with the archives of the package */
function archives() {
  try {
    return join(dirname(require.resolve('@sparticuz/chromium')), '../../bin');
  } catch {
    return null;
  }
}

/**
 * A list of fonts: the package's own for text, and for columns of digits whichever the machine has with letters of one
 * width, as the package has none.
 * @param {string} target
 */
function fontsConf(target) {
  /** @param {string} name @param {readonly string[]} families */
  const alias = (name, families) => {
    const list = families.map((family) => `<family>${family}</family>`).join('');
    return `<alias binding="same"><family>${name}</family><prefer>${list}</prefer></alias>`;
  };
  return [
    '<?xml version="1.0"?>',
    '<fontconfig>',
    `<dir>${target}/fonts</dir><dir>/usr/share/fonts</dir><cachedir>${target}/fonts-cache</cachedir>`,
    ...['sans-serif', 'system-ui', 'Segoe UI'].map((name) => alias(name, ['Open Sans'])),
    alias('monospace', ['DejaVu Sans Mono', 'Liberation Mono', 'Noto Sans Mono']),
    '</fontconfig>',
    '',
  ].join('\n');
}

/**
 * @param {string} from the folder with the archives
 * @returns {Promise<string>} the folder with the browser
 */
async function unpack(from) {
  // The package exports no package.json; it lies beside its archives.
  const { version } = JSON.parse(readFileSync(join(from, '..', 'package.json'), 'utf8'));
  const target = `${root}node_modules/.cache/uvmlab/chromium-${version}`;
  const conf = join(target, 'fonts', 'fonts.conf');
  if (existsSync(join(target, 'chromium'))) {
    if (!existsSync(conf) || readFileSync(conf, 'utf8') !== fontsConf(target)) writeFileSync(conf, fontsConf(target));
    return target;
  }
  const { extract } = await import('tar-fs');
  const beside = `${target}.${process.pid}`;
  rmSync(beside, { recursive: true, force: true });
  mkdirSync(beside, { recursive: true });
  /** @param {string} name @param {NodeJS.WritableStream} sink */
  const take = (name, sink) => pipeline(createReadStream(join(from, name)), createBrotliDecompress(), sink);
  await Promise.all([
    take('chromium.br', createWriteStream(join(beside, 'chromium'), { mode: 0o755 })),
    take('swiftshader.tar.br', extract(beside)),
    take('fonts.tar.br', extract(join(beside, 'fonts'))),
    take('al2023.tar.br', extract(join(beside, 'al2023'))),
  ]);
  writeFileSync(join(beside, 'fonts', 'fonts.conf'), fontsConf(target));
  try {
    renameSync(beside, target);
  } catch (error) {
    // Another process was faster.
    rmSync(beside, { recursive: true, force: true });
    if (!existsSync(join(target, 'chromium'))) throw error;
  }
  return target;
}

/**
 * A headless browser. Rejects, and says what to install, where there is none or it does not start.
 * @returns {Promise<import('playwright-core').Browser>}
 */
export async function launchBrowser() {
  const args = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run'];
  const known = installed();
  const from = known === null ? archives() : null;
  if (known === null && from === null) throw new Error(`no browser: ${INSTALL}`);
  const folder = from === null ? null : await unpack(from);
  const environment =
    folder === null
      ? {}
      : {
          FONTCONFIG_PATH: join(folder, 'fonts'),
          LD_LIBRARY_PATH: [join(folder, 'al2023', 'lib'), process.env['LD_LIBRARY_PATH']].filter(Boolean).join(':'),
        };
  const executablePath = known ?? join(/** @type {string} */ (folder), 'chromium');
  try {
    const env = /** @type {Record<string, string>} */ ({ ...process.env, ...environment });
    return await chromium.launch({ executablePath, headless: true, args, env });
  } catch (error) {
    throw new Error(
      `the browser ${executablePath} does not start; ${INSTALL}\n${/** @type {Error} */ (error).message}`,
    );
  }
}
