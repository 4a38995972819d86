/**
 * How much managed memory this project's own programs take from a real GPU. Managed memory beyond what a GPU has makes
 * it evict, and can hang the GPU for everybody: so by default little is taken, and oversubscription is refused.
 */
export const MANAGED_LIMIT_DEFAULT = 256 * 2 ** 20;
/** At most this part of what the GPU has free. */
const SHARE_OF_FREE = 50;

/** The user's own choice. */
export interface ManagedChoice {
  /** Bytes; within what the GPU has free, unless `oversubscribe`. */
  limit?: number;
  oversubscribe?: boolean;
}

/** More managed memory than allowed. */
export class ManagedLimitError extends Error {
  override name = 'ManagedLimitError';
}

/** Bytes that may be managed at any time on a GPU with `free` bytes left. Throws ManagedLimitError for a bad choice. */
export function managedLimit(free: number, choice: ManagedChoice = {}): number {
  const { limit, oversubscribe = false } = choice;
  if (limit === undefined) return Math.min(MANAGED_LIMIT_DEFAULT, Math.floor(free / SHARE_OF_FREE));
  if (!Number.isSafeInteger(limit) || limit <= 0) {
    throw new ManagedLimitError(`managed limit ${limit}: expected a whole number of bytes from 1`);
  }
  if (limit > free && !oversubscribe) {
    throw new ManagedLimitError(
      `managed limit ${limit}: the GPU has ${free} bytes free; more than that evicts pages and can hang the GPU ` +
        '(--oversubscribe allows it)',
    );
  }
  return limit;
}

/** Throws ManagedLimitError when `wanted` more bytes beside `taken` ones pass the limit. */
export function checkManaged(wanted: number, taken: number, limit: number): void {
  if (taken + wanted <= limit) return;
  throw new ManagedLimitError(
    `${wanted} bytes of managed memory beside ${taken} taken ones; at most ${limit} in all on this GPU ` +
      '(256 MiB and a fiftieth of its free memory unless --managed-limit says otherwise)',
  );
}
