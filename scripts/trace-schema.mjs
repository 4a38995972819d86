/**
 * Makes docs/trace-schema.md from src/trace/store/trace_schema.ts and trace_views.ts:
 *
 *     node scripts/trace-schema.mjs
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { root } from './steps.mjs';

const { outputFiles } = await build({
  absWorkingDir: root,
  entryPoints: ['src/trace/store/trace_schema_doc.ts'],
  bundle: true,
  write: false,
  platform: 'node',
  format: 'esm',
  packages: 'external',
  logLevel: 'error',
});
const module = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`);
writeFileSync(join(root, 'docs/trace-schema.md'), module.traceSchemaText());
