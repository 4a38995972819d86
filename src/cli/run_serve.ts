/** What the command `serve` does. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { packageRoot } from '../analysis/machines.ts';
import { serveTraces } from '../explorer/server/backend.ts';
import { type ExplorerServer, type PageFiles, startServer } from '../explorer/server/http_server.ts';
import type { TraceFile } from '../explorer/server/traces.ts';
import { EXIT_OK, UsageError } from './command.ts';
import type { ServeFlags } from './serve.ts';

/** What there is to see where no file is named: one scenario on an H200 and on the model, and a program of others. */
const SHIPPED = ['recordings/h200-two-sides.jsonl.gz', 'examples/two-sides.json', 'recordings/h100-cupy-sort.uvmrec'];
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
};
const PORT_MAX = 65535;

function shippedTraces(): TraceFile[] {
  return SHIPPED.map((path) => ({ path: join(packageRoot(), path) }));
}

/** Where the build puts the page. */
function builtPage(): string {
  return join(packageRoot(), 'dist', 'web');
}

/** The files of a built page, which lie in one folder. Throws UsageError where there is none. */
export function pageFiles(folder: string): PageFiles {
  if (!existsSync(join(folder, 'index.html'))) {
    throw new UsageError('the page of the explorer was not built; run: npm run build');
  }
  const files = new Map<string, { type: string; bytes: Uint8Array }>();
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const { name } = entry;
    const type = TYPES[extname(name)];
    if (type !== undefined && entry.isFile()) files.set(`/${name}`, { type, bytes: readFileSync(join(folder, name)) });
  }
  return files;
}

function portOf(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > PORT_MAX) throw new UsageError(`--port ${text}: expected 0 to ${PORT_MAX}`);
  return port;
}

async function listen(options: Parameters<typeof startServer>[0]): Promise<ExplorerServer> {
  try {
    return await startServer(options);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'EADDRINUSE' ? 'it is in use' : code === 'EACCES' ? 'permission denied' : message;
    throw new UsageError(`--port ${options.port}: cannot listen there: ${why}`);
  }
}

/** Serves until it is interrupted; returns the exit code. */
export async function runServe(paths: readonly string[], flags: ServeFlags, folder = builtPage()): Promise<number> {
  const { scenario } = flags;
  if (scenario !== undefined && paths.length === 0) throw new UsageError('--scenario: no file is named');
  const port = portOf(flags.port);
  const page = pageFiles(folder);
  const files: TraceFile[] =
    paths.length === 0
      ? shippedTraces()
      : paths.map((path) => (scenario === undefined ? { path } : { path, scenario }));
  const traces = serveTraces(files);
  let server: ExplorerServer;
  try {
    server = await listen({ backend: traces.backend, page, port });
  } catch (error) {
    await traces.close();
    throw error;
  }
  const what = paths.length === 0 ? 'shipped recordings' : `${paths.length} ${paths.length === 1 ? 'file' : 'files'}`;
  process.stdout.write(`${server.address} has the explorer with ${what}, for this machine alone; end with Ctrl-C\n`);
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
  await server.close();
  await traces.close();
  return EXIT_OK;
}
