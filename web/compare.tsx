/** Two traces above each other on one scale of time, with their counts and the first event that differs. */
import type { ComponentChildren } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import type { Comparison, RowDetail, TraceBackend, TraceSummary } from '../src/explorer/api.ts';
import { boundsOf, firstWindow, originsOf } from './alignment.ts';
import type { Theme } from './colours.ts';
import { createMotion, type Motion, shiftedMotion } from './motion.ts';
import { Answered, Nothing, Panel, useAnswer } from './panels.tsx';
import type { Place } from './place.ts';
import { spanText, timeLabel, type Window, wholeWindow } from './scale.ts';
import { Timeline } from './timeline.tsx';

interface CompareProps {
  backend: TraceBackend;
  left: TraceSummary;
  right: TraceSummary | null;
  others: readonly TraceSummary[];
  theme: Theme;
  align: string;
  /** Part of the time that is shown, from the origins on. */
  window: Window | null;
  change(by: Partial<Pick<Place, 'other' | 'align' | 'beside'>>): void;
  onOpen(trace: string, row: number): void;
}

type Side = 'left' | 'right';
const SIDE_NAMES: Readonly<Record<Side, string>> = { left: 'above', right: 'below' };

interface Chosen {
  side: Side;
  row: number;
}

function First({
  comparison,
  onShow,
  onChoose,
}: {
  comparison: Comparison;
  onShow(): void;
  onChoose(chosen: Chosen): void;
}) {
  const { first, differences } = comparison;
  if (first === null) {
    return <p class="verdict">The same: every event has the same identity on both sides, in order within each kind.</p>;
  }
  const where = first.step === null ? '' : `step ${first.step}, `;
  const what = first.what === 'batches' ? `batch ${first.index + 1}` : `${first.kind} ${first.index + 1}`;
  return (
    <div class="verdict">
      <p>
        <strong>
          First difference: {where}
          {what} of its list.
        </strong>{' '}
        {differences} {differences === 1 ? 'list differs' : 'lists differ'}, by step and kind.
      </p>
      <dl class="fields">
        {(['left', 'right'] as const).map((side) => {
          const its = first[side];
          return (
            <div key={side}>
              <dt>{SIDE_NAMES[side]}</dt>
              <dd>
                {its === null ? (
                  'nothing more of this kind'
                ) : (
                  <button type="button" class="link" onClick={() => onChoose({ side, row: its.row })}>
                    {its.text}
                  </button>
                )}
              </dd>
            </div>
          );
        })}
      </dl>
      <button type="button" class="primary" onClick={onShow}>
        show it on both
      </button>
    </div>
  );
}

function Counts({ comparison }: { comparison: Comparison }) {
  return (
    <table class="counts">
      <caption>Events by kind</caption>
      <thead>
        <tr>
          <th scope="col">kind</th>
          <th scope="col">above</th>
          <th scope="col">below</th>
        </tr>
      </thead>
      <tbody>
        {comparison.kinds.map(({ kind, left: a, right: b }) => (
          <tr key={kind} class={a === b ? '' : 'differs'}>
            <th scope="row">{kind}</th>
            <td>{a.toLocaleString('en')}</td>
            <td>
              {b.toLocaleString('en')}
              {a === b ? '' : ' ≠'}
            </td>
          </tr>
        ))}
        <tr>
          <th scope="row">duration</th>
          <td>{spanText(comparison.durationLeft)}</td>
          <td>{spanText(comparison.durationRight)}</td>
        </tr>
      </tbody>
    </table>
  );
}

function Half(props: {
  side: Side;
  trace: TraceSummary;
  origin: number;
  bounds: Window;
  window: Window | null;
  motion: Motion;
  cursor: number | null;
  detail: RowDetail | null;
  backend: TraceBackend;
  theme: Theme;
  onWindow(window: Window): void;
  onCursor(time: number): void;
  onRow(row: number): void;
  onOpen(): void;
}) {
  const { side, trace, origin, bounds, window, motion, cursor, detail, backend, theme } = props;
  const [lane, setLane] = useState<string | null>(null);
  useEffect(() => {
    if (detail !== null && detail.lane !== null) setLane(detail.lane);
  }, [detail]);
  const shifted = useMemo(() => shiftedMotion(motion, origin), [motion, origin]);
  const move = ({ begin, end }: Window, by: number): Window => ({ begin: begin + by, end: end + by });
  return (
    <Panel title={`${SIDE_NAMES[side]}: ${trace.label}`}>
      {trace.lanes.length === 0 ? (
        <Nothing>This trace has no events.</Nothing>
      ) : (
        <div class="scroll">
          <Timeline
            {...{ backend, trace, theme, origin }}
            window={move(window ?? wholeWindow(bounds), origin)}
            bounds={move(bounds, origin)}
            motion={shifted}
            time={cursor === null ? null : cursor + origin}
            row={detail?.row ?? null}
            selected={detail}
            lane={lane}
            label={SIDE_NAMES[side]}
            onWindow={(shown) => props.onWindow(move(shown, -origin))}
            onTime={(time) => props.onCursor(time - origin)}
            onRow={(row) => row !== null && props.onRow(row)}
            onLane={setLane}
            onOpen={props.onOpen}
          />
        </div>
      )}
    </Panel>
  );
}

