/**
 * Reads C source as far as a map of it needs: where functions and types are defined, what their bodies call, and which
 * fields and enumerators types have. It is no parser: it drops comments and strings, counts brackets, and reads what
 * stands at depth 0. Pure functions of a text, so that test/driver_scan.test.ts can hand them snippets.
 */

/**
 * @typedef {{ text: string, line: number, conditional: boolean }} Token
 * @typedef {{ name: string, line: number }} Named line counts from 1
 * @typedef {{ name: string, from: number, to: number, conditional: boolean, calls: Named[] }} FunctionFact
 * @typedef {{ name: string, kind: 'struct' | 'union' | 'enum', from: number, to: number, conditional: boolean,
 *   fields: Named[] }} TypeFact names of fields in nested structures have a dot: "replayable.cached_get"
 * @typedef {{ functions: FunctionFact[], types: TypeFact[], parameters: Named[] }} FileFacts
 */

const NO_CALLS = new Set(
  ['if', 'for', 'while', 'switch', 'return', 'sizeof', 'typeof', '__typeof__', 'defined', 'do', 'else', 'case'].concat([
    '__attribute__',
    'offsetof',
  ]),
);
const TYPE_WORDS = new Set(['struct', 'union', 'enum']);
const IDENTIFIER = /^[A-Za-z_]\w*$/;

/**
 * Replaces comments and the contents of strings by blanks; every line keeps its number.
 * @param {string} text
 */
export function stripComments(text) {
  return text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\[\s\S]|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/g, (match) => {
    if (match[0] === '/') return match.replace(/[^\n]/g, ' ');
    return `0${match.slice(1).replace(/[^\n]/g, ' ')}`;
  });
}

/**
 * The guard of a header holds all of it and is no condition.
 * @param {string[]} lines
 * @returns {number} index of the guard's line, -1 where there is none
 */
function guardLine(lines) {
  const first = lines.findIndex((line) => line.trim() !== '');
  const guard = /^\s*#\s*ifndef\s+(\w+)/.exec(lines[first] ?? '');
  const next = /^\s*#\s*define\s+(\w+)/.exec(lines.slice(first + 1).find((line) => line.trim() !== '') ?? '');
  return guard !== null && next !== null && guard[1] === next[1] ? first : -1;
}

/**
 * The words and marks of a text outside of preprocessor lines. In #if ... #else ... both sides are read; where they
 * open different numbers of brackets, the last side counts.
 * @param {string} text
 * @returns {Token[]}
 */
export function tokenize(text) {
  const lines = stripComments(text).split('\n');
  const guard = guardLine(lines);
  /** @type {Token[]} */
  const tokens = [];
  /** @type {{ guard: boolean, depth: number }[]} */
  const conditions = [];
  let depth = 0;
  // What stands for C++ alone is passed over: the number of conditions around it, or -1.
  let cplusplus = -1;
  for (let i = 0; i < lines.length; i++) {
    const directive = /^\s*#\s*(\w+)/.exec(lines[i]);
    if (directive !== null) {
      const [, word] = directive;
      if (word === 'if' || word === 'ifdef' || word === 'ifndef') {
        if (/ifdef\s+__cplusplus/.test(lines[i]) && cplusplus < 0) cplusplus = conditions.length;
        conditions.push({ guard: i === guard, depth });
      } else if (word === 'else' || word === 'elif') {
        // Each side begins at the depth that the condition began at: close what an earlier side left open.
        const from = conditions.at(-1)?.depth ?? depth;
        for (; depth > from; depth--) tokens.push({ text: '}', line: i + 1, conditional: true });
      } else if (word === 'endif') conditions.pop();
      if (conditions.length === cplusplus) cplusplus = -1;
      while (/\\\s*$/.test(lines[i]) && i + 1 < lines.length) i++;
      continue;
    }
    if (cplusplus >= 0) continue;
    const conditional = conditions.some((one) => !one.guard);
    for (const [word] of lines[i].matchAll(/[A-Za-z_]\w*|\d[\w.]*|->|\S/g)) {
      if (word === '{') depth++;
      if (word === '}') depth--;
      tokens.push({ text: word, line: i + 1, conditional });
    }
  }
  return tokens;
}

/**
 * Index of the bracket that closes the one at `open`, or the last index.
 * @param {Token[]} tokens
 * @param {number} open
 */
