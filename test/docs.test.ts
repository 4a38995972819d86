/**
 * What the documents name must exist: every path in a code span that begins with one of the repository's folders, the
 * symbol behind it in `src/a/b.ts:name`, and every name in camelCase, which must occur somewhere in src.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const PATH = /^(?:src|data|test|scripts|profiles|recordings|docs|bench|examples|\.ci)\/[\w./*<>-]*$/;
const PATH_AND_SYMBOL = /^((?:src|test|scripts|bench)\/[\w./-]+\.(?:ts|mjs)):(\w+)$/;

const CAMEL_CASE = /^[a-z]+(?:[A-Z][a-z\d]*)+$/;
/** Names of CUDA, of tools and of Node. */
const OTHERS = [
  'atomicAdd',
  'cudaMallocManaged',
  'cudaMemPrefetchAsync',
  'erasableSyntaxOnly',
  'noRestrictedGlobals',
  'parseArgs',
];

const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
  .map((name) => readFileSync(join(root, 'src', name), 'utf8'));
const identifiers = new Set(sources.flatMap((text) => text.match(/[A-Za-z]\w*/g) ?? []));

interface Doc {
  path: string;
  text: string;
}

function readDocs(): Doc[] {
  const names = readdirSync(root).filter((name) => name.endsWith('.md'));
  for (const name of readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })) {
    if (name.endsWith('.md')) names.push(join('docs', name));
  }
  return names.map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));
}

/** The code spans of a document, without fenced blocks. */
function spans(text: string): string[] {
  const prose = text.replace(/^(```|~~~)[\s\S]*?^\1/gm, '');
  return [...prose.matchAll(/`([^`\n]+)`/g)].map((match) => match[1]);
}

function exists(path: string): boolean {
  const star = path.indexOf('*');
  if (star < 0) return existsSync(join(root, path));
  const folder = path.slice(0, path.lastIndexOf('/', star) + 1);
  const [before, after] = path.slice(folder.length).split('*');
  return readdirSync(join(root, folder)).some((name) => name.startsWith(before) && name.endsWith(after));
}

/** What a document names that is not there. */
function missing(doc: Doc): string[] {
  const found: string[] = [];
  for (const span of spans(doc.text)) {
    const symbol = PATH_AND_SYMBOL.exec(span);
    if (symbol !== null) {
      const [, path, name] = symbol;
      if (!exists(path)) found.push(`${doc.path}: ${path} does not exist`);
      else if (!new RegExp(`\\b${name}\\b`).test(readFileSync(join(root, path), 'utf8'))) {
        found.push(`${doc.path}: ${path} has no ${name}`);
      }
    } else if (PATH.test(span) && !span.includes('<') && !exists(span)) {
      found.push(`${doc.path}: ${span} does not exist`);
    } else if (CAMEL_CASE.test(span) && !identifiers.has(span) && !OTHERS.includes(span)) {
      found.push(`${doc.path}: nothing in src is called ${span}`);
    }
  }
  return found;
}

describe('documents', () => {
  it('name files and symbols that exist', () => {
    const docs = readDocs();
    expect(docs.length).toBeGreaterThan(5);
    expect(docs.flatMap(missing)).toEqual([]);
  });

  it('are found out when they name what is not there', () => {
    const text = [
      'In `src/model/state.ts:Seams` and `src/model/state.ts:NoSuchThing`,',
      'see `src/no_such_file.ts`, `profiles/*.json`, `profiles/*.toml`, `createModel`, `createNothingAtAll`.',
      '```',
      'a fence: `src/no_such_example.ts`',
      '```',
    ].join('\n');
    expect(missing({ path: 'x.md', text })).toEqual([
      'x.md: src/model/state.ts has no NoSuchThing',
      'x.md: src/no_such_file.ts does not exist',
      'x.md: profiles/*.toml does not exist',
      'x.md: nothing in src is called createNothingAtAll',
    ]);
  });
});
