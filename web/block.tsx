/** One block: its 512 pages at the time of the cursor, its prefetch tree, and its history. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { BlockDetail, TraceBackend, TraceSummary } from '../src/explorer/api.ts';
import { colourOf, type Theme } from './colours.ts';
import { Answered, Legend, Nothing, Panel, useAnswer } from './panels.tsx';
import { timeLabel } from './scale.ts';

const PER_ROW = 32;
const PAGES = 512;
const OUTSIDE = 255;
const LINE = 20;

type Overlay = 'residency' | 'faults' | 'migrations';

interface BlockProps {
  backend: TraceBackend;
  trace: TraceSummary;
  theme: Theme;
  time: number;
  allocation: number;
  block: number;
  /** A page to mark. */
  page: number | null;
  row: number | null;
  onRow(row: number, time: number): void;
  onBlock(allocation: number, block: number): void;
}

function mapsText(mapped: number, processors: readonly string[]): string {
  const words = processors.filter((_, i) => (mapped & (1 << i)) !== 0);
  return words.length === 0 ? 'mapped nowhere' : `mapped on ${words.join(', ')}`;
}

function pageText(detail: BlockDetail, page: number, processors: readonly string[]): string {
  const where = detail.residency[page];
  if (where === OUTSIDE) return `page ${page}: outside of the allocation`;
  const word = detail.residents[where];
  const maps = detail.mapped === null ? '' : `, ${mapsText(detail.mapped[page], processors)}`;
  const faults = `${detail.faults[page]} faults, ${detail.migrations[page]} migrations so far`;
  return `page ${detail.firstPage + page}: ${word === 'none' ? 'resident nowhere' : `on ${word}`}${maps}; ${faults}`;
}

function paint(
  canvas: HTMLCanvasElement,
  detail: BlockDetail,
  overlay: Overlay,
  theme: Theme,
  page: number | null,
  cell: number,
): void {
  const c = canvas.getContext('2d');
  if (c === null) return;
  const ratio = globalThis.devicePixelRatio || 1;
  canvas.width = PER_ROW * cell * ratio;
  canvas.height = (PAGES / PER_ROW) * cell * ratio;
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  const text = getComputedStyle(canvas).getPropertyValue('--text').trim();
  const counts = overlay === 'faults' ? detail.faults : detail.migrations;
  let most = 1;
  for (const count of counts) most = Math.max(most, count);
  for (let p = 0; p < PAGES; p++) {
    const x = (p % PER_ROW) * cell;
    const y = Math.floor(p / PER_ROW) * cell;
    if (detail.residency[p] === OUTSIDE) continue;
    if (overlay === 'residency') {
      c.fillStyle = colourOf(detail.residents[detail.residency[p]], theme);
      c.fillRect(x + 0.5, y + 0.5, cell - 1, cell - 1);
      // A page that somebody maps has a dot; one without could not be touched without a fault.
      if (detail.mapped !== null && detail.mapped[p] !== 0) {
        c.fillStyle = theme === 'light' ? '#ffffff' : '#10131a';
        c.fillRect(x + cell / 2 - 1.5, y + cell / 2 - 1.5, 3, 3);
      }
    } else {
      c.fillStyle = colourOf(overlay === 'faults' ? 'write' : 'coherence', theme);
      c.globalAlpha = counts[p] === 0 ? 0.07 : 0.2 + 0.8 * (Math.log1p(counts[p]) / Math.log1p(most));
      c.fillRect(x + 0.5, y + 0.5, cell - 1, cell - 1);
      c.globalAlpha = 1;
    }
    if (p === page) {
      c.strokeStyle = text;
      c.lineWidth = 2;
      c.strokeRect(x + 1, y + 1, cell - 2, cell - 2);
    }
  }
}

/** The 512 pages as a grid of 16 rows of 32: 128 KiB a row. */
export function PageGrid(props: {
  detail: BlockDetail;
  theme: Theme;
  processors: readonly string[];
  page: number | null;
  overlay?: Overlay;
  cell?: number;
}) {
  const { detail, theme, page, overlay = 'residency', cell = 18, processors } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const [at, setAt] = useState<number | null>(null);
  const shown = at ?? page;
  useEffect(() => {
    if (canvas.current !== null) paint(canvas.current, detail, overlay, theme, shown, cell);
  });
  const key = (event: KeyboardEvent): void => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -PER_ROW, ArrowDown: PER_ROW }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    setAt(Math.min(PAGES - 1, Math.max(0, (shown ?? 0) + by)));
  };
  const move = (event: MouseEvent): void =>
    setAt(Math.min(PAGES - 1, Math.floor(event.offsetY / cell) * PER_ROW + Math.floor(event.offsetX / cell)));
  return (
    <div class="page-grid">
      <canvas
        ref={canvas}
        style={{ width: `${PER_ROW * cell}px`, height: `${(PAGES / PER_ROW) * cell}px` }}
        role="slider"
        tabIndex={0}
        aria-label="pages of the block"
        aria-valuemin={0}
        aria-valuemax={PAGES - 1}
        aria-valuenow={shown ?? 0}
        aria-valuetext={pageText(detail, shown ?? 0, processors)}
        onKeyDown={key}
        onMouseMove={move}
        onMouseLeave={() => setAt(null)}
      />
      <p class="hint">{shown === null ? '\u00a0' : pageText(detail, shown, processors)}</p>
    </div>
  );
}

