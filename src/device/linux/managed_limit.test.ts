import { describe, expect, it } from 'vitest';
import { checkManaged, MANAGED_LIMIT_DEFAULT, ManagedLimitError, managedLimit } from './managed_limit.ts';

const MIB = 2 ** 20;

describe('the limit of managed memory', () => {
  it('is a fiftieth of what is free, and 256 MiB at most', () => {
    expect(MANAGED_LIMIT_DEFAULT).toBe(256 * MIB);
    expect(managedLimit(50 * 256 * MIB)).toBe(256 * MIB);
    expect(managedLimit(50 * 256 * MIB - 1)).toBe(256 * MIB - 1);
    expect(managedLimit(140 * 1024 * MIB)).toBe(256 * MIB);
    expect(managedLimit(49)).toBe(0);
    // Leave to oversubscribe without a number of one's own changes nothing.
    expect(managedLimit(5000, { oversubscribe: true })).toBe(100);
  });

  it('is what the user says, up to what is free', () => {
    expect(managedLimit(4096, { limit: 4096 })).toBe(4096);
    expect(() => managedLimit(4096, { limit: 4097 })).toThrow(
      new ManagedLimitError(
        'managed limit 4097: the GPU has 4096 bytes free; more than that evicts pages and can hang the GPU ' +
          '(--oversubscribe allows it)',
      ),
    );
    expect(managedLimit(4096, { limit: 4097, oversubscribe: true })).toBe(4097);
  });

  it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])('is not %s', (limit) => {
    const choice = { limit, oversubscribe: true };
    expect(() => managedLimit(2 ** 40, choice)).toThrow(
      new ManagedLimitError(`managed limit ${limit}: expected a whole number of bytes from 1`),
    );
  });

  it('holds for all allocations together', () => {
    expect(() => checkManaged(60, 40, 100)).not.toThrow();
    expect(() => checkManaged(61, 40, 100)).toThrow(ManagedLimitError);
    expect(() => checkManaged(61, 40, 100)).toThrow('61 bytes of managed memory beside 40 taken ones; at most 100');
  });
});
