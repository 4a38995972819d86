/**
 * House rules that no other tool checks. Each finding says what to do instead. `tidy` is a pure function of the files,
 * so that test/tidy.test.ts can hand it small trees.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { isMain, root } from './steps.mjs';

export const FILE_LINES_MAX = 700;
export const LINE_COLUMNS_MAX = 120;

const CODE_ROOTS = ['src', 'web', 'test', 'bench', 'scripts'];
const CODE = /\.(tsx?|mjs|cjs|js)$/;
const TEST_FILE = /\.test\.ts$/;
const DRIVER_FILE = /\b(?:uvm\w*|nv[\w-]*|clc?\w+)\.[ch]\b/;
// Spelled in two parts, so that this file and its test pass their own rule.
const MARKERS = new RegExp(`\\b(${['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK'].join('|')})\\b`);
const NARROWED_TEST = /\b(?:it|test|describe|suite|bench)(?:\.\w+)*\.(only|skip|todo|skipIf|runIf)\b/;
const LINK = /!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)|^\s*\[[^\]]+\]:\s*<?(\S+?)>?(?:\s|$)/g;

/** @typedef {{ path: string, text: string }} SourceFile path: relative to the root, with forward slashes */

/**
 * @param {SourceFile} file
 * @returns {string[]}
 */
function checkCode({ path, text }) {
  const found = [];
  const lines = text.replace(/\n$/, '').split('\n');
  if (lines.length > FILE_LINES_MAX) {
    found.push(`${path}: ${lines.length} lines, at most ${FILE_LINES_MAX}: move one of its subjects into its own file`);
  }
  lines.forEach((line, i) => {
    const at = `${path}:${i + 1}`;
    if (/^(?:src|web)\//.test(path) && line.length > LINE_COLUMNS_MAX) {
      found.push(`${at}: ${line.length} columns, at most ${LINE_COLUMNS_MAX}: break the line, or name a part of it`);
    }
    const marker = MARKERS.exec(line);
    if (marker) {
      found.push(`${at}: "${marker[1]}": do it now, or write it into docs/DEVIATIONS.md or an issue`);
    }
    const narrowed = TEST_FILE.test(path) ? NARROWED_TEST.exec(line) : null;
    if (narrowed) {
      found.push(`${at}: ".${narrowed[1]}": every test runs, everywhere: make it pass, or delete it`);
    }
  });
  if (path.startsWith('src/model/uvm/') && !TEST_FILE.test(path) && !DRIVER_FILE.test(headerComment(text))) {
    found.push(
      `${path}: begin the file with a comment that names the driver file it models (as in "uvm_tracker.c"), ` +
        'the driver version, the functions, and what is left out',
    );
  }
  return found;
}

/**
 * The comment a file begins with; empty if it begins with something else.
 * @param {string} text
 * @returns {string}
 */
function headerComment(text) {
  return /^\s*(\/\*[\s\S]*?\*\/|(?:\/\/[^\n]*\n?\s*)+)/.exec(text)?.[1] ?? '';
}

/**
 * @param {SourceFile} file
 * @param {(path: string) => boolean} exists of a path relative to the root
 * @returns {string[]}
 */
function checkLinks({ path, text }, exists) {
  /** @type {string[]} */
  const found = [];
  let fenced = false;
  text.split('\n').forEach((line, i) => {
    if (/^\s*(```|~~~)/.test(line)) fenced = !fenced;
    if (fenced) return;
    for (const match of line.replace(/`[^`]*`/g, '').matchAll(LINK)) {
      const target = decodeURI(match[1] ?? match[2]).replace(/[#?].*$/, '');
      if (target === '' || /^[a-z][a-z0-9+.-]*:/i.test(target)) continue;
      const resolved = target.startsWith('/') ? target.slice(1) : posix.join(posix.dirname(path), target);
      if (resolved.startsWith('..') || !exists(resolved)) {
        found.push(`${path}:${i + 1}: the link to ${target} leads nowhere: correct the path, or take the link out`);
      }
    }
  });
  return found;
}

/**
 * @param {SourceFile[]} files code and markdown
 * @param {(path: string) => boolean} exists whether a path, relative to the root, exists
 * @returns {string[]} one line for each finding
 */
export function tidy(files, exists) {
  return files.flatMap((file) => {
    if (file.path.endsWith('.md')) return checkLinks(file, exists);
    return CODE.test(file.path) ? checkCode(file) : [];
  });
}

/**
 * @param {string} top the root of the repository
 * @returns {SourceFile[]} the code below src, test, bench and scripts, and the markdown of the root and of docs
 */
export function readTree(top) {
  const paths = readdirSync(top).filter((name) => name.endsWith('.md'));
  for (const dir of [...CODE_ROOTS, 'docs']) {
    if (!existsSync(join(top, dir))) continue;
    for (const name of readdirSync(join(top, dir), { recursive: true, encoding: 'utf8' })) {
      const path = posix.join(dir, name.replaceAll('\\', '/'));
      if (dir === 'docs' ? path.endsWith('.md') : CODE.test(path)) paths.push(path);
    }
  }
  return paths.sort().map((path) => ({ path, text: readFileSync(join(top, path), 'utf8') }));
}

if (isMain(import.meta.url)) {
  const files = readTree(root);
  const found = tidy(files, (path) => existsSync(join(root, path)));
  for (const line of found) console.error(line);
  if (found.length === 0) console.log(`${files.length} files are tidy`);
  process.exitCode = found.length > 0 ? 1 : 0;
}