function Tree({ tree }: { tree: NonNullable<BlockDetail['tree']> }) {
  return (
    <>
      <p class="hint">
        To {tree.destination}. {tree.text}.
      </p>
      <table class="tree">
        <thead>
          <tr>
            <th scope="col">level</th>
            <th scope="col">pages</th>
            <th scope="col">leaves set</th>
            <th scope="col">share</th>
          </tr>
        </thead>
        <tbody>
          {tree.levels.map(({ level, first, outer, set, size, passes }) => (
            <tr key={level} class={passes ? 'passes' : ''}>
              <th scope="row">{level}</th>
              <td>
                {first} to {outer - 1}
              </td>
              <td>
                {set} of {size}
              </td>
              <td>
                <span class="bar">
                  <span style={{ width: `${Math.min(100, (set / size) * 100)}%` }} />
                </span>
                {passes ? 'passes' : ''}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

/** A list of which only the lines in sight are in the page. */
function History({ detail, row, onRow }: Pick<BlockProps, 'row' | 'onRow'> & { detail: BlockDetail }) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const { history, historyCount, time } = detail;
  const here = history.findIndex((entry) => entry.time > time);
  useEffect(() => {
    const middle = (here < 0 ? history.length : here) * LINE;
    if (box.current !== null) box.current.scrollTop = Math.max(0, middle - box.current.clientHeight / 2);
  }, [detail]);
  if (history.length === 0) return <Nothing>Nothing happened to this block.</Nothing>;
  const first = Math.max(0, Math.floor(top / LINE) - 10);
  const shown = history.slice(first, first + 60);
  return (
    <>
      <p class="hint">
        {historyCount.toLocaleString('en')} events
        {historyCount > history.length ? `, ${history.length} around this time` : ''}
      </p>
      <div class="history" ref={box} onScroll={(event) => setTop(event.currentTarget.scrollTop)}>
        <ol style={{ height: `${history.length * LINE}px` }}>
          {shown.map((entry, i) => (
            <li key={entry.row} style={{ top: `${(first + i) * LINE}px` }}>
              <button
                type="button"
                class={`${entry.row === row ? 'current' : ''} ${entry.time > time ? 'later' : ''}`}
                onClick={() => onRow(entry.row, entry.time)}
              >
                <span class="when">{timeLabel(entry.time, 100)}</span> {entry.text}
              </button>
            </li>
          ))}
        </ol>
      </div>
    </>
  );
}

const OVERLAYS: readonly Overlay[] = ['residency', 'faults', 'migrations'];

export function BlockView(props: BlockProps) {
  const { backend, trace, theme, time, allocation, block, page, row } = props;
  const [overlay, setOverlay] = useState<Overlay>('residency');
  const its = trace.allocations[allocation];
  const known = its !== undefined && block < its.blocks;
  const asked = useAnswer(known ? () => backend.block(trace.id, allocation, block, time) : null, [
    backend,
    trace.id,
    allocation,
    block,
    time,
  ]);
  if (trace.allocations.length === 0) return <Nothing>This trace names no allocations.</Nothing>;
  if (!known) return <Nothing>There is no such block; choose one on the map of the address space.</Nothing>;
  const chooser = (
    <span class="chooser">
      <label>
        allocation{' '}
        <select value={allocation} onChange={(event) => props.onBlock(Number(event.currentTarget.value), 0)}>
          {trace.allocations.map(({ name }, i) => (
            <option key={name} value={i}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        block{' '}
        <input
          type="number"
          min={0}
          max={its.blocks - 1}
          value={block}
          onChange={(event) => props.onBlock(allocation, Math.min(its.blocks - 1, Number(event.currentTarget.value)))}
        />{' '}
        of {its.blocks}
      </label>
    </span>
  );
  return (
    <div class="block-view">
      <Panel title={`Pages at ${timeLabel(time, 1)}`} aside={chooser}>
        <Answered asked={asked}>
          {(detail) => (
            <>
              <fieldset aria-label="what the colours say">
                {OVERLAYS.map((one) => (
                  <button key={one} type="button" aria-pressed={one === overlay} onClick={() => setOverlay(one)}>
                    {one}
                  </button>
                ))}
              </fieldset>
              <PageGrid detail={detail} theme={theme} page={page} overlay={overlay} processors={trace.processors} />
              {overlay === 'residency' && <Legend words={detail.residents} theme={theme} />}
              <p class="hint">
                {detail.mapped === null
                  ? 'Mappings are known in runs of the model alone.'
                  : 'A dot in a page: some processor maps it.'}
              </p>
            </>
          )}
        </Answered>
      </Panel>
      <Panel title="Prefetch tree of the last fault">
        <Answered asked={asked}>
          {({ tree }) =>
            tree === null ? (
              <Nothing>{trace.noWalk ?? 'No fault of this block asked the tree before this time.'}</Nothing>
            ) : (
              <Tree tree={tree} />
            )
          }
        </Answered>
      </Panel>
      <Panel title="History" class="grow">
        <Answered asked={asked}>{(detail) => <History detail={detail} row={row} onRow={props.onRow} />}</Answered>
      </Panel>
    </div>
  );
}
