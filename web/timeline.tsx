/**
 * The timeline: lanes of a trace over time, on one canvas. Tiles are asked for through the cache and put in place once
 * a frame. Labels stand beside it as a list, which has the keyboard.
 */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Lane, TraceBackend, TraceSummary } from '../src/explorer/api.ts';
import { colourOf, type Theme } from './colours.ts';
import { type Hit, hitTile, LANE_HEIGHT, type Painted, paintTile } from './paint_tile.ts';
import { Legend } from './panels.tsx';
import {
  panWindow,
  pixelOf,
  spanText,
  ticksOf,
  timeLabel,
  timeOf,
  type Window,
  wholeWindow,
  zoomWindow,
} from './scale.ts';
import { createTileCache, type TileCache } from './tile_cache.ts';

const AXIS_HEIGHT = 24;
const ZOOM_STEP = 1.25;
const PAN_SHARE = 0.15;
/** Pixels around the pointer in which a mark is hit. */
const SLACK = 4;
/** Row numbers from here on stand for no row. */
const NO_ROW = 0xffffffff;

/** What the list of lanes says of its keys. */
const KEYS =
  'arrows up and down choose one, left and right move in time, plus and minus zoom, n and p go from event to event';

export interface TimelineProps {
  backend: TraceBackend;
  trace: TraceSummary;
  theme: Theme;
  window: Window | null;
  /** The cursor. */
  time: number | null;
  row: number | null;
  /** Begin and end of the selected row. */
  selected: Window | null;
  lane: string | null;
  /** Name for the list of lanes, where several timelines stand on a page. */
  label: string;
  onWindow(window: Window): void;
  onTime(time: number): void;
  onRow(row: number | null, lane: string | null): void;
  onLane(lane: string): void;
  /** Tiles of all lanes have come for the first time. */
  onDrawn?(): void;
}

interface Hover {
  x: number;
  y: number;
  text: string;
}

interface View {
  window: Window;
  width: number;
  lanes: Lane[];
  painted: Map<string, Painted>;
}

interface Draw {
  canvas: HTMLCanvasElement;
  view: View;
  cache: TileCache;
  theme: Theme;
  time: number | null;
  selected: Window | null;
  lane: string | null;
}

function themed(canvas: HTMLCanvasElement) {
  const style = getComputedStyle(canvas);
  const read = (name: string): string => style.getPropertyValue(name).trim();
  return { line: read('--line'), text: read('--muted'), accent: read('--accent'), soft: read('--soft') };
}

function drawAxis(c: CanvasRenderingContext2D, view: View, colours: ReturnType<typeof themed>, height: number): void {
  c.font = '11px system-ui, sans-serif';
  c.textBaseline = 'middle';
  for (const { time, label } of ticksOf(view.window, view.width)) {
    const x = Math.round(pixelOf(view.window, view.width, time)) + 0.5;
    c.strokeStyle = colours.line;
    c.beginPath();
    c.moveTo(x, AXIS_HEIGHT - 4);
    c.lineTo(x, height);
    c.stroke();
    c.fillStyle = colours.text;
    c.fillText(label, x + 3, AXIS_HEIGHT / 2);
  }
}

