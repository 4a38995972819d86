/** The explorer: which trace and which view, and what both know of each other. The address says all of it. */
import { useEffect, useLayoutEffect, useMemo, useState } from 'preact/hooks';
import type { RowDetail, TraceEntry, TraceSummary } from '../src/explorer/api.ts';
import { type Backends, createBackends } from './backends.ts';
import { BlockView } from './block.tsx';
import type { Theme } from './colours.ts';
import { CompareView } from './compare.tsx';
import { Detail } from './detail.tsx';
import { LiveView } from './live.tsx';
import { Failure, Nothing, Panel, useAnswer } from './panels.tsx';
import { type Place, parsePlace, placeText, VIEWS, type View } from './place.ts';
import { SpaceView } from './space.tsx';
import { Timeline } from './timeline.tsx';
import { WalkView } from './walk.tsx';

const VIEW_NAMES: Readonly<Record<View, string>> = {
  timeline: 'Timeline',
  block: 'Block',
  walk: 'Fault',
  compare: 'Compare',
  live: 'Live',
};
/** How often the list is asked for while a trace is being opened, ms. */
const OPENING_EVERY = 100;
/** What changes without a step back for the browser's button. */
const QUIET: readonly (keyof Place)[] = ['window', 'time', 'lane', 'step', 'beside'];
/** What of a place belongs to one trace, as it is when another one is opened. */
const ELSEWHERE: Partial<Place> = {
  ...{ view: 'timeline', window: null, time: null, row: null, lane: null, allocation: 0, block: 0 },
  ...{ fault: null, step: 0, align: 'begin', beside: null },
};

/** Part of a place, or what makes one of the place as it is then; null changes nothing. */
type Change = Partial<Place> | ((before: Place) => Partial<Place> | null);
/** With `quiet` there is no step back to the place before, as there is none where only a window or a cursor moves. */
type ChangePlace = (change: Change, quiet?: boolean) => void;

function usePlace(): [Place, ChangePlace] {
  const [place, setPlace] = useState(() => parsePlace(location.hash));
  useEffect(() => {
    const back = (): void => setPlace(parsePlace(location.hash));
    addEventListener('popstate', back);
    addEventListener('hashchange', back);
    return () => {
      removeEventListener('popstate', back);
      removeEventListener('hashchange', back);
    };
  }, []);
  const change: ChangePlace = (what, quiet = false) => {
    setPlace((before) => {
      const by = typeof what === 'function' ? what(before) : what;
      if (by === null) return before;
      const next = { ...before, ...by };
      const hash = `#${placeText(next)}`;
      if (hash !== location.hash) {
        const keys = Object.keys(by) as (keyof Place)[];
        if (quiet || keys.every((key) => QUIET.includes(key))) history.replaceState(null, '', hash);
        else history.pushState(null, '', hash);
      }
      return next;
    });
  };
  return [place, change];
}

function useTheme(): [Theme, () => void] {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const [theme, setTheme] = useState<Theme>(() => {
    const kept = sessionStorage.getItem('theme');
    if (kept === 'light' || kept === 'dark') return kept;
    return dark.matches ? 'dark' : 'light';
  });
  // Before the canvases are painted, which read their colours from the page.
  useLayoutEffect(() => {
    document.documentElement.dataset['theme'] = theme;
  }, [theme]);
  useEffect(() => {
    const follow = (): void => {
      if (sessionStorage.getItem('theme') === null) setTheme(dark.matches ? 'dark' : 'light');
    };
    dark.addEventListener('change', follow);
    return () => dark.removeEventListener('change', follow);
  }, []);
  const toggle = (): void => {
    const next = theme === 'dark' ? 'light' : 'dark';
    sessionStorage.setItem('theme', next);
    setTheme(next);
  };
  return [theme, toggle];
}

interface Listed {
  entries: TraceEntry[] | null;
  error: string | null;
  again(): Promise<void>;
}

function useTraces(backends: Backends): Listed {
  const [entries, setEntries] = useState<TraceEntry[] | null>(null);
  const [error, setError] = useState<string | null>(null);
  const again = async (): Promise<void> => {
    try {
      setEntries(await backends.traces());
      setError(null);
    } catch (failure) {
      setError(failure instanceof Error ? failure.message : String(failure));
    }
  };
  useEffect(() => {
    void again();
  }, []);
  const opening = entries?.some(({ state }) => state === 'opening') ?? false;
  useEffect(() => {
    if (!opening) return undefined;
    const timer = setInterval(() => void again(), OPENING_EVERY);
    return () => clearInterval(timer);
  }, [opening]);
  return { entries, error, again };
}

