/** The package's own files, wherever it is installed: machine profiles and the recordings it ships with. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { KnownMachines } from '../scenario/machine.ts';
import { type Profile, parseProfile } from '../scenario/profile.ts';

interface Manifest {
  name: string;
  version: string;
}

let found: { root: string; manifest: Manifest } | null = null;

/** The package's folder is above this module, whether it runs from src, from dist or from a bundle. */
function locate(): { root: string; manifest: Manifest } {
  if (found !== null) return found;
  for (let dir = dirname(fileURLToPath(import.meta.url)); ; dir = dirname(dir)) {
    const path = join(dir, 'package.json');
    if (existsSync(path)) {
      const manifest = JSON.parse(readFileSync(path, 'utf8')) as Manifest;
      if (manifest.name === 'uvmlab') {
        found = { root: dir, manifest };
        return found;
      }
    }
    if (dir === dirname(dir)) throw new Error('the folder of the package uvmlab is not found above its own modules');
  }
}

export function packageRoot(): string {
  return locate().root;
}

export function packageVersion(): string {
  return locate().manifest.version;
}

/** Path of a file of the package's `recordings` folder. */
export function recordingPath(name: string): string {
  return join(packageRoot(), 'recordings', name);
}

/** The machine profiles that there are. Each is read when it is first asked for. */
export interface Machines {
  /** What reading a scenario needs to know: names and numbers of GPUs. */
  readonly known: KnownMachines;
  /** The profile of a known machine. Throws an Error that says what is wrong with its file. */
  profile(name: string): Profile;
}

/** The profiles in a folder, by default the package's own; a profile's name is its file's. */
export function loadMachines(folder = join(packageRoot(), 'profiles')): Machines {
  const raw = new Map<string, unknown>();
  const known: Record<string, { gpus: number }> = {};
  for (const file of readdirSync(folder).sort()) {
    if (!file.endsWith('.json')) continue;
    const name = file.slice(0, -'.json'.length);
    const json = JSON.parse(readFileSync(join(folder, file), 'utf8')) as { machine?: { gpus?: unknown } } | null;
    raw.set(name, json);
    known[name] = { gpus: Number(json?.machine?.gpus ?? 0) };
  }
  const parsed = new Map<string, Profile>();
  return {
    known,
    profile: (name) => {
      let profile = parsed.get(name);
      if (profile === undefined) {
        profile = parseProfile(raw.get(name));
        parsed.set(name, profile);
      }
      return profile;
    },
  };
}