function alignName(align: string): string {
  if (align === 'begin') return 'their begins';
  return align === 'difference' ? 'the first difference' : align.replace('step', 'step ');
}

/** All that is known of two traces together. */
function useComparison({ backend, left, right, align, window }: CompareProps & { right: TraceSummary }) {
  const [chosen, setChosen] = useState<Chosen | null>(null);
  const idOf = (side: Side): string => (side === 'left' ? left.id : right.id);
  const asked = useAnswer(() => backend.compare(left.id, right.id), [backend, left.id, right.id]);
  const comparison = asked.state === 'failed' ? null : asked.value;
  const first = comparison?.first ?? null;
  const rowOf = (side: Side): Promise<RowDetail | null> => {
    const its = first?.[side] ?? null;
    return its === null ? Promise.resolve(null) : backend.row(idOf(side), its.row);
  };
  const differs = useAnswer(
    first === null ? null : async () => ({ left: await rowOf('left'), right: await rowOf('right') }),
    [backend, first],
  );
  const difference = differs.state === 'failed' ? null : differs.value;
  const detail = useAnswer(chosen === null ? null : () => backend.row(idOf(chosen.side), chosen.row), [
    backend,
    chosen,
  ]);
  const times = difference && { left: difference.left?.begin ?? null, right: difference.right?.begin ?? null };
  const origins = originsOf(align, comparison, times, left, right);
  const bounds = boundsOf(origins, left, right);
  const shown = chosen === null || detail.state === 'failed' ? null : detail.value;
  return {
    ...{ asked, comparison, chosen, setChosen, idOf, origins, bounds, shown },
    window: window ?? firstWindow(align, comparison?.steps ?? [], bounds),
    /** What is marked on a side: what was chosen, else the difference where the two are aligned at it. */
    marked: (side: Side): RowDetail | null => {
      if (chosen !== null) return chosen.side === side ? shown : null;
      return align === 'difference' ? (difference?.[side] ?? null) : null;
    },
  };
}

function Two(props: CompareProps & { right: TraceSummary; chooser: ComponentChildren }) {
  const { backend, left, right, theme, align, change, chooser } = props;
  const its = useComparison(props);
  const { asked, comparison, chosen, origins, bounds, window, shown } = its;
  const [cursor, setCursor] = useState<number | null>(null);
  const motion = useMemo(createMotion, [left.id, right.id]);
  const open = (): void => {
    if (chosen !== null) props.onOpen(its.idOf(chosen.side), chosen.row);
  };
  const choices = [
    'begin',
    ...(comparison === null || comparison.first === null ? [] : ['difference']),
    ...(comparison?.steps ?? []).map(({ step }) => `step${step}`),
  ];
  const alignTo = (next: string): void => {
    its.setChosen(null);
    setCursor(next === 'begin' ? null : 0);
    change({ align: next, beside: null });
  };
  const half = (side: Side, trace: TraceSummary) => (
    <Half
      {...{ side, trace, bounds, window, motion, cursor, backend, theme }}
      origin={origins[side]}
      detail={its.marked(side)}
      onWindow={(next) => change({ beside: next })}
      onCursor={setCursor}
      onRow={(row) => its.setChosen({ side, row })}
      onOpen={open}
    />
  );
  return (
    <div class="compare-view">
      <div class="halves">
        {half('left', left)}
        {half('right', right)}
      </div>
      <Panel title="Difference">
        {chooser}
        <Answered asked={asked}>
          {(found) => (
            <>
              <label>
                aligned at{' '}
                <select value={align} onChange={(event) => alignTo(event.currentTarget.value)}>
                  {choices.map((one) => (
                    <option key={one} value={one}>
                      {alignName(one)}
                    </option>
                  ))}
                </select>
              </label>
              <First comparison={found} onShow={() => alignTo('difference')} onChoose={its.setChosen} />
              {chosen !== null && shown !== null && (
                <div class="verdict">
                  <h3>Selected, {SIDE_NAMES[chosen.side]}</h3>
                  <p>{shown.title}</p>
                  <p class="hint">{timeLabel(shown.begin - origins[chosen.side], 1)} from where the two are aligned</p>
                  <button type="button" onClick={open}>
                    open in its timeline
                  </button>
                </div>
              )}
              <Counts comparison={found} />
            </>
          )}
        </Answered>
      </Panel>
    </div>
  );
}

export function CompareView(props: CompareProps) {
  const { left, right, others, change } = props;
  const chooser = (
    <label>
      below{' '}
      <select
        value={right?.id ?? ''}
        onChange={(event) => change({ other: event.currentTarget.value, align: 'begin', beside: null })}
      >
        <option value="" disabled>
          choose a trace
        </option>
        {others.map(({ id, label }) => (
          <option key={id} value={id}>
            {label}
          </option>
        ))}
      </select>
    </label>
  );
  if (right !== null) return <Two key={`${left.id} ${right.id}`} {...props} right={right} chooser={chooser} />;
  return (
    <Panel title="Compare">
      {others.length > 0 && chooser}
      <Nothing>
        {others.length === 0
          ? 'There is one trace alone. Run a scenario under Live, or give the server two files.'
          : `Choose what stands below ${left.label}.`}
      </Nothing>
    </Panel>
  );
}
