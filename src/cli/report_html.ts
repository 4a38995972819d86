/**
 * A report as one page that opens from disk: no script, no request, nothing from elsewhere. Every text of the trace
 * goes through `esc`.
 */
import type { Advice, AllocationReport, CostedFlow } from '../analysis/report/report_types.ts';
import type { TraceInfo } from '../trace/store/trace_info.ts';
import { batchChart, type CostBar, costChart, esc, type GainScale, gainChart, timelineChart } from './report_charts.ts';
import { PAGE_STYLE } from './report_page_style.ts';
import {
  actionText,
  allocationLabel,
  batchReason,
  cpuFaultReason,
  evidenceText,
  harmless,
  headlines,
  intervalText,
  outcomeText,
  tracingText,
  unreliableText,
} from './report_sentences.ts';
import {
  ALLOCATION_COLUMNS,
  batchLines,
  factsOf,
  KERNEL_HEADS,
  kernelRows,
  prefetchUnknown,
  type ShownReport,
  siteRows,
} from './report_text.ts';
import { bytes, count, counted, duration } from './text.ts';

/** Allocations in the table, and with a section of their own. */
const LISTED = 100;
const DETAILED = 8;

/** A number and its unit stay on one line. */
const together = (text: string): string => text.replace(/(\d) (%|[KMGT]?i?B|[nµm]?s)(?![\w%])/g, '$1\u00a0$2');

const safe = (text: string): string => esc(together(harmless(text)));

const capital = (text: string): string => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;

/** A table with a caption; cells are texts, and those of columns marked r stand right. */
function table(caption: string, heads: readonly string[], align: string, rows: readonly (readonly string[])[]): string {
  const kind = (i: number): string => (align[i] === 'r' ? ' class="r"' : '');
  const head = heads.map((cell, i) => `<th scope="col"${kind(i)}>${safe(cell)}</th>`).join('');
  const body = rows.map((row) => {
    const cells = row.map((cell, i) =>
      i === 0 ? `<th scope="row"${kind(i)}>${safe(cell)}</th>` : `<td${kind(i)}>${safe(cell)}</td>`,
    );
    return `<tr>${cells.join('')}</tr>`;
  });
  return (
    `<div class="wide" tabindex="0" role="region" aria-label="${safe(caption)}">` +
    `<table><caption>${safe(caption)}</caption><thead><tr>${head}</tr></thead>` +
    `<tbody>${body.join('')}</tbody></table></div>`
  );
}

function section(id: string, title: string, body: string): string {
  return body === ''
    ? ''
    : `<section id="${id}" aria-labelledby="${id}-h"><h2 id="${id}-h">${esc(title)}</h2>${body}</section>`;
}

function figure(chart: string, caption: string): string {
  return `<figure>${chart}<figcaption>${esc(caption)}</figcaption></figure>`;
}

function paragraph(text: string, kind = ''): string {
  return `<p${kind === '' ? '' : ` class="${kind}"`}>${safe(text)}</p>`;
}

function answers({ full, info }: ShownReport): string {
  const items = headlines(full, info).map(
    ({ label, text }) => `<div class="answer"><h3>${esc(label)}</h3><p>${safe(text)}</p></div>`,
  );
  return section('answers', 'In short', `<div class="answers">${items.join('')}</div>`);
}

function adviceItem(item: Advice, info: TraceInfo, scale: GainScale, id: string): string {
  const { prediction: p } = item;
  const outcome = outcomeText(item);
  let chart = '';
  if (p !== null) {
    const gain = [p.lowMicroseconds, p.gainMicroseconds, p.highMicroseconds] as const;
    chart = `<div class="gain">${gainChart(id, scale, gain, outcome)}</div>`;
  }
  return (
    `<li><p><strong>${safe(actionText(item, info))}</strong></p><p>${safe(outcome)}</p>${chart}` +
    `<p class="soft">Evidence: ${safe(evidenceText(item))}.</p></li>`
  );
}

