/**
 * The timeline: lanes of a trace over time, on one canvas. Tiles are asked for through the cache and put in place once
 * a frame. Labels stand beside it as a list, which has the keyboard.
 */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Tile, TraceBackend, TraceSummary } from '../src/explorer/api.ts';
import { colourOf, type Theme } from './colours.ts';
import { AXIS_HEIGHT, drawFrame, laneTop, type Selected } from './draw_timeline.ts';
import { laneTable, swatchWord, viewText } from './lanes.ts';
import { createMotion, type Motion } from './motion.ts';
import { type Hit, hitTile, isWorded, LANE_HEIGHT, type Painted } from './paint_tile.ts';
import { Legend } from './panels.tsx';
import { panWindow, spanText, timeLabel, timeOf, type Window, wholeWindow, zoomWindow } from './scale.ts';
import { createTileCache } from './tile_cache.ts';

const ZOOM_STEP = 1.25;
const PAN_SHARE = 0.15;
/** Pixels around the pointer in which a mark is hit. */
const SLACK = 4;
/** Row numbers from here on stand for no row. */
const NO_ROW = 0xffffffff;
/** How long a window rests before it goes into the address, ms. */
const SETTLE = 120;

/** What the list of lanes says of its keys. */
const KEYS =
  'arrows up and down choose one, left and right move in time, plus and minus zoom, n and p go from event to event, ' +
  'enter opens what is selected';

export interface TimelineProps {
  backend: TraceBackend;
  trace: TraceSummary;
  theme: Theme;
  window: Window | null;
  /** How far it goes; the trace's own times where it is not said. */
  bounds?: Window;
  /** The time that the axis calls zero. */
  origin?: number;
  /** Shared by timelines that move together. */
  motion?: Motion;
  /** The cursor. */
  time: number | null;
  row: number | null;
  selected: Selected | null;
  lane: string | null;
  /** Name for the list of lanes, where several timelines stand on a page. */
  label: string;
  onWindow(window: Window): void;
  onTime(time: number): void;
  onRow(row: number | null, lane: string | null): void;
  onLane(lane: string): void;
  /** Tiles of all lanes have come for the first time. */
  onDrawn?(): void;
  /** The details of what is selected are wanted. */
  onOpen(): void;
}

