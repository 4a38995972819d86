/** A strict reader of markup: every element is closed in its turn, every attribute quoted, every & an entity. */

export interface MarkupNode {
  name: string;
  attributes: Record<string, string>;
}

const ENTITY = /&(?!(amp|lt|gt|quot|#39);)/;
const ATTRIBUTE = /^\s+([a-zA-Z][\w:-]*)="([^"<]*)"/;

function readAttributes(text: string): Record<string, string> {
  const attributes: Record<string, string> = {};
  let rest = text;
  while (rest.trim() !== '') {
    const match = ATTRIBUTE.exec(rest);
    if (match === null) throw new Error(`no attribute: ${rest.slice(0, 60)}`);
    if (Object.hasOwn(attributes, match[1])) throw new Error(`attribute twice: ${match[1]}`);
    if (ENTITY.test(match[2])) throw new Error(`a bare & in ${match[2].slice(0, 60)}`);
    attributes[match[1]] = match[2];
    rest = rest.slice(match[0].length);
  }
  return attributes;
}

/** The elements in the order of their begins. Throws for markup that is not well-formed. */
export function readMarkup(text: string): MarkupNode[] {
  const nodes: MarkupNode[] = [];
  const open: string[] = [];
  const body = text.replace(/^<!DOCTYPE html>\n/, '');
  let at = 0;
  while (at < body.length) {
    const next = body.indexOf('<', at);
    const between = body.slice(at, next < 0 ? body.length : next);
    if (ENTITY.test(between)) throw new Error(`a bare & in: ${between.slice(0, 80)}`);
    if (next < 0) break;
    const match = /^<(\/?)([a-zA-Z][\w:-]*)((?:\s+[\w:-]+="[^"]*")*)\s*(\/?)>/.exec(body.slice(next, next + 20_000));
    if (match === null) throw new Error(`no tag: ${body.slice(next, next + 60)}`);
    const [all, closing, name, attributes, alone] = match;
    if (closing !== '') {
      const last = open.pop();
      if (last !== name) throw new Error(`</${name}> closes ${last}`);
    } else {
      nodes.push({ name, attributes: readAttributes(attributes) });
      if (alone === '') open.push(name);
    }
    at = next + all.length;
  }
  if (open.length > 0) throw new Error(`not closed: ${open.join()}`);
  return nodes;
}

/** Names of all elements. */
export function openTags(text: string): string[] {
  return readMarkup(text).map(({ name }) => name);
}