/** One frame. */
function draw({ canvas, view, cache, theme, time, selected, lane }: Draw): void {
  const c = canvas.getContext('2d');
  if (c === null) return;
  const ratio = globalThis.devicePixelRatio || 1;
  const { width, window, lanes, painted } = view;
  const height = AXIS_HEIGHT + lanes.length * LANE_HEIGHT;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const colours = themed(canvas);
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  for (const [i, one] of lanes.entries()) {
    if (one.id !== lane) continue;
    c.fillStyle = colours.soft;
    c.fillRect(0, AXIS_HEIGHT + i * LANE_HEIGHT, width, LANE_HEIGHT);
  }
  drawAxis(c, view, colours, height);
  for (const [i, one] of lanes.entries()) {
    const tile = cache.get(one.id, window, width);
    if (tile === null) continue;
    let its = painted.get(one.id);
    if (its === undefined || its.tile !== tile || its.theme !== theme) {
      const pixels = tile.detail === 'density' ? tile.count.length : Math.round(width * 2.5);
      its = paintTile(tile, pixels, one.shape === 'spans', theme);
      painted.set(one.id, its);
    }
    const x = pixelOf(window, width, tile.begin);
    const wide = pixelOf(window, width, tile.end) - x;
    c.imageSmoothingEnabled = false;
    c.drawImage(its.canvas, x, AXIS_HEIGHT + i * LANE_HEIGHT, wide, LANE_HEIGHT);
  }
  c.strokeStyle = colours.accent;
  if (selected !== null) {
    const i = lanes.findIndex(({ id }) => id === lane);
    const x = pixelOf(window, width, selected.begin);
    const wide = Math.max(4, pixelOf(window, width, selected.end) - x);
    c.lineWidth = 2;
    if (i >= 0) c.strokeRect(x - 1, AXIS_HEIGHT + i * LANE_HEIGHT + 1, wide + 2, LANE_HEIGHT - 2);
    c.lineWidth = 1;
  }
  if (time !== null) {
    const x = Math.round(pixelOf(window, width, time)) + 0.5;
    c.setLineDash([4, 3]);
    c.beginPath();
    c.moveTo(x, 0);
    c.lineTo(x, height);
    c.stroke();
    c.setLineDash([]);
  }
}

function hitText(hit: NonNullable<Hit>): string {
  if ('count' in hit) return `${hit.count.toLocaleString('en')} here, mostly ${hit.kind}`;
  const length = hit.last > hit.first ? `, for ${spanText(hit.last - hit.first)}` : '';
  return `${hit.kind}, ${timeLabel(hit.first, 1)}${length}`;
}

/** Calls `frame` once before the next repaint, however often it is asked for. */
function useFrames(frame: () => void): () => void {
  const latest = useRef(frame);
  latest.current = frame;
  const pending = useRef(0);
  useEffect(() => () => cancelAnimationFrame(pending.current), []);
  return useMemo(
    () => () => {
      if (pending.current !== 0) return;
      pending.current = requestAnimationFrame(() => {
        pending.current = 0;
        latest.current();
      });
    },
    [],
  );
}

