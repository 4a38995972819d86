/**
 * Tracking semaphores count in 64 bits, their payloads in 32: a whole recorded history whose pushes pass 2^32 or 2^33 is
 * the same run as one that begins at 1.
 */
import { describe, expect, it } from 'vitest';
import { restoreSnapshot } from '../src/model/index.ts';
import { advanceRun, resumeRun, snapshotRun } from '../src/scenario/runner.ts';
import { advanceToRest, begin, bytes, machineOf, recordedScenarios, whole } from './support/recorded_runs.ts';

const scenarios = await recordedScenarios({
  serial: ['rand-64k-write'],
  cpu: ['pingpong-64-pages'],
  peers1: ['peer-bounce-z1'],
});

const channelsOf = (run: ReturnType<typeof whole>) => run.m.gpus.flatMap((gpu) => gpu.channelManager.channels);

for (const scenario of scenarios) {
  describe(scenario.name, () => {
    const usual = whole(scenario, { contents: true });
    const pushes = channelsOf(usual).map((channel) => channel.trackingSem.queuedValue);

    for (const power of [32, 33]) {
      it(`is the same with values that pass 2^${power}`, () => {
        const firstTrackingValue = 2 ** power - 5;
        const run = whole(scenario, { contents: true, firstTrackingValue });
        expect(run.state.error).toBeNull();
        expect(bytes(run) === bytes(usual)).toBe(true);
        expect(run.state.mismatches).toBe(0);
        const channels = channelsOf(run);
        expect(channels.map((channel) => channel.trackingSem.queuedValue - firstTrackingValue)).toEqual(pushes);
        // Every channel that was used enough has passed the wrap, and its payload has begun again.
        expect(Math.max(...pushes)).toBeGreaterThan(10);
        for (const { gpu, trackingSem } of channels) {
          const payload = run.m.gpus[gpu].channelManager.host.semaphorePages[trackingSem.page][trackingSem.index];
          expect(payload).toBe(trackingSem.queuedValue >>> 0);
        }
      });
    }

    it('is the same when it is stopped just before the wrap, copied and resumed', () => {
      const options = { contents: true, firstTrackingValue: 2 ** 32 - 5 };
      const run = begin(scenario, options);
      const passed = (): boolean => channelsOf(run).some((channel) => channel.trackingSem.queuedValue >= 2 ** 32 - 2);
      while (!passed()) expect(advanceToRest(run, 1)).toBe(false);
      const { spec, params, cost } = machineOf(scenario, false);
      const snapshot = snapshotRun(run);
      const resumed = resumeRun(snapshot, scenario, spec, params, cost, options);
      advanceRun(resumed);
      expect(bytes(resumed) === bytes(usual)).toBe(true);
      // The option is that of the start: what is restored has its values in the snapshot.
      const restored = restoreSnapshot(snapshot.model, spec, params, cost, { contents: true });
      expect(Math.max(...restored.gpus[0].channelManager.channels.map((c) => c.trackingSem.queuedValue))).toBe(
        Math.max(
          ...channelsOf(run)
            .filter((c) => c.gpu === 0)
            .map((c) => c.trackingSem.queuedValue),
        ),
      );
    });
  });
}
