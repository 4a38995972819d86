/** The page of the explorer: web/ as a few files in dist/web, which ask for nothing that lies elsewhere. */
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { build } from 'esbuild';
import { isMain, root } from './steps.mjs';

/** zod's messages in fifty languages are a third of the worker; uvmlab has messages of its own. */
const withoutLocales = {
  name: 'without-locales',
  /** @param {import('esbuild').PluginBuild} build */
  setup(build) {
    const namespace = 'no-locales';
    build.onResolve({ filter: /\/locales\/index\.js$/ }, ({ path, importer }) =>
      /node_modules[\\/]zod[\\/]/.test(importer) ? { path, namespace } : undefined,
    );
    build.onLoad({ filter: /.*/, namespace }, () => ({ contents: 'export {};' }));
  },
};

/**
 * Makes the page.
 * @param {string} out the folder, dist/web where none is named
 */
export async function buildWeb(out = `${root}dist/web`) {
  const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'));
  mkdirSync(out, { recursive: true });
  await build({
    absWorkingDir: root,
    entryPoints: { app: 'web/main.tsx', worker: 'web/worker.ts' },
    outdir: out,
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    platform: 'browser',
    legalComments: 'none',
    charset: 'utf8',
    define: { UVMLAB_VERSION: JSON.stringify(version) },
    plugins: [withoutLocales],
    logLevel: 'warning',
  });
  copyFileSync(`${root}web/index.html`, `${out}/index.html`);
}

if (isMain(import.meta.url)) await buildWeb();
