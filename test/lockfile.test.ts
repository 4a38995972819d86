import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

interface Locked {
  version?: string;
  integrity?: string;
  resolved?: string;
  optionalDependencies?: Record<string, string>;
}

const text = readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8');
const packages = Object.entries((JSON.parse(text) as { packages: Record<string, Locked> }).packages);

it('names no registry host, and pins every package by its hash', () => {
  expect(packages.length).toBeGreaterThan(1);
  expect(packages.filter(([, pkg]) => pkg.resolved !== undefined)).toEqual([]);
  expect(packages.filter(([path, pkg]) => path !== '' && !(pkg.version && pkg.integrity))).toEqual([]);
});

// A registry that lacks a package for one platform makes npm leave it out, silently; npm ci then fails everywhere.
it('holds the packages of all platforms', () => {
  const wanted = packages.flatMap(([, pkg]) => Object.keys(pkg.optionalDependencies ?? {}));
  const missing = wanted.filter((name) => !packages.some(([path]) => path.endsWith(`node_modules/${name}`)));
  expect(missing).toEqual([]);
});
