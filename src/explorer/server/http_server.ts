/**
 * The server of `uvmlab serve`: a page and the answers to its questions, for this machine's user alone.
 *
 * - It listens on the loopback address, and answers only requests that name it so (Host), which a page of another site
 *   that has made its name point here cannot (DNS rebinding).
 * - A question has the type application/json, so that a page of another site cannot send one without asking first, and
 *   no Origin, or the server's own.
 * - The page is a table of files that were read at the start. No path of a request reaches the file system.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TraceBackend } from '../api.ts';
import { encodeFrame } from '../framing.ts';
import { ASK_PATH, FRAME_TYPE } from '../http_client.ts';
import { type Answers, METHODS } from '../protocol.ts';

export const LOOPBACK = '127.0.0.1';
/** Longest question. */
export const BODY_BYTES_MAX = 64 * 1024;
/** A browser has six; there may be several. */
const CONNECTIONS_MAX = 128;

/** A file of the page by its path, which begins with a slash. */
export type PageFiles = ReadonlyMap<string, { type: string; bytes: Uint8Array }>;

export interface ExplorerServer {
  readonly port: number;
  /** As a browser wants it. */
  readonly address: string;
  close(): Promise<void>;
}

export interface ServerOptions {
  backend: TraceBackend;
  page: PageFiles;
  /** 0: any that is free. */
  port: number;
}

/** Nothing but the page's own files; images and styles of its own making. */
const CONTENT_POLICY =
  "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const HEADERS = {
  'content-security-policy': CONTENT_POLICY,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
};

class Refused extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** A response to HEAD has the head alone: Node leaves the pieces out. */
function send(response: ServerResponse, status: number, type: string, pieces: readonly Uint8Array[]): void {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  response.writeHead(status, { ...HEADERS, 'content-type': type, 'content-length': length });
  for (const piece of pieces) response.write(piece);
  response.end();
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  send(response, status, 'application/json', [Buffer.from(JSON.stringify(value))]);
}

/** Names under which a browser of this machine reaches the server. */
function hostsOf(port: number): Set<string> {
  return new Set([`localhost:${port}`, `${LOOPBACK}:${port}`, `[::1]:${port}`]);
}

/** As it came: nothing is decoded, and dots mean nothing. */
function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').replace(/[?#].*$/s, '');
}

function checkSender(request: IncomingMessage, port: number): void {
  const hosts = hostsOf(port);
  // As they were sent: where there are several, all of them.
  const host = (request.headersDistinct['host'] ?? []).join();
  const origins = request.headersDistinct['origin'] ?? [];
  if (!hosts.has(host.toLowerCase())) {
    throw new Refused(421, `Host ${host}: this server answers to ${[...hosts].join(', ')}`);
  }
  const own = [...hosts].map((name) => `http://${name}`);
  if (origins.length > 1 || !origins.every((origin) => own.includes(origin.toLowerCase()))) {
    throw new Refused(403, `Origin ${origins.join()}: only the explorer's own page may ask`);
  }
  // What browsers say of themselves, and no page can change.
  const site = request.headers['sec-fetch-site'] ?? 'none';
  if (pathOf(request) === ASK_PATH && site !== 'none' && site !== 'same-origin') {
    throw new Refused(403, `a question from another site (${site}): only the explorer's own page may ask`);
  }
}

/** The body as text. Rejects with 413 as soon as it is known to be too long; the rest of it is not read. */
function bodyOf(request: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const tooLong = (): void => {
      request.pause();
      reject(new Refused(413, `a question of more than ${BODY_BYTES_MAX} bytes`));
    };
    if (Number(request.headers['content-length'] ?? 0) > BODY_BYTES_MAX) {
      tooLong();
      return;
    }
    const pieces: Uint8Array[] = [];
    let length = 0;
    request.on('data', (piece: Uint8Array) => {
      length += piece.length;
      if (length > BODY_BYTES_MAX) tooLong();
      else pieces.push(piece);
    });
    request.on('end', () => resolve(Buffer.concat(pieces).toString('utf8')));
    request.on('error', reject);
    request.on('aborted', () => reject(new Refused(400, 'the question broke off')));
  });
}

interface Asked {
  method: keyof Answers;
  args: unknown[];
}

function parseQuestion(text: string): Asked {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Refused(400, `the question is not JSON: ${(error as Error).message}`);
  }
  const { method, args } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  if (typeof method !== 'string' || !Object.hasOwn(METHODS, method)) {
    throw new Refused(400, `method: ${JSON.stringify(method)}; expected one of ${Object.keys(METHODS).join(', ')}`);
  }
  const known = method as keyof Answers;
  if (!Array.isArray(args) || args.length !== METHODS[known]) {
    throw new Refused(400, `args: expected a list of ${METHODS[known]} for ${known}`);
  }
  return { method: known, args };
}

async function answerQuestion(request: IncomingMessage, response: ServerResponse, backend: TraceBackend) {
  const type = request.headers['content-type'] ?? 'none';
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new Refused(415, `content-type ${type}: expected application/json`);
  }
  const { method, args } = parseQuestion(await bodyOf(request));
  const ask = (backend as Partial<Answers>)[method] as ((...all: unknown[]) => Promise<unknown>) | undefined;
  if (ask === undefined) throw new Refused(400, `method: ${method}; it is not answered here`);
  let value: unknown;
  try {
    value = await ask(...args);
  } catch (error) {
    throw new Refused(422, error instanceof Error ? error.message : String(error));
  }
  send(response, 200, FRAME_TYPE, encodeFrame(value));
}

async function handle(request: IncomingMessage, response: ServerResponse, options: ServerOptions, port: number) {
  checkSender(request, port);
  const path = pathOf(request);
  if (path === ASK_PATH) {
    if (request.method !== 'POST') throw new Refused(405, `${request.method}: a question is a POST`);
    await answerQuestion(request, response, options.backend);
    return;
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    throw new Refused(405, `${request.method}: the page is read with GET`);
  }
  const file = options.page.get(path === '/' ? '/index.html' : path);
  if (file === undefined) throw new Refused(404, 'there is no such page');
  send(response, 200, file.type, [file.bytes]);
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, LOOPBACK, () => resolve((server.address() as AddressInfo).port));
  });
}

/** Listens on the loopback address. Rejects with the system's error where the port cannot be had. */
export async function startServer(options: ServerOptions): Promise<ExplorerServer> {
  let port = 0;
  const server = createServer((request, response) => {
    handle(request, response, options, port).catch((error: unknown) => {
      if (response.headersSent) {
        response.destroy();
        return;
      }
      const status = error instanceof Refused ? error.status : 500;
      // What is left of a body that is not read would be taken for the next request.
      response.setHeader('connection', 'close');
      sendJson(response, status, { error: error instanceof Error ? error.message : String(error) });
    });
  });
  server.headersTimeout = 10_000;
  server.requestTimeout = 30_000;
  server.maxConnections = CONNECTIONS_MAX;
  port = await listen(server, options.port);
  return {
    port,
    address: `http://${LOOPBACK}:${port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