function closing(tokens, open) {
  const pairs = { '(': ')', '{': '}', '[': ']' };
  const mark = tokens[open].text;
  const end = pairs[/** @type {keyof typeof pairs} */ (mark)];
  let depth = 0;
  for (let i = open; i < tokens.length; i++) {
    if (tokens[i].text === mark) depth++;
    else if (tokens[i].text === end && --depth === 0) return i;
  }
  return tokens.length - 1;
}

/**
 * Calls in a function's body, in the order of evaluation (arguments before the call that takes them). A call through a
 * member begins with a dot: ".read_get".
 * @param {Token[]} body
 * @returns {Named[]}
 */
function readCalls(body) {
  /** @type {(Named & { end: number })[]} */
  const calls = [];
  for (let i = 0; i + 1 < body.length; i++) {
    const { text, line } = body[i];
    if (body[i + 1].text !== '(' || !IDENTIFIER.test(text) || NO_CALLS.has(text)) continue;
    const member = i > 0 && (body[i - 1].text === '->' || body[i - 1].text === '.');
    calls.push({ name: member ? `.${text}` : text, line, end: closing(body, i + 1) });
  }
  return calls.sort((a, b) => a.line - b.line || a.end - b.end).map(({ name, line }) => ({ name, line }));
}

/**
 * The names that a declaration without its semicolon declares.
 * @param {Token[]} declaration
 * @returns {Named[]}
 */
function declared(declaration) {
  const pointer = declaration.findIndex((token, i) => token.text === '(' && declaration[i + 1]?.text === '*');
  if (pointer >= 0) {
    const name = declaration.slice(pointer).find((token) => IDENTIFIER.test(token.text));
    return name === undefined ? [] : [{ name: name.text, line: name.line }];
  }
  /** @type {Named[]} */
  const names = [];
  let last = null;
  let done = false;
  for (let i = 0; i < declaration.length; i++) {
    const { text, line } = declaration[i];
    if (text === ',') {
      if (last !== null) names.push(last);
      last = null;
      done = false;
    } else if (text === ':' || text === '=') done = true;
    else if (text === '[' || text === '(' || text === '{') {
      // DECLARE_BITMAP(name, bits) declares its first argument.
      if (text === '(' && last !== null && /^[A-Z_]+$/.test(last.name)) {
        const inner = declaration[i + 1];
        last = { name: inner.text, line: inner.line };
      }
      i = closing(declaration, i);
      done = true;
    } else if (!done && IDENTIFIER.test(text)) last = { name: text, line };
  }
  if (last !== null) names.push(last);
  return names;
}

/**
 * @param {Token[]} body between the braces
 * @param {string} prefix
 * @returns {Named[]}
 */
function readFields(body, prefix) {
  /** @type {Named[]} */
  const fields = [];
  let start = 0;
  /** @type {Named[]} */
  let nested = [];
  let hasNested = false;
  for (let i = 0; i < body.length; i++) {
    const { text } = body[i];
    if (text === '{') {
      const end = closing(body, i);
      if (body.slice(start, i).some((token) => TYPE_WORDS.has(token.text))) {
        const isEnum = body.slice(start, i).some((token) => token.text === 'enum');
        nested = isEnum ? [] : readFields(body.slice(i + 1, end), '');
        hasNested = true;
        start = end + 1;
      }
      i = end;
    } else if (text === ';') {
      const names = declared(body.slice(start, i));
      fields.push(...names);
      // An anonymous structure lends its fields to the one around it.
      if (hasNested && names.length === 0) fields.push(...nested);
      for (const { name } of hasNested ? names : []) {
        fields.push(...nested.map((field) => ({ name: `${name}.${field.name}`, line: field.line })));
      }
      nested = [];
      hasNested = false;
      start = i + 1;
    }
  }
  return fields.map((field) => ({ ...field, name: prefix + field.name }));
}

/**
 * Structures with a name of their own inside another one.
 * @param {Token[]} body between the braces of the outer one
 * @returns {TypeFact[]}
 */
