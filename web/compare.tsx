/** Two traces on one scale of time, with their counts and the first event that differs. */
import { useState } from 'preact/hooks';
import type { Comparison, TraceBackend, TraceSummary } from '../src/explorer/api.ts';
import type { Theme } from './colours.ts';
import { Answered, Nothing, Panel, useAnswer } from './panels.tsx';
import { spanText, type Window } from './scale.ts';
import { Timeline } from './timeline.tsx';

interface CompareProps {
  backend: TraceBackend;
  left: TraceSummary;
  right: TraceSummary | null;
  others: readonly TraceSummary[];
  theme: Theme;
  onOther(id: string): void;
  onOpen(trace: string, row: number): void;
}

/** The part of a trace that stands under a window of the time since its begin. */
function absolute(trace: TraceSummary, window: Window): Window {
  return { begin: trace.begin + window.begin, end: trace.begin + window.end };
}

function relative(trace: TraceSummary, window: Window): Window {
  return { begin: window.begin - trace.begin, end: window.end - trace.begin };
}

function First({ comparison, props }: { comparison: Comparison; props: CompareProps }) {
  const { first, differences } = comparison;
  if (first === null) {
    return (
      <p class="verdict same">The same: every event has the same identity on both sides, in order within each kind.</p>
    );
  }
  const where = first.step === null ? '' : `step ${first.step}, `;
  const side = (name: string, trace: TraceSummary, its: typeof first.left) => (
    <li>
      <strong>{name}</strong>{' '}
      {its === null ? (
        'nothing more of this kind'
      ) : (
        <button type="button" class="link" onClick={() => props.onOpen(trace.id, its.row)}>
          {its.text}
        </button>
      )}
    </li>
  );
  return (
    <div class="verdict">
      <p>
        The first difference: {where}
        {first.kind} number {first.index + 1} of its list. {differences}{' '}
        {differences === 1 ? 'list differs' : 'lists differ'}, by step and kind.
      </p>
      <ul>
        {side(props.left.label, props.left, first.left)}
        {props.right !== null && side(props.right.label, props.right, first.right)}
      </ul>
    </div>
  );
}

function Counts({ comparison, left, right }: { comparison: Comparison; left: string; right: string }) {
  return (
    <table class="counts">
      <caption>Events by kind</caption>
      <thead>
        <tr>
          <th scope="col">kind</th>
          <th scope="col">{left}</th>
          <th scope="col">{right}</th>
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

function Side(
  props: { trace: TraceSummary; name: string; window: Window } & Pick<CompareProps, 'backend' | 'theme'> & {
      onWindow(window: Window): void;
      onRow(row: number): void;
    },
) {
  const { trace, name, window, backend, theme, onWindow, onRow } = props;
  const [lane, setLane] = useState<string | null>(null);
  return (
    <Panel title={`${name}: ${trace.label}`} class="half">
      <div class="scroll">
        <Timeline
          backend={backend}
          trace={trace}
          theme={theme}
          window={absolute(trace, window)}
          time={null}
          row={null}
          selected={null}
          lane={lane}
          label={name}
          onWindow={(shown) => onWindow(relative(trace, shown))}
          onTime={() => {}}
          onRow={(row) => row !== null && onRow(row)}
          onLane={setLane}
        />
      </div>
    </Panel>
  );
}

export function CompareView(props: CompareProps) {
  const { backend, left, right, others, theme } = props;
  const longest = Math.max(left.end - left.begin, right === null ? 0 : right.end - right.begin, 1);
  const [shown, setShown] = useState<Window | null>(null);
  const window = shown ?? { begin: -longest * 0.02, end: longest * 1.02 };
  const asked = useAnswer(right === null ? null : () => backend.compare(left.id, right.id), [
    backend,
    left.id,
    right?.id,
  ]);
  const chooser = (
    <label>
      beside it{' '}
      <select value={right?.id ?? ''} onChange={(event) => props.onOther(event.currentTarget.value)}>
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
  return (
    <div class="compare-view">
      <Panel title="Difference" aside={chooser}>
        {right === null ? (
          <Nothing>
            {others.length === 0
              ? 'There is one trace alone. Run a scenario live, or give the server two files.'
              : `Choose what stands beside ${left.label}.`}
          </Nothing>
        ) : (
          <Answered asked={asked}>
            {(comparison) => (
              <div class="difference">
                <First comparison={comparison} props={props} />
                <Counts comparison={comparison} left={left.label} right={right.label} />
              </div>
            )}
          </Answered>
        )}
      </Panel>
      {right !== null && (
        <>
          <Side
            {...{ backend, theme, window }}
            trace={left}
            name="left"
            onWindow={setShown}
            onRow={(row) => props.onOpen(left.id, row)}
          />
          <Side
            {...{ backend, theme, window }}
            trace={right}
            name="right"
            onWindow={setShown}
            onRow={(row) => props.onOpen(right.id, row)}
          />
        </>
      )}
    </div>
  );
}
