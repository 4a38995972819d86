import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { COLUMN_KEYS, TRACE_COLUMNS } from './trace_schema.ts';
import { traceSchemaText } from './trace_schema_doc.ts';
import { TRACE_VIEWS } from './trace_views.ts';

it('is the document: node scripts/trace-schema.mjs makes it anew', () => {
  const text = readFileSync(new URL('../../../docs/trace-schema.md', import.meta.url), 'utf8');
  expect(text, 'docs/trace-schema.md is stale: node scripts/trace-schema.mjs').toBe(traceSchemaText());
  for (const key of COLUMN_KEYS) expect(text).toContain(`| ${TRACE_COLUMNS[key].name} |`);
});

it('has a view for each kind, and each kind in one family', () => {
  const families = TRACE_VIEWS.filter(({ name }) => name !== 'rows' && name !== 'events');
  const kinds = families.flatMap(({ kinds: own }) => own ?? []);
  expect(new Set(kinds).size).toBe(kinds.length);
  const events = TRACE_VIEWS.find(({ name }) => name === 'events')?.kinds ?? [];
  expect([...kinds].sort()).toEqual([...events, 'push'].sort());
  for (const { name, columns } of TRACE_VIEWS) {
    const names = columns.map((column) => column.name);
    expect(new Set(names).size, name).toBe(names.length);
  }
});
