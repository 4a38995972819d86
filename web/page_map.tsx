/** The 512 pages of a block as a grid of 16 rows of 32: 128 KiB a row. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { BlockDetail } from '../src/explorer/api.ts';
import { colourOf, inkOn, letterOf, type Theme } from './colours.ts';
import { countText } from './scale.ts';

const PER_ROW = 32;
const PAGES = 512;
const ROWS = PAGES / PER_ROW;
const OUTSIDE = 255;

export const PAGE_OVERLAYS = ['residency', 'faults', 'migrations'] as const;
export type PageOverlay = (typeof PAGE_OVERLAYS)[number];

function mapsText(mapped: number, processors: readonly string[]): string {
  const words = processors.filter((_, i) => (mapped & (1 << i)) !== 0);
  return words.length === 0 ? 'mapped nowhere' : `mapped on ${words.join(', ')}`;
}

export function pageText(detail: BlockDetail, page: number, processors: readonly string[]): string {
  const where = detail.residency[page];
  if (where === OUTSIDE) return `page ${page} of the block: outside of the allocation`;
  const word = detail.residents[where];
  const maps = detail.mapped === null ? '' : `, ${mapsText(detail.mapped[page], processors)}`;
  const [faults, migrations] = [detail.faults[page], detail.migrations[page]];
  const counts = `${countText(faults, 'fault')}, ${countText(migrations, 'migration')} so far`;
  return `page ${detail.firstPage + page}: ${word === 'none' ? 'resident nowhere' : `on ${word}`}${maps}; ${counts}`;
}

interface Painting {
  canvas: HTMLCanvasElement;
  detail: BlockDetail;
  overlay: PageOverlay;
  theme: Theme;
  page: number | null;
  cell: number;
  processors: readonly string[];
}

function paintResidency(c: CanvasRenderingContext2D, p: Painting): void {
  const { detail, theme, cell, processors } = p;
  const looks = detail.residents.map((word) => {
    const colour = colourOf(word, theme);
    return { colour, ink: inkOn(colour), letter: letterOf(word) };
  });
  const middle = detail.mapped === null ? cell / 2 : (cell - 3) / 2;
  c.textAlign = 'center';
  c.textBaseline = 'middle';
  c.font = `bold ${Math.round(cell * 0.55)}px system-ui, sans-serif`;
  for (let page = 0; page < PAGES; page++) {
    if (detail.residency[page] === OUTSIDE) continue;
    const x = (page % PER_ROW) * cell;
    const y = Math.floor(page / PER_ROW) * cell;
    const { colour, ink, letter } = looks[detail.residency[page]];
    c.fillStyle = colour;
    c.fillRect(x + 0.5, y + 0.5, cell - 1, cell - 1);
    c.fillStyle = ink;
    // A letter where a run of pages begins: one in each page is more than anybody reads.
    const runs = page % PER_ROW !== 0 && detail.residency[page - 1] === detail.residency[page];
    if (letter !== '' && !runs) c.fillText(letter, x + cell / 2, y + middle + 0.5);
    if (detail.mapped === null || detail.mapped[page] === 0) continue;
    // Who maps the page, by place: the CPU first, then GPU after GPU.
    const wide = Math.min(4, (cell - 2) / processors.length - 1);
    for (let i = 0; i < processors.length; i++) {
      if ((detail.mapped[page] & (1 << i)) !== 0) c.fillRect(x + 1.5 + i * (wide + 1), y + cell - 3.5, wide, 2);
    }
  }
}

function paintHeat(c: CanvasRenderingContext2D, { detail, overlay, theme, cell }: Painting): void {
  const counts = overlay === 'faults' ? detail.faults : detail.migrations;
  let most = 1;
  for (const count of counts) most = Math.max(most, count);
  c.fillStyle = colourOf(overlay === 'faults' ? 'write' : 'coherence', theme);
  for (let page = 0; page < PAGES; page++) {
    if (detail.residency[page] === OUTSIDE) continue;
    c.globalAlpha = counts[page] === 0 ? 0.07 : 0.25 + 0.75 * (Math.log1p(counts[page]) / Math.log1p(most));
    c.fillRect((page % PER_ROW) * cell + 0.5, Math.floor(page / PER_ROW) * cell + 0.5, cell - 1, cell - 1);
  }
  c.globalAlpha = 1;
}

function paint(p: Painting): void {
  const { canvas, overlay, page, cell } = p;
  const c = canvas.getContext('2d');
  if (c === null) return;
  const ratio = globalThis.devicePixelRatio || 1;
  canvas.width = PER_ROW * cell * ratio;
  canvas.height = ROWS * cell * ratio;
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (overlay === 'residency') paintResidency(c, p);
  else paintHeat(c, p);
  if (page === null) return;
  const x = (page % PER_ROW) * cell;
  const y = Math.floor(page / PER_ROW) * cell;
  // Two lines, so that one of them is seen on any colour.
  const style = getComputedStyle(canvas);
  c.lineWidth = 2;
  c.strokeStyle = style.getPropertyValue('--panel').trim();
  c.strokeRect(x + 2.5, y + 2.5, cell - 5, cell - 5);
  c.strokeStyle = style.getPropertyValue('--text').trim();
  c.strokeRect(x + 0.5, y + 0.5, cell - 1, cell - 1);
}

export function PageMap(props: {
  detail: BlockDetail;
  theme: Theme;
  processors: readonly string[];
  page: number | null;
  overlay?: PageOverlay;
  cell?: number;
}) {
  const { detail, theme, page, overlay = 'residency', cell = 18, processors } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const [at, setAt] = useState<number | null>(null);
  const shown = at ?? page;
  useEffect(() => {
    if (canvas.current !== null) {
      paint({ canvas: canvas.current, detail, overlay, theme, page: shown, cell, processors });
    }
  }, [detail, overlay, theme, shown, cell, processors]);
  const key = (event: KeyboardEvent): void => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -PER_ROW, ArrowDown: PER_ROW }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    setAt(Math.min(PAGES - 1, Math.max(0, (shown ?? 0) + by)));
  };
  const move = (event: MouseEvent): void => {
    const column = Math.min(PER_ROW - 1, Math.floor(event.offsetX / cell));
    setAt(Math.max(0, Math.min(PAGES - 1, Math.floor(event.offsetY / cell) * PER_ROW + column)));
  };
  return (
    <div class="page-grid">
      <div class="page-rows">
        <ol aria-hidden="true" style={{ lineHeight: `${cell}px` }}>
          {Array.from({ length: ROWS }, (_, i) => (
            <li key={i}>{i % 2 === 0 ? (detail.firstPage + i * PER_ROW).toLocaleString('en') : '\u00a0'}</li>
          ))}
        </ol>
        <canvas
          ref={canvas}
          style={{ width: `${PER_ROW * cell}px`, height: `${ROWS * cell}px` }}
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
      </div>
      <p class="hint">{shown === null ? '\u00a0' : pageText(detail, shown, processors)}</p>
    </div>
  );
}
