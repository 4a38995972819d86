/** A broken promise inside uvmlab itself: never thrown for bad input. */
export class AssertionError extends Error {
  override name = 'AssertionError';
}

/**
 * Stops when a condition that must hold does not. The message is a constant: building a string on a hot path costs
 * more than the check.
 */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Marks a switch branch that the types rule out. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable value ${String(value)}`);
}
