/** The pictures of a report's page, as SVG: no script, colours from the page's style, words beside every colour. */
import type { BatchNumbers, Timeline } from '../analysis/report/report_types.ts';
import { bytes, count, duration } from './text.ts';

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** A text as HTML has it, in an element or in an attribute. */
export function esc(text: string): string {
  return text.replace(/[&<>"']/g, (c) => ESCAPES[c]);
}

const n = (value: number): string => String(Math.round(value * 10) / 10);

function svg(id: string, width: number, height: number, title: string, description: string, body: string): string {
  return (
    `<svg viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="${id}-t ${id}-d">` +
    `<title id="${id}-t">${esc(title)}</title><desc id="${id}-d">${esc(description)}</desc>${body}</svg>`
  );
}

function text(x: number, y: number, content: string, anchor = 'start', kind = ''): string {
  const name = kind === '' ? '' : ` class="${kind}"`;
  return `<text x="${n(x)}" y="${n(y)}" text-anchor="${anchor}"${name}>${esc(content)}</text>`;
}

const WIDTH = 1000;
const LEFT = 120;
const RIGHT = 110;
const LANE = 46;
const LANE_GAP = 14;

interface Lane {
  label: string;
  values: readonly number[];
  kind: string;
  shown: (value: number) => string;
}

/** Bars of a lane as one path: there are up to 160 of them. */
function laneText({ label, values, kind, shown }: Lane, top: number): string {
  const most = values.reduce((a, b) => Math.max(a, b), 0);
  const width = (WIDTH - LEFT - RIGHT) / values.length;
  const base = top + LANE;
  let path = '';
  for (const [i, value] of values.entries()) {
    if (value === 0) continue;
    // What is there is seen, however little.
    const height = Math.max(1.5, (value / most) * LANE);
    path += `M${n(LEFT + i * width)} ${n(base)}v${n(-height)}h${n(Math.max(1, width - 0.6))}v${n(height)}z`;
  }
  return (
    text(LEFT - 10, base - LANE / 2 + 5, label, 'end') +
    `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${base}" y2="${base}" class="axis"/>` +
    (path === '' ? '' : `<path d="${path}" class="${kind}"/>`) +
    text(WIDTH - RIGHT + 10, base - LANE / 2 + 5, most === 0 ? 'none' : `up to ${shown(most)}`, 'start', 'soft')
  );
}

/** Faults and moved bytes over time. */
export function timelineChart(t: Timeline): string {
  const lanes: Lane[] = [
    { label: 'GPU faults', values: t.gpuFaults, kind: 'gpu', shown: count },
    { label: 'CPU faults', values: t.cpuFaults, kind: 'cpu', shown: count },
    { label: 'to GPUs', values: t.toGpu, kind: 'in', shown: bytes },
    { label: 'to the CPU', values: t.toCpu, kind: 'out', shown: bytes },
  ];
  const height = lanes.length * (LANE + LANE_GAP) + 34;
  const body = lanes.map((lane, i) => laneText(lane, 6 + i * (LANE + LANE_GAP))).join('');
  const whole = t.partMicroseconds * t.gpuFaults.length;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const x = LEFT + (WIDTH - LEFT - RIGHT) * share;
    const y = height - 24;
    const anchor = share === 0 ? 'start' : share === 1 ? 'end' : 'middle';
    const mark = `<line x1="${n(x)}" x2="${n(x)}" y1="${y - 6}" y2="${y}" class="axis"/>`;
    return mark + text(x, y + 16, duration(whole * share), anchor, 'soft');
  });
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  const said =
    `Over ${duration(whole)}: ${count(sum(t.gpuFaults))} GPU faults, ${count(sum(t.cpuFaults))} CPU faults, ` +
    `${bytes(sum(t.toGpu))} moved to GPUs, ${bytes(sum(t.toCpu))} to the CPU. Each lane has a scale of its own.`;
  return svg('timeline', WIDTH, height, 'Faults and moved bytes over time', said, body + ticks.join(''));
}

