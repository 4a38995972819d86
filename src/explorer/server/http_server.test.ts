import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomTimeline } from '../../../test/support/random_timeline.ts';
import { loadMachines } from '../../analysis/machines.ts';
import type { TraceBackend } from '../api.ts';
import { createEngine } from '../engine.ts';
import { decodeFrame } from '../framing.ts';
import { createHttpBackend } from '../http_client.ts';
import { METHODS } from '../protocol.ts';
import { BODY_BYTES_MAX, type ExplorerServer, startServer } from './http_server.ts';

const PAGE = new Map([
  ['/index.html', { type: 'text/html; charset=utf-8', bytes: Buffer.from('<p>page</p>') }],
  ['/page.js', { type: 'text/javascript; charset=utf-8', bytes: Buffer.from('1') }],
]);
const engine = createEngine({ machines: loadMachines() });
engine.add('t1', 'one', randomTimeline(1, 200).trace);
engine.add('t2', 'two', randomTimeline(2, 200).trace);
engine.broken('t3', 'three', 'three.parquet: the file is empty');
let server: ExplorerServer;
beforeAll(async () => {
  server = await startServer({ backend: engine, page: PAGE, port: 0 });
});
afterAll(() => server.close());

interface Reply {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

interface Asked {
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: string | Buffer;
}

/** One request as it is written, whatever a browser would make of it. */
function send({ method = 'GET', path = '/', headers = {}, body }: Asked): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const { port } = server;
    const asked = httpRequest({ host: '127.0.0.1', port, method, path, headers, agent: false }, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(pieces) });
      });
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

const JSON_TYPE = { 'content-type': 'application/json' };
const ask = (value: unknown, more: Asked = {}): Promise<Reply> =>
  send({
    method: 'POST',
    path: '/api/ask',
    body: JSON.stringify(value),
    ...more,
    headers: { ...JSON_TYPE, ...more.headers },
  });

function errorOf({ body }: Reply): string {
  return (JSON.parse(body.toString()) as { error: string }).error;
}

