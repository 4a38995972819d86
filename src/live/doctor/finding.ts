/** What the doctor says of one thing. */
import type { Fact } from './system_files.ts';

/** unknown: a fact that decides it could not be read, or nobody has checked what this machine has. */
export type FindingState = 'ok' | 'missing' | 'limited' | 'unknown';

export type Topic =
  | 'platform'
  | 'Node'
  | 'koffi'
  | 'container'
  | 'driver'
  | 'nvidia-uvm'
  | 'device node'
  | 'parameters'
  | 'GPUs'
  | 'libcuda'
  | 'CPU memory'
  | 'pidfd_getfd'
  | 'rights'
  | 'record -- COMMAND'
  | 'record --pid'
  | 'process';

export interface Finding {
  topic: Topic;
  state: FindingState;
  /** What there is, or what is not. */
  what: string;
  /** The rule that blocks it. */
  rule?: string;
  /** What to do about it. */
  todo?: string;
}

/** A finding about something that could not be read; null when it could. */
export function unreadable(topic: Topic, path: string, fact: Fact<unknown>): Finding | null {
  if ('value' in fact) return null;
  return { topic, state: 'unknown', what: `${path} cannot be read (${fact.errno})` };
}

/** Whether a fact says that there is no such file. */
export function absent(fact: Fact<unknown>): boolean {
  return 'errno' in fact && fact.errno === 'ENOENT';
}