interface ViewProps {
  backends: Backends;
  trace: TraceSummary;
  summaries: readonly TraceSummary[];
  theme: Theme;
  place: Place;
  change: ChangePlace;
}

function MainView({ backends, trace, summaries, theme, place, change }: ViewProps) {
  const { view, window, row, lane, allocation, block, fault, step, other, align, beside } = place;
  /** The map of a long trace takes seconds at first: the timeline comes before it. */
  const [drawn, setDrawn] = useState<string | null>(trace.lanes.length === 0 ? trace.id : null);
  const time = place.time ?? trace.end;
  const span = window === null ? trace.end - trace.begin : window.end - window.begin;
  const detail = useAnswer<RowDetail>(row === null ? null : () => backends.row(trace.id, row), [
    backends,
    trace.id,
    row,
  ]);
  const selected = row !== null && detail.state === 'ready' ? detail.value : null;
  const select = (next: number | null, its: string | null): void => {
    if (next === null) {
      change({ row: null });
      return;
    }
    change({ view: 'timeline', row: next, ...(its === null ? {} : { lane: its }) });
    void backends.row(trace.id, next).then(
      (found) =>
        change((before) => {
          // Whoever has gone on meanwhile is not taken back.
          if (before.trace !== place.trace || before.row !== next) return null;
          const shown = before.window;
          const inside = shown === null || (found.begin >= shown.begin && found.begin <= shown.end);
          const half = shown === null ? 0 : (shown.end - shown.begin) / 2;
          return {
            time: found.begin,
            ...(its !== null || found.lane === null ? {} : { lane: found.lane }),
            ...(found.place === null ? {} : { allocation: found.place.allocation, block: found.place.block }),
            ...(inside ? {} : { window: { begin: found.begin - half, end: found.begin + half } }),
          };
        }, true),
      () => {},
    );
  };
  const openBlock = (a: number, b: number): void => change({ view: 'block', allocation: a, block: b });
  if (view === 'block') {
    const page = selected?.place;
    const marked = page !== null && page !== undefined && page.allocation === allocation && page.block === block;
    return (
      <BlockView
        {...{ backend: backends, trace, theme, time, allocation, block, row }}
        page={marked ? page.page : null}
        onRow={(next, at) => change({ row: next, time: at })}
        onTime={(at) => change({ time: at })}
        onBlock={(a, b) => change({ allocation: a, block: b })}
      />
    );
  }
  if (view === 'walk') {
    return (
      <WalkView
        {...{ backend: backends, trace, theme, fault: fault ?? selected?.fault ?? null, step }}
        onFault={(next) => change({ fault: next, step: 0 })}
        onStep={(next) => change({ step: next })}
        onShow={(walk) => select(walk.row, null)}
      />
    );
  }
  if (view === 'compare') {
    const others = summaries.filter(({ id }) => id !== trace.id);
    return (
      <CompareView
        {...{ backend: backends, left: trace, others, theme, align, change }}
        right={others.find(({ id }) => id === other) ?? null}
        window={beside}
        onOpen={(id, next) => change({ ...ELSEWHERE, trace: id, row: next })}
      />
    );
  }
  return (
    <div class="timeline-view">
      <Panel title="Timeline" class="main">
        {trace.lanes.length === 0 ? (
          <Nothing>This trace has no events.</Nothing>
        ) : (
          <div class="scroll">
            <Timeline
              {...{ backend: backends, trace, theme, window, time: place.time, row, lane }}
              selected={selected}
              label="timeline"
              onDrawn={() => setDrawn(trace.id)}
              onWindow={(next) => change({ window: next })}
              onTime={(next) => change({ time: next })}
              onRow={select}
              onLane={(next) => change({ lane: next })}
              onOpen={() => document.querySelector<HTMLElement>('.detail-panel')?.focus()}
            />
          </div>
        )}
      </Panel>
      <Panel
        title="Address space"
        class="space-panel"
        aside={
          trace.allocations[allocation] !== undefined && (
            <button type="button" onClick={() => openBlock(allocation, block)}>
              {trace.allocations[allocation].name}, block {block}, page by page
            </button>
          )
        }
      >
        <SpaceView
          {...{ backend: backends, trace, theme, time, span: span / 20, allocation, block }}
          ask={drawn === trace.id || trace.lanes.length === 0}
          onBlock={(a, b) => (a === allocation && b === block ? openBlock(a, b) : change({ allocation: a, block: b }))}
          onOpen={openBlock}
        />
      </Panel>
      <Panel title={row === null ? 'About this trace' : 'Selected'} class="detail-panel" focusable>
        <Detail
          asked={row === null ? null : detail}
          trace={trace}
          onRow={(next) => select(next, null)}
          onWalk={(next) => change({ view: 'walk', fault: next, step: 0 })}
          onBlock={(a, b, at) => change({ view: 'block', allocation: a, block: b, time: at })}
          onZoom={(begin, end) => change({ window: { begin, end } })}
        />
      </Panel>
    </div>
  );
}