describe('the server', () => {
  it('has the page and nothing else', async () => {
    for (const path of ['/', '/index.html', '/?t=1', '/index.html#a', '/?../../x']) {
      const { status, headers, body } = await send({ path });
      expect([path, status, body.toString()]).toEqual([path, 200, '<p>page</p>']);
      expect(headers['content-type']).toBe('text/html; charset=utf-8');
    }
    expect((await send({ path: '/page.js' })).headers['content-type']).toBe('text/javascript; charset=utf-8');
    const head = await send({ path: '/page.js', method: 'HEAD' });
    expect([head.status, head.headers['content-length'], head.body.length]).toEqual([200, '1', 0]);
  });

  it('finds nothing by paths that lead elsewhere', async () => {
    const { port } = server;
    for (const path of [
      '/../package.json',
      '/../../../../etc/passwd',
      '/..%2f..%2fpackage.json',
      '/%2e%2e/%2e%2e/etc/passwd',
      '/%2e%2e%5cpackage.json',
      '/..\\..\\package.json',
      '/./index.html',
      '//index.html',
      '/page.js/',
      '/page.js%00.html',
      '/page%2ejs',
      '/index.html/../page.js',
      '/file:///etc/passwd',
      '/constructor',
      '/__proto__',
      '/api',
      '/api/',
      '/api/ask/',
      '/API/ask',
      '*',
      '/etc/passwd',
      `http://127.0.0.1:${port}/page.js`,
      'http://example.com/page.js',
      'file:///etc/passwd',
    ]) {
      const reply = await send({ path });
      expect([path, reply.status]).toEqual([path, 404]);
      expect(errorOf(reply)).toBe('there is no such page');
    }
  });

  it('answers to its own names alone, whatever address a name leads to', async () => {
    const { port } = server;
    for (const host of [`localhost:${port}`, `LOCALHOST:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`]) {
      expect([host, (await send({ headers: { host } })).status]).toEqual([host, 200]);
      expect((await ask({ method: 'traces', args: [] }, { headers: { host } })).status).toBe(200);
    }
    const strangers = [
      'localhost',
      '127.0.0.1',
      `127.0.0.1:${port === 80 ? 81 : 80}`,
      `localhost:${port}.example.com`,
      `rebound.example.com:${port}`,
      `127.0.0.1.example.com:${port}`,
      `localhost.:${port}`,
      `0.0.0.0:${port}`,
      `127.0.0.2:${port}`,
      `user@localhost:${port}`,
    ];
    for (const host of strangers) {
      const reply = await send({ headers: { host } });
      expect([host, reply.status]).toEqual([host, 421]);
      expect(errorOf(reply)).toContain(`this server answers to localhost:${port}, 127.0.0.1:${port}`);
      expect((await ask({ method: 'traces', args: [] }, { headers: { host } })).status).toBe(421);
    }
  });

  it('takes questions from its own page alone', async () => {
    const { port } = server;
    const question = { method: 'traces', args: [] };
    for (const origin of [`http://localhost:${port}`, `http://127.0.0.1:${port}`]) {
      expect((await ask(question, { headers: { origin } })).status).toBe(200);
    }
    for (const origin of [
      'null',
      'http://example.com',
      'https://example.com',
      'http://localhost',
      `https://localhost:${port}`,
      `http://localhost:${port}.example.com`,
      `http://localhost:${port + 1}`,
      '',
    ]) {
      const reply = await ask(question, { headers: { origin } });
      expect([origin, reply.status]).toEqual([origin, 403]);
      expect(reply.headers['access-control-allow-origin']).toBeUndefined();
    }
    for (const site of ['cross-site', 'same-site']) {
      expect((await ask(question, { headers: { 'sec-fetch-site': site } })).status).toBe(403);
    }
    for (const site of ['same-origin', 'none']) {
      expect((await ask(question, { headers: { 'sec-fetch-site': site } })).status).toBe(200);
    }
    const preflight = { origin: 'http://example.com', 'access-control-request-method': 'POST' };
    expect((await send({ method: 'OPTIONS', path: '/api/ask', headers: preflight })).status).toBe(403);
  });

  it('takes questions as JSON that a form cannot send, by POST alone', async () => {
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data',
      'application/jsonx',
    ]) {
      const reply = await ask({ method: 'traces', args: [] }, { headers: { 'content-type': type } });
      expect([type, reply.status, errorOf(reply)]).toEqual([
        type,
        415,
        `content-type ${type}: expected application/json`,
      ]);
    }
    const charset = { 'content-type': 'application/json; charset=utf-8' };
    expect((await ask({ method: 'traces', args: [] }, { headers: charset })).status).toBe(200);
    for (const method of ['GET', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'HEAD']) {
      expect([method, (await send({ method, path: '/api/ask' })).status]).toEqual([method, 405]);
    }
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      expect([method, (await send({ method, path: '/index.html' })).status]).toEqual([method, 405]);
    }
  });

  it('refuses bodies that are too long, announced or not', async () => {
    const text = (length: number): string => JSON.stringify({ method: 'traces', args: [] }).padEnd(length, ' ');
    const most = await send({ method: 'POST', path: '/api/ask', headers: JSON_TYPE, body: text(BODY_BYTES_MAX) });
    expect(most.status).toBe(200);
    const body = text(BODY_BYTES_MAX + 1);
    const announced = await send({ method: 'POST', path: '/api/ask', headers: JSON_TYPE, body });
    expect([announced.status, errorOf(announced)]).toEqual([413, 'a question of more than 65536 bytes']);
    const chunked = { ...JSON_TYPE, 'transfer-encoding': 'chunked' };
    const unannounced = await send({ method: 'POST', path: '/api/ask', headers: chunked, body });
    expect(unannounced.status).toBe(413);
    // It still answers others.
    expect((await ask({ method: 'traces', args: [] })).status).toBe(200);
  });

  it('says what is wrong with a question', async () => {
    const cases: [string | Buffer, string][] = [
      ['', 'the question is not JSON: '],
      ['{', 'the question is not JSON: '],
      [Buffer.from([0xff, 0xfe]), 'the question is not JSON: '],
      ['null', 'method: undefined; expected one of traces, tile, row'],
      ['[]', 'method: undefined; expected one of'],
      ['{"method":"add","args":[]}', 'method: "add"; expected one of'],
      ['{"method":"toString","args":[]}', 'method: "toString"; expected one of'],
      ['{"method":"__proto__","args":[]}', 'method: "__proto__"; expected one of'],
      ['{"method":"opening","args":["t1","x"]}', 'method: "opening"; expected one of'],
      ['{"method":"compareTraits","args":[]}', 'args: expected a list of 1 for compareTraits'],
      ['{"method":"row","args":["t1"]}', 'args: expected a list of 2 for row'],
      ['{"method":"row","args":{"length":2}}', 'args: expected a list of 2 for row'],
    ];
    for (const [body, error] of cases) {
      const reply = await send({ method: 'POST', path: '/api/ask', headers: JSON_TYPE, body });
      expect([String(body), reply.status]).toEqual([String(body), 400]);
      expect(errorOf(reply)).toContain(error);
    }
  });

  it('says what is wrong with its arguments, whatever they are', async () => {
    const strange = [null, {}, [], 'x', -1, 1e300, true, { kinds: null }];
    for (const [method, count] of Object.entries(METHODS)) {
      if (count === 0) continue;
      for (const value of strange) {
        for (const first of ['t1', value]) {
          const args = [first, ...new Array<unknown>(count - 1).fill(value)];
          const reply = await ask({ method, args });
          expect([200, 422]).toContain(reply.status);
          if (reply.status === 422) expect(errorOf(reply).length).toBeGreaterThan(5);
        }
      }
    }
    const reply = await ask({ method: 'row', args: ['t9', 1] });
    expect([reply.status, errorOf(reply)]).toEqual([422, 'trace t9: there is none of that name; valid: t1, t2, t3']);
    const broken = await ask({ method: 'row', args: ['t3', 1] });
    expect(errorOf(broken)).toBe('trace t3 cannot be shown: three.parquet: the file is empty');
    const proto = await ask({ method: 'row', args: ['__proto__', 1] });
    expect(proto.status).toBe(422);
  });

  it('lets a page do and load nothing but its own, and keeps nothing', async () => {
    const replies = [
      await send({}),
      await send({ path: '/none' }),
      await ask({ method: 'traces', args: [] }),
      await ask({ method: 'none', args: [] }),
      await send({ headers: { host: 'example.com' } }),
    ];
    for (const { headers } of replies) {
      expect(headers['content-security-policy']).toMatch(/^default-src 'none'; script-src 'self';/);
      expect(headers['content-security-policy']).not.toMatch(/script-src[^;]*(unsafe|http|\*|data:)/);
      expect(headers['x-content-type-options']).toBe('nosniff');
      expect(headers['cache-control']).toBe('no-store');
      expect(headers['cross-origin-resource-policy']).toBe('same-origin');
      expect(headers['access-control-allow-origin']).toBeUndefined();
    }
  });

  it('listens on the loopback address alone', async () => {
    const { port } = server;
    const reaches = (host: string): Promise<boolean> =>
      new Promise((resolve) => {
        const socket = connect({ host, port });
        socket.setTimeout(2000, () => socket.destroy());
        socket.on('connect', () => {
          resolve(true);
          socket.destroy();
        });
        socket.on('error', () => resolve(false));
        socket.on('close', () => resolve(false));
      });
    expect(await reaches('127.0.0.1')).toBe(true);
    const others = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
    for (const { address, internal, family } of others) {
      if (!internal && family === 'IPv4') expect([address, await reaches(address)]).toEqual([address, false]);
    }
    // Another address of the loopback network is not the one that it listens on.
    expect(await reaches('127.0.0.2')).toBe(false);
  });

  it('lives on when a request is cut, or is none', async () => {
    const raw = (text: string): Promise<string> =>
      new Promise((resolve) => {
        const socket = connect({ host: '127.0.0.1', port: server.port });
        let said = '';
        socket.on('data', (piece) => {
          said += piece.toString();
        });
        socket.on('error', () => {});
        socket.on('close', () => resolve(said));
        socket.end(text);
      });
    const host = `Host: localhost:${server.port}`;
    expect(await raw('GARBAGE\r\n\r\n')).toContain('400 Bad Request');
    expect(await raw('GET / HTTP/1.1\r\n\r\n')).toMatch(/ 4\d\d /);
    for (const more of ['Host: example.com', host]) {
      expect(await raw(`GET / HTTP/1.1\r\n${host}\r\n${more}\r\nConnection: close\r\n\r\n`)).toMatch(
        /^HTTP\/1.1 4\d\d /,
      );
    }
    expect(await raw('GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n')).toMatch(/^HTTP\/1.1 421 /);
    expect(await raw('GET / HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1.1 421 /);
    await raw(`POST /api/ask HTTP/1.1\r\n${host}\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{`);
    await raw(`GET /page.js HTTP/1.1\r\n${host}`);
    expect((await send({})).status).toBe(200);
  });

  it('cannot have a port that is taken', async () => {
    await expect(startServer({ backend: engine, page: PAGE, port: server.port })).rejects.toThrow('EADDRINUSE');
  });

  it('answers over HTTP as the engine does', async () => {
    const remote: TraceBackend = createHttpBackend(fetch, server.address.slice(0, -1));
    expect(await remote.traces()).toEqual(JSON.parse(JSON.stringify(await engine.traces())));
    const [entry] = await remote.traces();
    if (entry.state !== 'ready') throw new Error(entry.state);
    const { begin, end, lanes } = entry.summary;
    for (const { id } of lanes) {
      for (const width of [20, 1000]) {
        expect(await remote.tile('t1', id, begin, end, width)).toEqual(await engine.tile('t1', id, begin, end, width));
      }
    }
    expect(await remote.space('t1', end, 50)).toEqual(await engine.space('t1', end, 50));
    expect(await remote.block('t1', 1, 1, end)).toEqual(await engine.block('t1', 1, 1, end));
    expect(await remote.row('t1', 3)).toEqual(await engine.row('t1', 3));
    const query = { kinds: ['gpuFault'], from: -1, direction: 1 } as const;
    expect(await remote.find('t1', { ...query, kinds: [...query.kinds] })).toBe(
      await engine.find('t1', { ...query, kinds: [...query.kinds] }),
    );
    expect(await remote.compare('t1', 't2')).toEqual(await engine.compare('t1', 't2'));
    await expect(remote.walk('t1', 1)).rejects.toThrow('names no machine profile');
    await expect(remote.row('t3', 1)).rejects.toThrow('three.parquet: the file is empty');
    const frame = await ask({ method: 'row', args: ['t1', 3] });
    expect(decodeFrame(new Uint8Array(frame.body).buffer)).toEqual(await engine.row('t1', 3));
  });

  it('ends although connections are open', async () => {
    const other = await startServer({ backend: engine, page: PAGE, port: 0 });
    const socket = connect({ host: '127.0.0.1', port: other.port });
    await new Promise((resolve) => socket.on('connect', resolve));
    socket.on('error', () => {});
    await other.close();
    await expect(fetch(other.address)).rejects.toThrow();
    socket.destroy();
  });
});