function advice({ full, info }: ShownReport): string {
  const { advice: list, rejected, modelError } = full;
  if (list.length + rejected.length === 0) {
    return section('try', 'What to try', paragraph('No rule finds anything to change.'));
  }
  const predictions = [...list, ...rejected].flatMap(({ prediction }) => (prediction === null ? [] : [prediction]));
  const scale = {
    from: predictions.reduce((least, p) => Math.min(least, p.lowMicroseconds), 0),
    to: predictions.reduce((most, p) => Math.max(most, p.highMicroseconds), 0),
  };
  const items = (of: readonly Advice[], id: string): string =>
    of.map((item, i) => adviceItem(item, info, scale, `${id}-${i}`)).join('');
  let body = list.length === 0 ? '' : `<ol>${items(list, 'gain')}</ol>`;
  if (rejected.length > 0) {
    body += `<h3>Looked at and left out: by the model it would be slower</h3><ul>${items(rejected, 'loss')}</ul>`;
  }
  for (const assumption of new Set(predictions.map((p) => p.assumption))) {
    body += paragraph(`Predicted: ${assumption}.`, 'soft');
  }
  if (predictions.length > 0) body += paragraph(capital(`${intervalText(modelError)}.`), 'soft');
  return section('try', 'What to try', body);
}

function flowRows(flows: readonly CostedFlow[]): string[][] {
  return flows.map((flow) => [
    `${flow.src} to ${flow.dst}`,
    flow.cause,
    count(flow.count),
    bytes(flow.bytes),
    flow.copyMicroseconds === 0 ? '-' : duration(flow.copyMicroseconds),
  ]);
}

const FLOW_HEADS = ['direction', 'cause', 'times', 'bytes', 'copying'];

function moved({ full }: ShownReport): string {
  const { migrations, remoteMaps } = full.report;
  let body = '';
  if (migrations.length > 0) {
    body += table('Migrations by direction and cause', FLOW_HEADS, 'llrrr', flowRows(migrations));
  }
  if (remoteMaps.length > 0) {
    body += table('Remote mappings by direction and cause', FLOW_HEADS, 'llrrr', flowRows(remoteMaps));
  }
  return section('moved', 'What moved, and why', body || paragraph('Nothing moved.'));
}

function prefetchFact({ prefetch, prefetchUnknown: why }: AllocationReport): string {
  if (prefetch === null) return `not known: ${why ?? ''}`;
  const part = (what: string, { used, unused }: { used: number; unused: number }): string =>
    used + unused === 0 ? '' : `${what}: ${counted(used, 'page')} used, ${counted(unused, 'page')} not`;
  const parts = [part('around faults', prefetch.byFaults), part('by calls', prefetch.byCalls)].filter((p) => p !== '');
  return parts.join('; ') || 'none';
}

function allocationDetail(a: AllocationReport, info: TraceInfo, hasAllFaults: boolean): string {
  const sum = (list: readonly { processor: string; count: number }[]): string =>
    list.map(({ processor, count: its }) => `${processor} ${count(its)}`).join(', ') || 'none';
  const faults = a.faults.map(({ processor, access, count: its }) => `${processor} ${access} ${count(its)}`).join(', ');
  const facts: [string, string][] = [
    ['faults', faults || 'none'],
    ['duplicates in their batch', hasAllFaults ? count(a.duplicates) : 'not known'],
    ['refaults', sum(a.refaults)],
    [
      'changed sides more than once',
      a.pingPongPages === 0 ? 'no page' : `${counted(a.pingPongPages, 'page')}, ${count(a.pingPongMoves)} times in all`,
    ],
    [
      'shared blocks',
      `${count(a.sharedBlocks)}, of which ${count(a.falselySharedBlocks)} without a page that several fault on`,
    ],
    ['prefetch', prefetchFact(a)],
    [
      'cost (estimate)',
      `GPU faults ${duration(a.gpuMicroseconds)}, CPU faults ${duration(a.cpuMicroseconds)}, ` +
        `copies by calls ${duration(a.callMicroseconds)}`,
    ],
  ];
  const list = facts.map(([name, text]) => `<dt>${esc(name)}</dt><dd>${safe(text)}</dd>`).join('');
  const label = allocationLabel(info, a.name);
  const flows = [...a.migrations, ...a.remoteMaps];
  const moves = flows.length === 0 ? '' : table(`What moved in ${label}`, FLOW_HEADS, 'llrrr', flowRows(flows));
  return `<h3>${safe(label)}</h3><dl>${list}</dl>${moves}`;
}

