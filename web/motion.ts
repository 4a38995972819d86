/**
 * Where a timeline is while it moves: ahead of the address, which follows when the movement rests. Timelines that
 * stand beside each other share one, so that both move at once.
 */
import type { Window } from './scale.ts';

export interface Motion {
  /** The window that the pointer or a key has moved to; null at rest. */
  get(): Window | null;
  move(window: Window): void;
  /** What was moved to goes to the page now; until then nothing puts the motion to rest. */
  settle(): void;
  /** The page shows what was moved to, or something else; it may say so late, when there is a newer movement. */
  rest(): void;
  /** Calls back at each move; returns what ends that. */
  watch(moved: () => void): () => void;
}

export function createMotion(): Motion {
  let now: Window | null = null;
  let moving = false;
  const watchers = new Set<() => void>();
  return {
    get: () => now,
    move: (window) => {
      now = window;
      moving = true;
      for (const moved of watchers) moved();
    },
    settle: () => {
      moving = false;
    },
    rest: () => {
      if (!moving) now = null;
    },
    watch: (moved) => {
      watchers.add(moved);
      return () => watchers.delete(moved);
    },
  };
}

/** The same motion for a timeline whose times are later by `offset`. */
export function shiftedMotion(motion: Motion, offset: number): Motion {
  return {
    ...motion,
    get: () => {
      const window = motion.get();
      return window === null ? null : { begin: window.begin + offset, end: window.end + offset };
    },
    move: ({ begin, end }) => motion.move({ begin: begin - offset, end: end - offset }),
  };
}