function nestedTypes(body) {
  /** @type {TypeFact[]} */
  const found = [];
  for (let i = 0; i + 2 < body.length; i++) {
    const [word, name, open] = [body[i], body[i + 1], body[i + 2]];
    if (!TYPE_WORDS.has(word.text) || !IDENTIFIER.test(name.text) || open.text !== '{') continue;
    const end = closing(body, i + 2);
    const inner = body.slice(i + 3, end);
    found.push({
      name: name.text,
      kind: /** @type {'struct' | 'union' | 'enum'} */ (word.text),
      from: word.line,
      to: body[end].line,
      conditional: word.conditional,
      fields: word.text === 'enum' ? readEnumerators(inner) : readFields(inner, ''),
    });
  }
  return found;
}

/**
 * @param {Token[]} body between the braces of an enum
 * @returns {Named[]}
 */
function readEnumerators(body) {
  /** @type {Named[]} */
  const found = [];
  let fresh = true;
  for (let i = 0; i < body.length; i++) {
    const { text, line } = body[i];
    if (text === ',') fresh = true;
    else if (text === '(') i = closing(body, i);
    else if (fresh && IDENTIFIER.test(text)) {
      found.push({ name: text, line });
      fresh = false;
    }
  }
  return found;
}

/**
 * The name of the function whose head this is, and the index where the head begins: macros that stand alone on their
 * lines before it do not belong to it.
 * @param {Token[]} head
 * @returns {{ name: string, begin: number } | null}
 */
function functionHead(head) {
  let begin = 0;
  for (let i = 1; i + 1 < head.length; i++) {
    if (head[i].text !== '(') continue;
    const end = closing(head, i);
    if (end + 1 >= head.length) {
      const { text } = head[i - 1];
      return IDENTIFIER.test(text) && !NO_CALLS.has(text) ? { name: text, begin } : null;
    }
    if (i - 1 === begin && head[end + 1].line > head[end].line) begin = end + 1;
    i = end;
  }
  return null;
}

/**
 * @param {string} text a C file
 * @returns {FileFacts}
 */
export function scan(text) {
  const tokens = tokenize(text);
  /** @type {FileFacts} */
  const facts = { functions: [], types: [], parameters: [] };
  let start = 0;
  for (let i = 0; i < tokens.length; i++) {
    const { text: word } = tokens[i];
    if (word === '(' || word === '[') {
      if (/^module_param(_named|_cb|_string)?$/.test(tokens[i - 1]?.text ?? '')) {
        facts.parameters.push({ name: tokens[i + 1].text, line: tokens[i - 1].line });
      }
      i = closing(tokens, i);
    } else if (word === ';') start = i + 1;
    else if (word === '{') {
      const end = closing(tokens, i);
      start = readBody(facts, tokens, start, i, end);
      i = start > end + 1 ? start - 1 : end;
    }
  }
  return facts;
}

/**
 * Reads what stands in braces at depth 0.
 * @param {FileFacts} facts
 * @param {Token[]} tokens
 * @param {number} start of the head
 * @param {number} open
 * @param {number} end index of the closing brace
 * @returns {number} where the next head begins
 */
function readBody(facts, tokens, start, open, end) {
  const head = tokens.slice(start, open);
  const body = tokens.slice(open + 1, end);
  const to = tokens[end].line;
  const isFunction = tokens[open - 1]?.text === ')' ? functionHead(head) : null;
  if (isFunction !== null && !head.some((token) => token.text === '=')) {
    const first = head[isFunction.begin];
    facts.functions.push({
      name: isFunction.name,
      from: first.line,
      to,
      conditional: first.conditional,
      calls: readCalls(body),
    });
    return end + 1;
  }
  const word = head.findIndex((token) => TYPE_WORDS.has(token.text));
  if (word < 0 || head.some((token) => token.text === '=')) return end + 1;
  const kind = /** @type {'struct' | 'union' | 'enum'} */ (head[word].text);
  let after = end + 1;
  while (after < tokens.length && tokens[after].text !== ';') after++;
  const names = [];
  if (IDENTIFIER.test(head[word + 1]?.text ?? '')) names.push(head[word + 1].text);
  if (head[0]?.text === 'typedef') {
    names.push(...declared(tokens.slice(end + 1, after)).map((one) => one.name));
  }
  const fields = kind === 'enum' ? readEnumerators(body) : readFields(body, '');
  for (const name of names) {
    facts.types.push({ name, kind, from: head[0].line, to, conditional: head[0].conditional, fields });
  }
  facts.types.push(...nestedTypes(body));
  return after + 1;
}
