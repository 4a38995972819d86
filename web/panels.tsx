/** Pieces that every view uses: a question and its answer, a panel that survives its own failure, a legend. */
import { Component, type ComponentChildren } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { colourOf, FORM_PLACES, formOf, inkOn, letterOf, type Theme } from './colours.ts';

export type Asked<T> =
  | { state: 'waiting'; value: T | null }
  | { state: 'ready'; value: T }
  | { state: 'failed'; error: string };

/**
 * The answer to a question, asked anew when a dependency changes; the last answer stays until the next one is there.
 * Null asks nothing. With `following` the last dependency is something that moves, as a cursor does: there is one
 * question under way at a time, and answers of places on the way are shown.
 */
export function useAnswer<T>(
  ask: (() => Promise<T>) | null,
  dependencies: readonly unknown[],
  following = false,
): Asked<T> {
  const [asked, setAsked] = useState<Asked<T>>({ state: 'waiting', value: null });
  const line = useRef<{ busy: boolean; next: (() => void) | null }>({ busy: false, next: null });
  const fixed = following ? dependencies.slice(0, -1) : dependencies;
  /** Whoever asked with other fixed dependencies is not answered any more. */
  const era = useMemo(() => ({}), fixed);
  const latest = useRef(era);
  latest.current = era;
  useEffect(() => {
    if (ask === null) return undefined;
    setAsked((before) => ({ state: 'waiting', value: before.state === 'failed' ? null : before.value }));
    const its = line.current;
    const done = (answered: Asked<T>): void => {
      its.busy = false;
      const { next } = its;
      its.next = null;
      if (latest.current === era) setAsked(next === null || answered.state === 'failed' ? answered : waiting(answered));
      next?.();
    };
    const begin = (): void => {
      if (latest.current !== era) return;
      its.busy = following;
      ask().then(
        (value) => done({ state: 'ready', value }),
        (error: unknown) => done({ state: 'failed', error: error instanceof Error ? error.message : String(error) }),
      );
    };
    if (its.busy) its.next = begin;
    else begin();
    return undefined;
  }, dependencies);
  useEffect(
    () => () => {
      latest.current = {};
    },
    [],
  );
  return asked;
}

function waiting<T>(asked: Asked<T>): Asked<T> {
  return asked.state === 'failed' ? asked : { state: 'waiting', value: asked.value };
}

interface PanelProps {
  title: string;
  /** Beside the title. */
  aside?: ComponentChildren;
  class?: string;
  /** May be given the focus by the page, though not by the tab key. */
  focusable?: boolean;
  children: ComponentChildren;
}

/** A part of the page with a heading; when what is in it fails, it says so and the rest of the page lives on. */
export class Panel extends Component<PanelProps, { error: string | null }> {
  override state = { error: null };

  static override getDerivedStateFromError(error: unknown) {
    return { error: error instanceof Error ? error.message : String(error) };
  }

  override render({ title, aside, children, class: name, focusable }: PanelProps, { error }: { error: string | null }) {
    return (
      <section class={`panel ${name ?? ''}`} aria-label={title} tabIndex={focusable ? -1 : undefined}>
        <header class="panel-head">
          <h2>{title}</h2>
          {aside}
        </header>
        {error === null ? children : <Failure error={`this part of the page failed: ${error}`} />}
      </section>
    );
  }
}

export function Failure({ error }: { error: string }) {
  return (
    <p class="failure" role="alert">
      {error}
    </p>
  );
}

export function Nothing({ children }: { children: ComponentChildren }) {
  return <p class="nothing">{children}</p>;
}

/** What shows while an answer is not there, failed, or is there. */
export function Answered<T>({ asked, children }: { asked: Asked<T>; children: (value: T) => ComponentChildren }) {
  if (asked.state === 'failed') return <Failure error={asked.error} />;
  if (asked.value === null) return <Nothing>working…</Nothing>;
  return <>{children(asked.value)}</>;
}

/** One of a few words, as buttons. */
export function Choice<T extends string>({
  label,
  of,
  chosen,
  onChoose,
}: {
  label: string;
  of: readonly T[];
  chosen: T;
  onChoose(word: T): void;
}) {
  return (
    <fieldset class="choice" aria-label={label}>
      {of.map((word) => (
        <button key={word} type="button" aria-pressed={word === chosen} onClick={() => onChoose(word)}>
          {word}
        </button>
      ))}
    </fieldset>
  );
}

export function Legend({
  words,
  theme,
  counts,
  forms = false,
  letters = false,
}: {
  words: readonly string[];
  theme: Theme;
  counts?: readonly number[];
  /** Swatches have the height of the marks that they stand for. */
  forms?: boolean;
  /** Swatches have the letters of the pages that they stand for. */
  letters?: boolean;
}) {
  return (
    <ul class="legend">
      {words.map((word, i) => {
        const colour = colourOf(word, theme);
        const [top, height] = FORM_PLACES[forms ? formOf(word) : 'full'];
        return (
          <li key={word}>
            {letters ? (
              <span
                class={`letter ${word === 'none' ? 'hollow' : ''}`}
                aria-hidden="true"
                style={{ background: colour, color: inkOn(colour) }}
              >
                {letterOf(word)}
              </span>
            ) : (
              <span class="form">
                <span style={{ background: colour, top: `${top * 100}%`, height: `${height * 100}%` }} />
              </span>
            )}
            {word}
            {counts === undefined ? null : <span class="count">{counts[i].toLocaleString('en')}</span>}
          </li>
        );
      })}
    </ul>
  );
}
