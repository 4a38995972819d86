/** One fault, walked through the routine step by step. */
import { useEffect, useRef } from 'preact/hooks';
import type { TraceBackend, TraceSummary, Walk } from '../src/explorer/api.ts';
import type { Theme } from './colours.ts';
import { PageMap } from './page_map.tsx';
import { Answered, Failure, Legend, Nothing, Panel, useAnswer } from './panels.tsx';
import { spanText } from './scale.ts';
import { dedented, stackOf } from './stack.ts';

interface WalkProps {
  backend: TraceBackend;
  trace: TraceSummary;
  theme: Theme;
  fault: number | null;
  step: number;
  onFault(fault: number): void;
  onStep(step: number): void;
  onShow(walk: Walk): void;
}

function since(time: number, begin: number): string {
  return `+${((time - begin) / 1000).toFixed(3)}`;
}

/** The functions that a step stands in, the outermost first, each a step to go to. */
function Stack({ walk, step, onStep }: { walk: Walk; step: number; onStep(step: number): void }) {
  return (
    <ol class="stack" aria-label="call stack">
      {stackOf(walk, step).map(({ at, name }) => (
        <li key={at}>
          <button type="button" class="link" onClick={() => onStep(at)}>
            {name}
          </button>
        </li>
      ))}
      <li class="here">{walk.steps[step].title}</li>
    </ol>
  );
}

function Steps({ walk, step, onStep }: { walk: Walk; step: number; onStep(step: number): void }) {
  const current = useRef<HTMLLIElement>(null);
  useEffect(() => {
    current.current?.scrollIntoView({ block: 'nearest' });
  }, [walk, step]);
  return (
    <ol class="steps">
      {walk.steps.map((one, i) => (
        <li key={i} ref={i === step ? current : undefined} aria-current={i === step ? 'step' : undefined}>
          <button
            type="button"
            class={i > step ? 'later' : ''}
            onClick={() => onStep(i)}
            tabIndex={i === step ? 0 : -1}
          >
            <span class="when">{since(one.time, walk.begin)}</span>
            <span class={`what ${one.kind}`} style={{ paddingLeft: `${one.depth * 12}px` }}>
              {one.title}
            </span>
          </button>
        </li>
      ))}
    </ol>
  );
}

function Pages({
  backend,
  trace,
  theme,
  walk,
  time,
}: Omit<WalkProps, 'fault' | 'step'> & { walk: Walk; time: number }) {
  const { place } = walk;
  const asked = useAnswer(
    place === null ? null : () => backend.block(trace.id, place.allocation, place.block, time),
    [backend, trace.id, walk, time],
    true,
  );
  if (place === null) return <Nothing>The fault lies in no allocation.</Nothing>;
  return (
    <Answered asked={asked}>
      {(detail) => (
        <>
          <PageMap detail={detail} theme={theme} page={place.page} processors={trace.processors} cell={13} />
          <Legend words={detail.residents} theme={theme} letters />
        </>
      )}
    </Answered>
  );
}

