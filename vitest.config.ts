import { defineConfig } from 'vitest/config';

// Two projects: `quick` is the inner loop (npm run check), `slow` holds the files named *.slow.test.ts (npm test).
const common = { environment: 'node', restoreMocks: true } as const;

export default defineConfig({
  test: {
    // Nothing is timed, so both of two cores may work: by default one would rest.
    maxWorkers: '100%',
    projects: [
      {
        test: {
          ...common,
          name: 'quick',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts', 'web/**/*.test.ts'],
          exclude: ['**/*.slow.test.ts'],
          // Whoever runs them beside other work waits longer; nothing is timed.
          testTimeout: 30_000,
        },
      },
      {
        test: {
          ...common,
          name: 'slow',
          include: ['src/**/*.slow.test.ts', 'test/**/*.slow.test.ts', 'web/**/*.slow.test.ts'],
          testTimeout: 120_000,
        },
      },
    ],
  },
});