function allocations({ full, info }: ShownReport): string {
  const { allocations: all, quietAllocations } = full.report;
  if (all.length === 0) return '';
  const bars: CostBar[] = all
    .slice(0, 12)
    .filter((a) => a.costMicroseconds > 0)
    .map((a) => ({
      label: allocationLabel(info, a.name).slice(0, 30),
      parts: [a.gpuMicroseconds, a.cpuMicroseconds, a.callMicroseconds],
    }));
  const shown = all.slice(0, LISTED);
  const columns = ALLOCATION_COLUMNS.filter(([, cell, always]) => always || shown.some((a) => cell(a) !== '-'));
  const rows = shown.map((a) => [allocationLabel(info, a.name), ...columns.map(([, cell]) => cell(a))]);
  const heads = ['allocation', ...columns.map(([head]) => head)];
  const rest = all.length - shown.length;
  const unknown = prefetchUnknown(full);
  return section(
    'allocations',
    'Allocations',
    (bars.length === 0
      ? ''
      : `<figure>${costChart(bars)}<figcaption>Estimated cost, most costly first</figcaption></figure>`) +
      table(
        `${counted(all.length, 'allocation')} with events, and ${count(quietAllocations)} without`,
        heads,
        `l${'r'.repeat(columns.length)}`,
        rows,
      ) +
      (rest > 0 ? paragraph(`${count(rest)} more that cost less.`, 'soft') : '') +
      (unknown === null ? '' : paragraph(capital(`${unknown}.`), 'soft')) +
      all
        .slice(0, DETAILED)
        .map((a) => allocationDetail(a, info, full.report.hasAllFaults))
        .join(''),
  );
}

function batches({ full, info }: ShownReport): string {
  const { report } = full;
  if (report.batches.count === 0) return '';
  const lines = batchLines(full).map((line) => `<li>${safe(line)}</li>`);
  const rows = report.slowestBatches.map((b) => [
    `${b.gpu}, batch ${count(b.batch)}`,
    count(b.row),
    duration(b.timeMicroseconds),
    report.hasAllFaults ? count(b.faults) : '-',
    duration(b.microseconds),
    allocationLabel(info, b.allocation),
    batchReason(b, report),
  ]);
  const heads = ['batch', 'first row', 'at', 'faults', 'took', 'allocation', 'by'];
  const kernels = kernelRows(info);
  const chart = report.hasAllFaults ? figure(batchChart(report.batches), 'Sizes of batches') : '';
  return section(
    'batches',
    'Batches of GPU faults',
    `<ul>${lines.join('')}</ul>${chart}` +
      (kernels.length === 0 ? '' : table('Batches by kernel', KERNEL_HEADS, 'rrlllr', kernels)) +
      (rows.length === 0 ? '' : table('The slowest batches', heads, 'lrrrrll', rows)),
  );
}

function cpuFaults({ full: { report }, info }: ShownReport): string {
  if (report.slowestCpuFaults.length === 0) return '';
  const rows = report.slowestCpuFaults.map((f) => [
    count(f.row),
    duration(f.timeMicroseconds),
    duration(f.microseconds),
    allocationLabel(info, f.allocation),
    bytes(f.offset),
    cpuFaultReason(f),
  ]);
  const { seen, count: all, microseconds } = report.cpuFaults;
  const sites = siteRows(info);
  return section(
    'cpu-faults',
    'CPU faults',
    paragraph(
      `${count(seen)} of ${counted(all, 'CPU fault')} moved data: ${duration(microseconds)} to the end of their ` +
        'copies, summed up (estimate).',
    ) +
      (sites.length === 0 ? '' : table('CPU faults by code', ['faults', 'allocation', 'in'], 'rll', sites)) +
      table('The slowest CPU faults', ['row', 'at', 'took', 'allocation', 'offset', 'by'], 'rrrlrl', rows),
  );
}

