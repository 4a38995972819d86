import { expect, it } from 'vitest';
import { itOnLinux } from '../../../test/support/on_linux.ts';
import { loadKoffi, platformProblem } from './ffi.ts';

it.each(['x64', 'arm64'])('a driver can be talked to on Linux and %s', (arch) => {
  expect(platformProblem('linux', arch)).toBeNull();
});

it.each(['darwin', 'win32', 'freebsd'])('%s has none, whatever its processor is', (platform) => {
  const problem = `a real nvidia-uvm driver needs Linux, this is ${platform}; the model works here`;
  expect(platformProblem(platform, 'x64')).toMatch(problem);
  expect(platformProblem(platform, 'ia32')).toMatch(problem);
});

it.each(['ia32', 'arm', 'riscv64', 'ppc64'])('Linux on %s has none', (arch) => {
  expect(platformProblem('linux', arch)).toBe(
    `a real nvidia-uvm driver needs x64 or arm64, this is ${arch}; the model works here`,
  );
});

itOnLinux('the interface is loaded once', async () => {
  const koffi = await loadKoffi();
  expect(koffi.load).toBeTypeOf('function');
  expect(await loadKoffi()).toBe(koffi);
});