interface Hover {
  x: number;
  y: number;
  text: string;
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

function hitText(hit: NonNullable<Hit>, origin: number): string {
  if ('count' in hit) return `${hit.count.toLocaleString('en')} here, mostly ${hit.kind}`;
  const length = hit.last > hit.first ? `, for ${spanText(hit.last - hit.first)}` : '';
  return `${hit.kind}, ${timeLabel(hit.first - origin, 1)}${length}`;
}

/** Tiles of a trace, and a way to let the page know of them. */
function useTiles(backend: TraceBackend, trace: string, schedule: { current: () => void }) {
  /** Rises when nothing is under way any more: summary, legend and what failed are parts of the page. */
  const [came, setCame] = useState(0);
  const cache = useMemo(() => {
    const cache = createTileCache(
      (id, begin, end, pixels) => backend.tile(trace, id, begin, end, pixels),
      (id) => {
        schedule.current();
        if (cache.waiting() === 0 || cache.error(id) !== null) setCame((n) => n + 1);
      },
    );
    return cache;
  }, [backend, trace]);
  return { cache, came };
}

/** The width of an element, followed. */
function useWidth(holder: { current: HTMLElement | null }): number {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const element = holder.current;
    if (element === null) return undefined;
    const observer = new ResizeObserver(() => setWidth(Math.floor(element.clientWidth)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return width;
}

/** The window that is shown, and how it moves: at once on the canvas, and in the address when it rests. */
function useMovement(props: TimelineProps, bounds: Window, frame: () => void) {
  const own = useMemo(createMotion, [props.trace.id]);
  const motion = props.motion ?? own;
  const shown = props.window ?? wholeWindow(bounds);
  const settle = useRef(0);
  // What is told when the movement rests is told to the page as it is then.
  const tell = useRef(props.onWindow);
  tell.current = props.onWindow;
  // Until the address has the window that was moved to, renders for other reasons leave it where it is.
  useEffect(() => motion.rest(), [motion, shown.begin, shown.end]);
  useEffect(() => motion.watch(frame), [motion]);
  useEffect(
    () => () => {
      clearTimeout(settle.current);
      motion.settle();
    },
    [motion, props.trace.id],
  );
  return {
    current: (): Window => motion.get() ?? shown,
    move: (window: Window): void => {
      motion.move(window);
      clearTimeout(settle.current);
      settle.current = setTimeout(() => {
        motion.settle();
        // Another timeline may have moved it on.
        tell.current(motion.get() ?? window);
      }, SETTLE) as unknown as number;
    },
  };
}

export function Timeline(props: TimelineProps) {
  const { backend, trace, theme, time, row, selected, lane, origin = 0 } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const holder = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const width = useWidth(holder);
  const [hover, setHover] = useState<Hover | null>(null);
  const own = useMemo(() => ({ begin: trace.begin, end: Math.max(trace.end, trace.begin + 1) }), [trace]);
  const bounds = props.bounds ?? own;
  const schedule = useRef<() => void>(() => {});
  const { cache, came } = useTiles(backend, trace.id, schedule);
  useEffect(() => {
    if (came > 0) props.onDrawn?.();
  }, [came > 0]);
  const painted = useMemo(() => new WeakMap<Tile, Painted>(), [trace.id]);
  const frame = useFrames(() => {
    if (canvas.current === null || width === 0) return;
    const { lanes } = trace;
    const cursor = time;
    drawFrame({
      ...{ canvas: canvas.current, window: current(), width, lanes, cache, painted, theme, origin, cursor },
      ...{ selected, lane, top: canvas.current.closest('.scroll')?.scrollTop ?? 0 },
    });
  });
  const { current, move } = useMovement(props, bounds, frame);
  schedule.current = frame;
  useEffect(frame);
  useEffect(() => {
    list.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: 'nearest' });
  }, [lane, trace.id]);

  useEffect(() => {
    const scroll = canvas.current?.closest('.scroll');
    scroll?.addEventListener('scroll', frame);
    return () => scroll?.removeEventListener('scroll', frame);
  }, [frame]);
  useEffect(() => {
    const element = canvas.current;
    if (element === null) return undefined;
    // A wheel over the page would scroll it: the listener must be allowed to keep it from doing so.
    const wheel = (event: WheelEvent): void => {
      event.preventDefault();
      if (event.shiftKey) {
        // The lanes, where not all of them fit; browsers make a movement to the side of it.
        element.closest('.scroll')?.scrollBy(0, event.deltaY === 0 ? event.deltaX : event.deltaY);
        return;
      }
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        move(panWindow(current(), event.deltaX / Math.max(1, width), bounds));
        return;
      }
      const at = timeOf(current(), width, event.offsetX);
      move(zoomWindow(current(), at, ZOOM_STEP ** (event.deltaY / 100), bounds));
    };
    element.addEventListener('wheel', wheel, { passive: false });
    return () => element.removeEventListener('wheel', wheel);
  });

  const laneAt = (y: number): number => Math.floor((y - AXIS_HEIGHT) / LANE_HEIGHT);
  const hitAt = (x: number, y: number, slack = SLACK) => {
    const one = trace.lanes[laneAt(y)];
    if (one === undefined || width === 0) return null;
    const tile = cache.get(one.id, current(), width);
    if (tile === null) return null;
    const at = timeOf(current(), width, x);
    const around = (slack / width) * (current().end - current().begin);
    const line = (y - laneTop(laneAt(y))) / LANE_HEIGHT;
    const hit = hitTile(tile, at, around, line);
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
      if (its.moved) {
        if (hover !== null) setHover(null);
        move(panWindow(its.window, -by / Math.max(1, width), bounds));
      }
      return;
    }
    const found = hitAt(event.offsetX, event.offsetY);
    if (found === null) {
      if (hover !== null) setHover(null);
      return;
    }
    const text = `${found.lane.label}: ${hitText(found.hit, origin)}`;
    setHover({ x: event.offsetX, y: event.offsetY, text });
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