/** How many batches have which size. */
export function batchChart({ histogram, count: batches }: BatchNumbers): string {
  const height = 210;
  const base = height - 40;
  const top = 24;
  const most = histogram.reduce((a, part) => Math.max(a, part.count), 0);
  const width = Math.min(90, (WIDTH - 20) / Math.max(1, histogram.length));
  const label = (from: number, to: number): string => (from === to ? count(from) : `${count(from)}\u2013${count(to)}`);
  const bars = histogram.map(({ from, to, count: its }, i) => {
    const x = 10 + i * width;
    const tall = its === 0 ? 0 : Math.max(2, (its / most) * (base - top));
    const bar = `<rect x="${n(x + 4)}" y="${n(base - tall)}" width="${n(width - 8)}" height="${n(tall)}" class="gpu"/>`;
    const middle = x + width / 2;
    return (
      (its === 0 ? '' : bar + text(middle, base - tall - 6, count(its), 'middle')) +
      text(middle, base + 18, label(from, to), 'middle', 'soft')
    );
  });
  const axis = `<line x1="10" x2="${n(10 + width * histogram.length)}" y1="${base}" y2="${base}" class="axis"/>`;
  const legend = text(10, height - 4, 'faults in a batch, with those that were merged', 'start', 'soft');
  const said = histogram
    .filter((part) => part.count > 0)
    .map(({ from, to, count: its }) => `${count(its)} with ${label(from, to)} faults`)
    .join(', ');
  return svg('batches', WIDTH, height, `Sizes of ${count(batches)} batches`, said, axis + bars.join('') + legend);
}

/** One bar of a chart of costs: its parts have the kinds of COST_PARTS. */
export interface CostBar {
  label: string;
  parts: readonly [gpu: number, cpu: number, calls: number];
}
const COST_PARTS = [
  ['gpu', 'GPU faults'],
  ['cpu', 'CPU faults'],
  ['in', 'copies by calls'],
] as const;

/** What each allocation cost. */
export function costChart(bars: readonly CostBar[]): string {
  const row = 30;
  const left = 250;
  const height = bars.length * row + 40;
  const total = ({ parts }: CostBar): number => parts[0] + parts[1] + parts[2];
  const most = bars.reduce((a, bar) => Math.max(a, total(bar)), 0);
  const scale = most === 0 ? 0 : (WIDTH - left - RIGHT) / most;
  const body = bars.map((bar, i) => {
    const y = 30 + i * row;
    let x = left;
    const rects = bar.parts.map((part, k) => {
      const width = part * scale;
      const rect = `<rect x="${n(x)}" y="${y}" width="${n(width)}" height="18" class="${COST_PARTS[k][0]}"/>`;
      x += width;
      return width === 0 ? '' : rect;
    });
    return text(left - 10, y + 14, bar.label, 'end') + rects.join('') + text(x + 8, y + 14, duration(total(bar)));
  });
  const legend = COST_PARTS.map(([kind, what], k) => {
    const x = left + k * 150;
    return `<rect x="${x}" y="4" width="14" height="14" class="${kind}"/>${text(x + 20, 16, what, 'start', 'soft')}`;
  });
  const said = bars
    .map(
      ({ label, parts }) => `${label}: ${COST_PARTS.map(([, what], k) => `${what} ${duration(parts[k])}`).join(', ')}`,
    )
    .join('; ');
  return svg('costs', WIDTH, height, 'Estimated cost of allocations', said, legend.join('') + body.join(''));
}

/** The scale of several charts of gains: from the least to the most, zero among them. */
export interface GainScale {
  from: number;
  to: number;
}

/** A predicted gain with its interval, and zero. */
export function gainChart(
  id: string,
  { from, to }: GainScale,
  [low, gain, high]: readonly [number, number, number],
  said: string,
): string {
  const width = 320;
  const at = (value: number): number => 8 + ((value - from) / (to - from || 1)) * (width - 16);
  const body =
    `<line x1="${n(at(low))}" x2="${n(at(high))}" y1="12" y2="12" class="span"/>` +
    `<line x1="${n(at(0))}" x2="${n(at(0))}" y1="2" y2="22" class="axis"/>` +
    `<circle cx="${n(at(gain))}" cy="12" r="5" class="in"/>${text(at(0), 34, '0', 'middle', 'soft')}`;
  return svg(id, width, 38, 'Predicted gain and its interval', said, body);
}
