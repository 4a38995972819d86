/** docs/trace-schema.md: the columns of a trace and its tables in SQL, made from where they are said. */
import { COLUMN_KEYS, type ColumnType, TRACE_COLUMNS, TRACE_FORMAT, TRACE_INFO_KEY } from './trace_schema.ts';
import { BATCHES_TABLE, INFO_TABLES, TRACE_VIEWS, type ViewColumn } from './trace_views.ts';

const FILE_TYPES: Readonly<Record<ColumnType, [file: string, absent: string]>> = {
  time: ['DOUBLE', 'NaN'],
  whole: ['INT64', '-1'],
  count: ['INT32', '-1'],
  word: ['UTF8, dictionary', 'empty'],
  text: ['UTF8, dictionary', 'empty'],
};
const SQL_TYPES: Readonly<Record<ViewColumn['type'], string>> = {
  time: 'DOUBLE',
  whole: 'BIGINT',
  count: 'INTEGER',
  text: 'VARCHAR',
};

function tableText(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), `|${head.map(() => '---|').join('')}`, ...rows.map(line)].join('\n');
}

type Described = Pick<ViewColumn, 'name' | 'type' | 'unit' | 'meaning'>;

function described(name: string, meaning: string, columns: readonly Described[]): string {
  const rows = columns.map((c) => [c.name, SQL_TYPES[c.type], c.unit, c.meaning]);
  const sentence = `${meaning[0].toUpperCase()}${meaning.slice(1)}.`;
  return `### ${name}\n\n${sentence}\n\n${tableText(['column', 'type', 'unit', ''], rows)}\n`;
}

const ROW: Described = { name: 'row', type: 'whole', unit: '', meaning: 'number of the row in the trace, from 0' };

/** The whole document. */
export function traceSchemaText(): string {
  const columns = COLUMN_KEYS.map((key) => {
    const spec = TRACE_COLUMNS[key];
    const [type, absent] = FILE_TYPES[spec.type];
    const meaning = 'pushes' in spec ? `${spec.meaning} (traces with pushes alone)` : spec.meaning;
    return [spec.name, type, absent, spec.unit, meaning, String(spec.since)];
  });
  const views = TRACE_VIEWS.map(({ name, meaning, columns: own }) => described(name, meaning, [ROW, ...own]));
  const tables = [BATCHES_TABLE, ...INFO_TABLES].map((table) => described(table.name, table.meaning, table.columns));
  // A paragraph of the document is one line.
  const paragraph = (...lines: string[]): string => lines.join(' ');
  return [
    '# The schema of a trace',
    `Made by \`node scripts/trace-schema.mjs\`; do not change it by hand. Format ${TRACE_FORMAT}.`,
    paragraph(
      '[Traces](traces.md) says what a trace is. A new column does not raise the format, and a reader passes columns',
      'over that it does not know; a change that an older reader could misread does.',
    ),
    '## The file',
    paragraph(
      'A Parquet file with a row for each event in the order of delivery, and, where pushes were recorded, a row of',
      'kind `push` for each of them behind the events that were there when it was submitted. All columns are REQUIRED;',
      `the third column says what stands for nothing. The metadata have, under \`${TRACE_INFO_KEY}\`, a JSON`,
      'document of what the trace is of (`src/trace/store/trace_info.ts`).',
    ),
    tableText(['column', 'type', 'nothing', 'unit', '', 'since'], columns),
    '## Tables in SQL',
    paragraph(
      '`uvmlab query` has these; `uvmlab export --parquet` writes all but rows, events and batches as files of the',
      'same names. NULL stands for what is not there. `"offset"` needs its quotes in SQL.',
    ),
    [...views, ...tables].join('\n'),
  ].join('\n\n');
}
