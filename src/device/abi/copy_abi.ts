import type { copyIoctls } from './ioctls.ts';

export type CopyCalls = ReturnType<typeof copyIoctls>;
export function parseCopyAbi(_json: unknown): { ok: true; calls: CopyCalls } | { ok: false; error: string } {
  return { ok: false, error: 'in progress' };
}
