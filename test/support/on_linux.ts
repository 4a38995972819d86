/** Tests of calls into Linux. Elsewhere the same calls have to say that there are none, which is a test as well. */
import { expect, it } from 'vitest';
import { UnavailableError } from '../../src/device/linux/ffi.ts';
import { loadLibc } from '../../src/device/linux/libc.ts';

export function itOnLinux(name: string, body: () => unknown): void {
  it(name, async () => {
    if (process.platform === 'linux') await body();
    else await expect(loadLibc()).rejects.toThrow(UnavailableError);
  });
}