  /** From the selected event to the next of the lane; from the edge of what is in view where none is selected. */
  const step = async (direction: 1 | -1): Promise<void> => {
    const its = trace.lanes.find(({ id }) => id === lane) ?? trace.lanes[0];
    const { begin, end } = current();
    const near = { time: direction > 0 ? begin : end };
    const from = row ?? -1;
    const next = await backend.find(trace.id, { kinds: [], lane: its.id, from, direction, ...(row === null && near) });
    if (next !== null) props.onRow(next, its.id);
  };
  const key = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = trace.lanes.findIndex(({ id }) => id === lane);
    const middle = (current().begin + current().end) / 2;
    const inView = time !== null && time >= current().begin && time <= current().end;
    const zoom = (factor: number): void => move(zoomWindow(current(), inView ? time : middle, factor, bounds));
    const acts: Record<string, () => void> = {
      ArrowLeft: () => move(panWindow(current(), -PAN_SHARE, bounds)),
      ArrowRight: () => move(panWindow(current(), PAN_SHARE, bounds)),
      ArrowUp: () => props.onLane(trace.lanes[Math.max(0, at - 1)].id),
      ArrowDown: () => props.onLane(trace.lanes[Math.min(trace.lanes.length - 1, at + 1)].id),
      '+': () => zoom(1 / ZOOM_STEP ** 2),
      '=': () => zoom(1 / ZOOM_STEP ** 2),
      '-': () => zoom(ZOOM_STEP ** 2),
      '0': () => move(wholeWindow(bounds)),
      n: () => void step(1),
      p: () => void step(-1),
      Enter: () => (row === null ? void step(1) : props.onOpen()),
    };
    const act = acts[event.key];
    if (act === undefined || trace.lanes.length === 0) return;
    event.preventDefault();
    act();
  };

  const tiles = width === 0 ? [] : trace.lanes.map(({ id }) => cache.get(id, current(), width));
  const index = trace.lanes.findIndex(({ id }) => id === lane);
  const kinds = tiles[index]?.kinds ?? [];
  const inView = viewText(trace.lanes, tiles, current());
  const shownText = `from ${timeLabel(current().begin - origin, 1)} to ${timeLabel(current().end - origin, 1)}`;
  const active = index < 0 ? undefined : `${props.label}-${lane}`;
  return (
    <div class="timeline">
      <div
        class="lanes"
        ref={list}
        role="listbox"
        tabIndex={0}
        aria-label={`lanes of ${props.label}: ${KEYS}`}
        aria-activedescendant={active}
        onKeyDown={key}
      >
        {laneTable(trace.lanes).map(({ lane: one, begins }) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the list around it has the keyboard
          <div
            key={one.id}
            class={`lane ${begins ? 'begins' : ''}`}
            tabIndex={-1}
            id={`${props.label}-${one.id}`}
            role="option"
            aria-selected={one.id === lane}
            title={`${one.label}: ${one.rows.toLocaleString('en')}`}
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
          style={{ width: `${width}px`, height: `${laneTop(trace.lanes.length)}px` }}
          role="img"
          aria-label={`timeline of ${trace.label}, ${shownText}; the list of lanes beside it has the keyboard`}
          onPointerDown={down}
          onPointerMove={over}
          onPointerUp={up}
          onPointerCancel={() => {
            drag.current = null;
          }}
          onPointerLeave={() => setHover(null)}
          onDblClick={(event) => move(zoomWindow(current(), timeOf(current(), width, event.offsetX), 0.25, bounds))}
        />
        {hover !== null && (
          <div
            class="tip"
            style={{
              ...(hover.x < width / 2 ? { left: `${hover.x + 12}px` } : { right: `${width - hover.x + 8}px` }),
              ...(laneAt(hover.y) < trace.lanes.length / 2
                ? { top: `${hover.y + 14}px` }
                : { bottom: `${laneTop(trace.lanes.length) - hover.y + 8}px` }),
            }}
          >
            {hover.text}
          </div>
        )}
        {trace.lanes.map((one, i) => {
          const error = cache.error(one.id);
          return error === null ? null : (
            <div key={one.id} class="lane-error" style={{ top: `${laneTop(i)}px` }} role="alert">
              {error}
            </div>
          );
        })}
      </div>
      <div class="lane-legend">
        {index >= 0 && (
          <>
            <span class="hint">{trace.lanes[index].label}:</span>
            <Legend
              words={kinds}
              theme={theme}
              forms={tiles[index]?.detail === 'rows' && !isWorded(trace.lanes[index])}
            />
          </>
        )}
        <span class="spring" />
        <span class="hint" role="status">
          {inView.total}
          <span class="unseen">
            {' '}
            {shownText}. {inView.lanes}
          </span>
        </span>
      </div>
    </div>
  );
}
