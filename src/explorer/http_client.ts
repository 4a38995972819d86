/** A backend behind `uvmlab serve`: each question is one request. */
import { decodeFrame } from './framing.ts';
import { type Answers, METHODS } from './protocol.ts';

/** Where questions go. */
export const ASK_PATH = '/api/ask';
export const FRAME_TYPE = 'application/x-uvmlab-frame';

type Fetch = (
  url: string,
  init: { method: string; headers: Record<string, string>; body: string },
) => Promise<{ ok: boolean; status: number; arrayBuffer(): Promise<ArrayBuffer>; text(): Promise<string> }>;

async function ask(fetch: Fetch, base: string, method: string, args: unknown[]): Promise<unknown> {
  const response = await fetch(`${base}${ASK_PATH}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ method, args }),
  });
  if (response.ok) return decodeFrame(await response.arrayBuffer());
  const text = await response.text();
  let error = `the server answered ${response.status}`;
  try {
    const { error: said } = JSON.parse(text) as { error?: unknown };
    if (typeof said === 'string') error = said;
  } catch {
    // Whatever else it said is not for the reader.
  }
  throw new Error(error);
}

/** `base` is '' for the page's own server. */
export function createHttpBackend(fetch: Fetch, base = ''): Answers {
  return Object.fromEntries(
    Object.keys(METHODS).map((method) => [method, (...args: unknown[]) => ask(fetch, base, method, args)]),
  ) as unknown as Answers;
}