export function Timeline(props: TimelineProps) {
  const { backend, trace, theme, time, row, selected, lane } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const holder = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [hover, setHover] = useState<Hover | null>(null);
  /** Rises when a tile came: the legend and what failed are parts of the page. */
  const [, setCame] = useState(0);
  const bounds = useMemo(() => ({ begin: trace.begin, end: Math.max(trace.end, trace.begin + 1) }), [trace]);
  /** Where the pointer has moved the window to since the last render. */
  const moving = useRef<Window | null>(null);
  const shown = props.window ?? wholeWindow(bounds);
  const schedule = useRef<() => void>(() => {});
  const drawn = useRef(false);
  const answered = useMemo(() => new Set<string>(), [trace.id]);
  const cache = useMemo(
    () =>
      createTileCache(
        (id, begin, end, pixels) => backend.tile(trace.id, id, begin, end, pixels).finally(() => answered.add(id)),
        () => {
          schedule.current();
          setCame((n) => n + 1);
          if (drawn.current) return;
          drawn.current = trace.lanes.every(({ id }) => answered.has(id));
          if (drawn.current) props.onDrawn?.();
        },
      ),
    [backend, trace.id],
  );
  const painted = useMemo(() => new Map<string, Painted>(), [trace.id]);
  const current = (): Window => moving.current ?? shown;
  const frame = useFrames(() => {
    if (canvas.current === null || width === 0) return;
    const view = { window: current(), width, lanes: trace.lanes, painted };
    draw({ canvas: canvas.current, view, cache, theme, time, selected, lane });
  });
  schedule.current = frame;
  useEffect(() => {
    moving.current = null;
    frame();
  });
  useEffect(() => {
    const element = holder.current;
    if (element === null) return undefined;
    const observer = new ResizeObserver(() => setWidth(Math.floor(element.clientWidth)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  /** Shows another window at once, and tells the page when the movement rests. */
  const settle = useRef(0);
  const move = (window: Window): void => {
    moving.current = window;
    frame();
    clearTimeout(settle.current);
    settle.current = setTimeout(() => props.onWindow(window), 120) as unknown as number;
  };

  useEffect(() => {
    const element = canvas.current;
    if (element === null) return undefined;
    // A wheel over the page would scroll it: the listener must be allowed to keep it from doing so.
    const wheel = (event: WheelEvent): void => {
      if (event.ctrlKey || event.metaKey || !event.shiftKey) {
        if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
          move(panWindow(current(), event.deltaX / Math.max(1, width), bounds));
        } else {
          const at = timeOf(current(), width, event.offsetX);
          move(zoomWindow(current(), at, ZOOM_STEP ** (event.deltaY / 100), bounds));
        }
        event.preventDefault();
      }
    };
    element.addEventListener('wheel', wheel, { passive: false });
    return () => element.removeEventListener('wheel', wheel);
  });

  const laneAt = (y: number): number => Math.floor((y - AXIS_HEIGHT) / LANE_HEIGHT);
  const hitAt = (x: number, y: number) => {
    const one = trace.lanes[laneAt(y)];
    if (one === undefined) return null;
    const tile = painted.get(one.id)?.tile;
    if (tile === undefined) return null;
    const at = timeOf(current(), width, x);
    const slack = (SLACK / width) * (current().end - current().begin);
    const line = (y - AXIS_HEIGHT - laneAt(y) * LANE_HEIGHT) / LANE_HEIGHT;
    const hit = hitTile(tile, at, slack, line);
    return hit === null ? null : { lane: one, hit };
  };

  const drag = useRef<{ x: number; window: Window; moved: boolean } | null>(null);
  const down = (event: PointerEvent): void => {
    if (event.button !== 0) return;
    drag.current = { x: event.offsetX, window: current(), moved: false };
    (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
  };
  const over = (event: PointerEvent): void => {
    const its = drag.current;
    if (its !== null) {
      const by = event.offsetX - its.x;
      if (Math.abs(by) > 3) its.moved = true;
      if (its.moved) move(panWindow(its.window, -by / Math.max(1, width), bounds));
      return;
    }
    const found = hitAt(event.offsetX, event.offsetY);
    if (found === null) {
      setHover(null);
      return;
    }
    const { hit } = found;
    setHover({ x: event.offsetX, y: event.offsetY, text: `${found.lane.label}: ${hitText(hit)}` });
  };
  const up = (event: PointerEvent): void => {
    const its = drag.current;
    drag.current = null;
    if (its === null || its.moved) return;
    const found = hitAt(event.offsetX, event.offsetY);
    const clicked = trace.lanes[laneAt(event.offsetY)];
    props.onTime(timeOf(current(), width, event.offsetX));
    if (found !== null && 'row' in found.hit && found.hit.row !== NO_ROW) props.onRow(found.hit.row, found.lane.id);
    else if (clicked !== undefined) props.onLane(clicked.id);
  };

  const step = async (direction: 1 | -1): Promise<void> => {
    const its = trace.lanes.find(({ id }) => id === lane) ?? trace.lanes.find(({ kinds }) => kinds.length > 0);
    if (its === undefined) return;
    const kinds = its.kinds.length > 0 ? its.kinds : ['gpuFault'];
    const next = await backend.find(trace.id, { kinds, from: row ?? -1, direction });
    if (next !== null) props.onRow(next, null);
  };
  const key = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = lane === null ? -1 : trace.lanes.findIndex(({ id }) => id === lane);
    const middle = time ?? (current().begin + current().end) / 2;
    const acts: Record<string, () => void> = {
      ArrowLeft: () => move(panWindow(current(), -PAN_SHARE, bounds)),
      ArrowRight: () => move(panWindow(current(), PAN_SHARE, bounds)),
      ArrowUp: () => props.onLane(trace.lanes[Math.max(0, at - 1)].id),
      ArrowDown: () => props.onLane(trace.lanes[Math.min(trace.lanes.length - 1, at + 1)].id),
      '+': () => move(zoomWindow(current(), middle, 1 / ZOOM_STEP ** 2, bounds)),
      '=': () => move(zoomWindow(current(), middle, 1 / ZOOM_STEP ** 2, bounds)),
      '-': () => move(zoomWindow(current(), middle, ZOOM_STEP ** 2, bounds)),
      '0': () => move(wholeWindow(bounds)),
      n: () => void step(1),
      p: () => void step(-1),
    };
    const act = acts[event.key];
    if (act === undefined || trace.lanes.length === 0) return;
    event.preventDefault();
    act();
  };

  const tileKinds = lane === null || width === 0 ? undefined : cache.get(lane, current(), width)?.kinds;
  const chosen = trace.lanes.find(({ id }) => id === lane);
  const shownText = `from ${timeLabel(shown.begin, 1)} to ${timeLabel(shown.end, 1)}`;
  const active = lane === null ? undefined : `${props.label}-${lane}`;
  return (
    <div class="timeline">
      <div
        class="lanes"
        role="listbox"
        tabIndex={0}
        aria-label={`lanes of ${props.label}: ${KEYS}`}
        aria-activedescendant={active}
        onKeyDown={key}
      >
        {trace.lanes.map((one) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the list around it has the keyboard
          <div
            key={one.id}
            class="lane"
            tabIndex={-1}
            id={`${props.label}-${one.id}`}
            role="option"
            aria-selected={one.id === lane}
            title={`${one.rows.toLocaleString('en')} on this lane`}
            onClick={() => props.onLane(one.id)}
          >
            <span class="swatch" style={{ background: colourOf(swatchWord(one), theme) }} />
            <span class="lane-label">{one.label}</span>
            <span class="lane-rows">{one.rows.toLocaleString('en')}</span>
          </div>
        ))}
      </div>
      <div class="canvas-holder" ref={holder}>
        <canvas
          ref={canvas}
          style={{ width: `${width}px`, height: `${AXIS_HEIGHT + trace.lanes.length * LANE_HEIGHT}px` }}
          role="img"
          aria-label={`timeline of ${trace.label}, ${shownText}; the list of lanes beside it has the keyboard`}
          onPointerDown={down}
          onPointerMove={over}
          onPointerUp={up}
          onPointerLeave={() => setHover(null)}
          onDblClick={(event) => move(zoomWindow(current(), timeOf(current(), width, event.offsetX), 0.25, bounds))}
        />
        {hover !== null && (
          <div class="tip" style={{ left: `${Math.min(hover.x + 12, width - 220)}px`, top: `${hover.y + 14}px` }}>
            {hover.text}
          </div>
        )}
        {trace.lanes.map((one, i) => {
          const error = cache.error(one.id);
          return error === null ? null : (
            <div key={one.id} class="lane-error" style={{ top: `${AXIS_HEIGHT + i * LANE_HEIGHT}px` }} role="alert">
              {error}
            </div>
          );
        })}
      </div>
      <div class="lane-legend">
        {chosen !== undefined && tileKinds !== undefined && (
          <>
            <span class="hint">{chosen.label}:</span> <Legend words={tileKinds} theme={theme} />
          </>
        )}
      </div>
    </div>
  );
}

/** The word whose colour stands for a lane. */
function swatchWord(lane: Lane): string {
  const words: Record<Lane['group'], string> = {
    steps: 'advise',
    cpu: 'cpu',
    gpu: 'gpu0',
    batches: 'batch',
    migrations: 'coherence',
    thrashing: 'thrashing',
    evictions: 'eviction',
    channels: 'copy',
    copies: 'memcpy',
  };
  if (lane.group === 'migrations' && lane.kinds.includes('readDuplicate')) return 'readDuplicate';
  return words[lane.group];
}