export function WalkView(props: WalkProps) {
  const { backend, trace, fault } = props;
  const no = trace.noWalk;
  const number = Math.min(Math.max(fault ?? 1, 1), Math.max(1, trace.faults));
  const asked = useAnswer(no === null && trace.faults > 0 ? () => backend.walk(trace.id, number) : null, [
    backend,
    trace.id,
    number,
  ]);
  const keys = useRef<(event: KeyboardEvent) => void>(() => {});
  useEffect(() => {
    const listener = (event: KeyboardEvent): void => keys.current(event);
    addEventListener('keydown', listener);
    return () => removeEventListener('keydown', listener);
  }, []);
  if (no !== null || trace.faults === 0) {
    return (
      <Panel title="Fault">
        <Nothing>
          {trace.faults === 0 ? 'This trace has no faults.' : `No fault of this trace can be walked through: ${no}.`}
        </Nothing>
      </Panel>
    );
  }
  const its = asked.state === 'failed' ? null : asked.value;
  const count = its === null ? 0 : its.steps.length;
  const step = Math.min(props.step, Math.max(0, count - 1));
  const go = (to: number): void => {
    if (count > 0) props.onStep(Math.min(count - 1, Math.max(0, to)));
  };
  const key = (event: KeyboardEvent): void => {
    const { target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target instanceof HTMLInputElement || target instanceof HTMLSelectElement) return;
    const to = {
      ArrowDown: step + 1,
      ArrowRight: step + 1,
      ArrowUp: step - 1,
      ArrowLeft: step - 1,
      Home: 0,
      End: count,
    };
    const wanted = to[event.key as keyof typeof to];
    if (wanted === undefined || target instanceof HTMLCanvasElement) return;
    event.preventDefault();
    go(wanted);
  };
  keys.current = key;
  const chooser = (
    <span class="chooser">
      <button type="button" onClick={() => props.onFault(Math.max(1, number - 1))} aria-label="the fault before">
        ‹
      </button>
      <label>
        fault{' '}
        <input
          type="number"
          min={1}
          max={trace.faults}
          value={number}
          onChange={(event) => props.onFault(Number(event.currentTarget.value))}
        />{' '}
        of {trace.faults.toLocaleString('en')}
      </label>
      <button
        type="button"
        onClick={() => props.onFault(Math.min(trace.faults, number + 1))}
        aria-label="the next fault"
      >
        ›
      </button>
    </span>
  );
  return (
    <div class="walk-view">
      <Panel title="Steps" aside={chooser} class="grow">
        <p class="hint">Microseconds since the fault.</p>
        <Answered asked={asked}>{(walk) => <Steps walk={walk} step={step} onStep={props.onStep} />}</Answered>
      </Panel>
      <div class="walk-side">
        <Panel title="This step">
          {asked.state === 'failed' ? (
            <Failure error={asked.error} />
          ) : (
            <Answered asked={asked}>
              {(walk) => {
                const one = walk.steps[step];
                return (
                  <>
                    <p class="walk-title">{walk.title}</p>
                    <p class="hint">
                      {walk.outcome}
                      {walk.end === null ? '' : `, over after ${spanText(walk.end - walk.begin)}`}
                      {walk.clock === 'model' &&
                        '; steps and their times are those of the model, which replays the recording'}
                    </p>
                    <div class="step-buttons">
                      <button type="button" onClick={() => go(0)}>
                        first
                      </button>
                      <button type="button" onClick={() => go(step - 1)} disabled={step === 0}>
                        back
                      </button>
                      <button type="button" onClick={() => go(step + 1)} disabled={step >= count - 1}>
                        forward
                      </button>
                      <span class="hint" role="status">
                        step {step + 1} of {count}
                      </span>
                      <span class="spring" />
                      <button type="button" onClick={() => props.onShow(walk)}>
                        on the timeline
                      </button>
                    </div>
                    {one === undefined ? null : (
                      <div class="step-text">
                        <Stack walk={walk} step={step} onStep={props.onStep} />
                        {one.file !== null && <p class="hint">{one.file}</p>}
                        {one.lines.length > 0 && (
                          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keys
                          <pre tabIndex={0}>{dedented(one.lines)}</pre>
                        )}
                      </div>
                    )}
                    {walk.notes.map((note) => (
                      <p key={note} class="hint">
                        {note}
                      </p>
                    ))}
                  </>
                );
              }}
            </Answered>
          )}
        </Panel>
        <Panel title={its?.clock === 'model' ? 'Pages of the block at the fault' : 'Pages of the block at this step'}>
          <Answered asked={asked}>
            {(walk) => (
              <Pages
                {...props}
                walk={walk}
                time={walk.clock === 'model' ? walk.at : (walk.steps[step]?.time ?? walk.at)}
              />
            )}
          </Answered>
        </Panel>
      </div>
    </div>
  );
}
