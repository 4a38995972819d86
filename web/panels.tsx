/** Pieces that every view uses: a question and its answer, a panel that survives its own failure, a legend. */
import { Component, type ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { colourOf, type Theme } from './colours.ts';

export type Asked<T> =
  | { state: 'waiting'; value: T | null }
  | { state: 'ready'; value: T }
  | { state: 'failed'; error: string };

/**
 * The answer to a question, asked anew when a dependency changes; the last answer stays until the next one is there.
 * Null asks nothing.
 */
export function useAnswer<T>(ask: (() => Promise<T>) | null, dependencies: readonly unknown[]): Asked<T> {
  const [asked, setAsked] = useState<Asked<T>>({ state: 'waiting', value: null });
  useEffect(() => {
    if (ask === null) return undefined;
    let wanted = true;
    setAsked((before) => ({ state: 'waiting', value: before.state === 'failed' ? null : before.value }));
    ask().then(
      (value) => wanted && setAsked({ state: 'ready', value }),
      (error: unknown) =>
        wanted && setAsked({ state: 'failed', error: error instanceof Error ? error.message : String(error) }),
    );
    return () => {
      wanted = false;
    };
  }, dependencies);
  return asked;
}

interface PanelProps {
  title: string;
  /** Beside the title. */
  aside?: ComponentChildren;
  class?: string;
  children: ComponentChildren;
}

/** A part of the page with a heading; when what is in it fails, it says so and the rest of the page lives on. */
export class Panel extends Component<PanelProps, { error: string | null }> {
  override state = { error: null };

  static override getDerivedStateFromError(error: unknown) {
    return { error: error instanceof Error ? error.message : String(error) };
  }

  override render({ title, aside, children, class: name }: PanelProps, { error }: { error: string | null }) {
    return (
      <section class={`panel ${name ?? ''}`} aria-label={title}>
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

export function Legend({
  words,
  theme,
  counts,
}: {
  words: readonly string[];
  theme: Theme;
  counts?: readonly number[];
}) {
  return (
    <ul class="legend">
      {words.map((word, i) => (
        <li key={word}>
          <span class="swatch" style={{ background: colourOf(word, theme) }} />
          {word}
          {counts === undefined ? null : <span class="count">{counts[i].toLocaleString('en')}</span>}
        </li>
      ))}
    </ul>
  );
}
