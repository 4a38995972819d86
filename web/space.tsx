/** The address space at the time of the cursor: a tile for each block of 2 MiB, coloured by where its pages are. */
import { useEffect, useRef } from 'preact/hooks';
import type { Space, TraceBackend, TraceSummary } from '../src/explorer/api.ts';
import { colourOf, type Theme } from './colours.ts';
import { Answered, Legend, Nothing, useAnswer } from './panels.tsx';
import { spanText, timeLabel } from './scale.ts';

const CELL = 26;
const PER_ROW = 16;

interface SpaceProps {
  backend: TraceBackend;
  trace: TraceSummary;
  theme: Theme;
  time: number;
  /** Width of the time in which events are counted, ns. */
  span: number;
  allocation: number;
  block: number;
  onBlock(allocation: number, block: number): void;
  /** False: it waits. */
  ask: boolean;
}

/** Pages of a block by residency, in words. */
function blockText(space: Space, block: number): string {
  const width = space.residents.length;
  const parts = space.residents.flatMap((word, r) => {
    const pages = space.pages[block * width + r];
    return pages === 0 ? [] : [`${word} ${pages}`];
  });
  const faults = space.faults[block];
  const moved = space.moved[block] / 1024;
  const events = [
    ...(faults > 0 ? [`${faults} faults`] : []),
    ...(moved > 0 ? [`${moved.toLocaleString('en')} KiB moved`] : []),
    ...(space.thrashing[block] > 0 ? [`${space.thrashing[block]} thrashing`] : []),
  ];
  return `${parts.join(', ')}${events.length > 0 ? `; ${events.join(', ')}` : ''}`;
}

function paint(canvas: HTMLCanvasElement, space: Space, first: number, blocks: number, theme: Theme): void {
  const c = canvas.getContext('2d');
  if (c === null) return;
  const ratio = globalThis.devicePixelRatio || 1;
  const columns = Math.min(PER_ROW, blocks);
  const rows = Math.ceil(blocks / PER_ROW);
  canvas.width = columns * CELL * ratio;
  canvas.height = rows * CELL * ratio;
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  const width = space.residents.length;
  let most = 1;
  for (let b = 0; b < blocks; b++) most = Math.max(most, space.faults[first + b]);
  const mark = getComputedStyle(canvas).getPropertyValue('--text').trim();
  for (let b = 0; b < blocks; b++) {
    const x = (b % PER_ROW) * CELL;
    const y = Math.floor(b / PER_ROW) * CELL;
    const at = (first + b) * width;
    let pages = 0;
    for (let r = 0; r < width; r++) pages += space.pages[at + r];
    let left = x + 1;
    // Where nothing is known of pages, they come last.
    for (const r of [...space.residents.keys()].sort((p, q) => Number(p === 0) - Number(q === 0))) {
      const share = pages === 0 ? 0 : space.pages[at + r] / pages;
      if (share === 0) continue;
      c.fillStyle = colourOf(space.residents[r], theme);
      c.fillRect(left, y + 1, share * (CELL - 2), CELL - 2);
      left += share * (CELL - 2);
    }
    const faults = space.faults[first + b];
    if (faults === 0) continue;
    // A bar along the bottom: how many faults the block has around this time.
    c.fillStyle = mark;
    c.fillRect(x + 1, y + CELL - 5, Math.max(2, (Math.log1p(faults) / Math.log1p(most)) * (CELL - 2)), 3);
  }
}

function Allocation(props: SpaceProps & { space: Space; index: number }) {
  const { space, index, trace, theme, allocation, block } = props;
  const { name, bytes, firstBlock, blocks } = trace.allocations[index];
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    if (canvas.current !== null) paint(canvas.current, space, firstBlock, blocks, theme);
  }, [space, theme, firstBlock, blocks]);
  const columns = Math.min(PER_ROW, blocks);
  const rows = Math.ceil(blocks / PER_ROW);
  const chosen = allocation === index ? block : -1;
  const at = (event: MouseEvent): number => {
    const b = Math.floor(event.offsetY / CELL) * PER_ROW + Math.floor(event.offsetX / CELL);
    return b >= 0 && b < blocks ? b : -1;
  };
  const key = (event: KeyboardEvent): void => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -PER_ROW, ArrowDown: PER_ROW }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const from = Math.max(0, chosen);
    props.onBlock(index, Math.min(blocks - 1, Math.max(0, from + by)));
  };
  const text = chosen >= 0 ? `block ${chosen}: ${blockText(space, firstBlock + chosen)}` : `${blocks} blocks of 2 MiB`;
  return (
    <figure class="allocation">
      <figcaption>
        <strong>{name}</strong> {(bytes / 2 ** 20).toLocaleString('en', { maximumFractionDigits: 2 })} MiB
      </figcaption>
      <div class="blocks" style={{ width: `${columns * CELL}px`, height: `${rows * CELL}px` }}>
        <canvas
          ref={canvas}
          style={{ width: `${columns * CELL}px`, height: `${rows * CELL}px` }}
          role="slider"
          tabIndex={0}
          aria-label={`blocks of ${name}`}
          aria-valuemin={0}
          aria-valuemax={blocks - 1}
          aria-valuenow={Math.max(0, chosen)}
          aria-valuetext={text}
          onKeyDown={key}
          onClick={(event) => at(event) >= 0 && props.onBlock(index, at(event))}
          onMouseMove={(event) => {
            const b = at(event);
            event.currentTarget.title = b < 0 ? '' : `block ${b}: ${blockText(space, firstBlock + b)}`;
          }}
        />
        {chosen >= 0 && (
          <div
            class="chosen"
            style={{ left: `${(chosen % PER_ROW) * CELL}px`, top: `${Math.floor(chosen / PER_ROW) * CELL}px` }}
          />
        )}
      </div>
    </figure>
  );
}

export function SpaceView(props: SpaceProps) {
  const { backend, trace, theme, time, span, ask } = props;
  const asked = useAnswer(trace.allocations.length === 0 || !ask ? null : () => backend.space(trace.id, time, span), [
    backend,
    trace.id,
    time,
    span,
  ]);
  if (trace.allocations.length === 0) return <Nothing>This trace names no allocations.</Nothing>;
  return (
    <Answered asked={asked}>
      {(space) => {
        const width = space.residents.length;
        const totals = space.residents.map((_, r) => {
          let pages = 0;
          for (let i = r; i < space.pages.length; i += width) pages += space.pages[i];
          return pages;
        });
        return (
          <div class="space">
            <p class="hint">
              Pages at {timeLabel(time, 1)}; the bar in a block: faults within {spanText(span)} around.
              {trace.residency === 'inferred' && ' Concluded from events: pages that moved without one are not known.'}
            </p>
            <Legend words={space.residents} counts={totals} theme={theme} />
            <div class="allocations">
              {trace.allocations.map((_, index) => (
                <Allocation key={index} {...props} space={space} index={index} />
              ))}
            </div>
          </div>
        );
      }}
    </Answered>
  );
}