function Help({ onClose }: { onClose(): void }) {
  const keys: [string, string][] = [
    ['← →', 'move in time; in a walk: step back and forward'],
    ['↑ ↓', 'choose a lane'],
    ['+ −', 'zoom; the wheel zooms at the pointer, dragging moves'],
    ['0', 'all of the time'],
    ['n p', 'next and previous event of the lane'],
    ['Enter', 'what is selected, in detail; on a map the block, page by page'],
    ['?', 'this help'],
  ];
  return (
    <dialog open class="help" aria-label="keys">
      <h2>Keys</h2>
      <p class="hint">They act on the list of lanes, on a map or on the steps, whichever has the focus.</p>
      <dl class="fields">
        {keys.map(([key, what]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <button type="button" onClick={onClose}>
        close
      </button>
    </dialog>
  );
}

export function App() {
  const backends = useMemo(createBackends, []);
  const [place, change] = usePlace();
  const [theme, toggleTheme] = useTheme();
  const [help, setHelp] = useState(false);
  const { entries, error, again } = useTraces(backends);
  const summaries = (entries ?? []).flatMap((entry) => (entry.state === 'ready' ? [entry.summary] : []));
  const broken = (entries ?? []).flatMap((entry) => (entry.state === 'broken' ? [entry] : []));
  const opening = (entries ?? []).filter(({ state }) => state === 'opening');
  const trace = summaries.find(({ id }) => id === place.trace) ?? summaries[0] ?? null;
  const lost = place.trace !== null && entries !== null && opening.length === 0 && trace?.id !== place.trace;
  useEffect(() => {
    const key = (event: KeyboardEvent): void => {
      const { target } = event;
      if (target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement) return;
      if (event.key === '?') setHelp((before) => !before);
      if (event.key === 'Escape') setHelp(false);
    };
    addEventListener('keydown', key);
    return () => removeEventListener('keydown', key);
  }, []);
  useEffect(() => {
    document.title = trace === null ? 'uvmlab explorer' : `${trace.label} · uvmlab explorer`;
  }, [trace]);
  const show = (id: string, view: View): void => change({ ...ELSEWHERE, trace: id, view });
  return (
    <>
      <header class="top">
        <h1>uvmlab</h1>
        <label>
          trace{' '}
          <select
            value={trace?.id ?? ''}
            onChange={(event) => show(event.currentTarget.value, place.view === 'live' ? 'timeline' : place.view)}
            disabled={trace === null}
          >
            {summaries.map(({ id, label }) => (
              <option key={id} value={id}>
                {label}
              </option>
            ))}
          </select>
        </label>
        <nav aria-label="views">
          {VIEWS.map((view) => (
            <button
              key={view}
              type="button"
              aria-current={place.view === view ? 'page' : undefined}
              onClick={() => change({ view })}
            >
              {VIEW_NAMES[view]}
            </button>
          ))}
        </nav>
        <span class="spring" />
        <button type="button" onClick={toggleTheme}>
          {theme === 'dark' ? 'light' : 'dark'}
        </button>
        <button type="button" onClick={() => setHelp(!help)} aria-expanded={help}>
          keys
        </button>
      </header>
      <main>
        {error !== null && <Failure error={error} />}
        {broken.map(({ id, label, error: why }) => (
          <Failure key={id} error={`${label} cannot be shown: ${why}`} />
        ))}
        {opening.length > 0 && (
          <p class="hint" role="status">{`opening ${opening.map(({ label }) => label).join(', ')}…`}</p>
        )}
        {lost && (
          <Failure
            error={`There is no trace ${place.trace} here${trace === null ? '' : `; this is ${trace.label}`}.`}
          />
        )}
        {place.view === 'live' ? (
          <LiveView
            backends={backends}
            onTrace={async (id) => {
              await again();
              show(id, 'timeline');
            }}
          />
        ) : trace === null ? (
          <Nothing>
            {entries === null || opening.length > 0
              ? 'working…'
              : 'There is no trace to show. Run a scenario under Live.'}
          </Nothing>
        ) : (
          <MainView key={trace.id} {...{ backends, trace, summaries, theme, place, change }} />
        )}
      </main>
      {help && <Help onClose={() => setHelp(false)} />}
    </>
  );
}