function places({ full: { report }, info }: ShownReport): string {
  const { faults, kinds, hottest } = report;
  const hot = hottest.map(({ allocation, offset, address, faults: its }) => [
    address === null ? bytes(offset) : `0x${address}`,
    count(its),
    allocationLabel(info, allocation),
  ]);
  const lost = Object.entries(info.dropped).map(([kind, its]) => [`lost: ${kind}`, count(its)]);
  const left = Object.entries(info.leftOut).map(([why, its]) => [`left out: ${why}`, count(its)]);
  const events = [...Object.entries(kinds).map(([kind, its]) => [kind, count(its)]), ...lost, ...left];
  return section(
    'counts',
    'Counts',
    (faults.length === 0
      ? ''
      : table(
          'Faults by processor and access',
          ['processor', 'access', 'faults'],
          'llr',
          faults.map(({ processor, access, count: its }) => [processor, access, count(its)]),
        )) +
      (hot.length === 0 ? '' : table('The 2 MiB with most faults', ['place', 'faults', 'allocation'], 'lrl', hot)) +
      (events.length === 0 ? paragraph('No events.') : table('Rows by kind', ['kind', 'rows'], 'lr', events)),
  );
}

function about(shown: ShownReport): string {
  const { full, info } = shown;
  const facts = factsOf(shown).map(([name, text]) => `<dt>${esc(name)}</dt><dd>${safe(text)}</dd>`);
  const tracing = tracingText(full);
  const unreliable = unreliableText(full);
  const notes = info.notes.map((text) => `<li>${safe(text)}</li>`);
  const { eventsNotFollowed } = full.report;
  if (eventsNotFollowed > 0) {
    notes.push(
      `<li>${counted(eventsNotFollowed, 'event')} on pages beyond 128 GiB, whose history is not followed.</li>`,
    );
  }
  return section(
    'about',
    'What this is of',
    `<dl>${facts.join('')}</dl>` +
      (tracing === null ? '' : paragraph(`What tracing cost: ${tracing}.`)) +
      (unreliable === null ? '' : paragraph(unreliable)) +
      (notes.length === 0 ? '' : `<h3>Notes</h3><ul>${notes.join('')}</ul>`),
  );
}

const HOW = [
  'Service of a batch: from the entry of its first fault into the fault buffer to its replay, by the clock of the GPU.',
  'The cost of an allocation is an estimate: of the time that the faults of a batch waited (batches that overlap ' +
    'count once) the share that it has in them; its CPU faults to the end of the copies that they asked for; and the ' +
    'copies of calls.',
  'That faults wait does not mean that the whole GPU stands still: warps that need none of the pages go on.',
  'What is predicted comes from the model and is labelled so.',
];

/** The page. */
export function reportHtml(shown: ShownReport): string {
  const { file, full } = shown;
  const name = safe(file.split('/').at(-1) ?? file);
  const hasEvents = full.report.durationMicroseconds > 0;
  const timeline = hasEvents
    ? figure(timelineChart(full.report.timeline), 'Faults and moved bytes over the trace')
    : '';
  const body = [
    answers(shown),
    section('timeline-s', 'Over time', timeline),
    advice(shown),
    moved(shown),
    allocations(shown),
    batches(shown),
    cpuFaults(shown),
    places(shown),
    about(shown),
    section('how', 'How to read this', `<ul>${HOW.map((line) => `<li>${esc(line)}</li>`).join('')}</ul>`),
  ];
  return [
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>',
    '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>`,
    '<meta name="color-scheme" content="light dark"/>',
    `<title>Report of ${name}</title><style>${PAGE_STYLE}</style></head><body>`,
    `<header><h1>${name}</h1><p class="soft">A report of managed memory, by uvmlab</p></header>`,
    `<main>${body.join('\n')}</main></body></html>\n`,
  ].join('');
}
