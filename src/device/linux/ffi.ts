/**
 * The one door to the foreign-function interface (the optional package koffi). It is loaded when the first call into
 * Linux or libcuda is wanted, so that everything else works without it.
 */

/** A function of a C library; it blocks the thread, and `async` runs it on another one. */
export interface NativeFunction<R = number> {
  (...args: readonly unknown[]): R;
  /** The last argument is called with an error or null, and the result. */
  async(...args: readonly unknown[]): void;
}

export interface Library {
  /** Binds the function of a C declaration. Throws when the library has none of that name. */
  func<R = number>(declaration: string): NativeFunction<R>;
}

/** What is used of the package. */
export interface Koffi {
  load(name: string): Library;
  view(address: bigint, length: number): ArrayBuffer;
  errno(): number;
}

/** This machine cannot do what is asked for; the message says what is missing and what to do. */
export class UnavailableError extends Error {
  override name = 'UnavailableError';
}

let loaded: Koffi | null = null;

/** Whether there is a real driver to talk to on such a machine at all; null when there is, else why not. */
export function platformProblem(platform: string, arch: string): string | null {
  if (platform !== 'linux') {
    return `a real nvidia-uvm driver needs Linux, this is ${platform}; the model works here (leave out --device linux)`;
  }
  if (arch !== 'x64' && arch !== 'arm64') {
    return `a real nvidia-uvm driver needs x64 or arm64, this is ${arch}; the model works here`;
  }
  return null;
}

/** The interface. Throws UnavailableError on other systems than Linux, and where the package is not installed. */
export async function loadKoffi(): Promise<Koffi> {
  if (loaded !== null) return loaded;
  const problem = platformProblem(process.platform, process.arch);
  if (problem !== null) throw new UnavailableError(problem);
  try {
    const module = (await import('koffi')) as unknown as { default?: Koffi } & Koffi;
    loaded = module.default ?? module;
  } catch (error) {
    const { message } = error as Error;
    throw new UnavailableError(
      `the package koffi, which calls into Linux, cannot be loaded on ${process.platform}-${process.arch}: ` +
        `${message.split('\n')[0]}; install it with: npm install koffi`,
    );
  }
  return loaded;
}

/** The memory at an address of this process as an ArrayBuffer. It must not be touched once it is unmapped. */
export function viewMemory(koffi: Koffi, address: bigint, length: number): ArrayBuffer {
  return koffi.view(address, length);
}
