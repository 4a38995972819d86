import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { UsageError } from './command.ts';
import { addDeviceOptions, DEVICES, deviceOf, managedChoice } from './live_options.ts';

describe('the device', () => {
  it('is the model unless the user says otherwise', () => {
    expect(DEVICES).toEqual(['model', 'linux']);
    expect(deviceOf({})).toBe('model');
    expect(deviceOf({ device: 'model', oversubscribe: false })).toBe('model');
    expect(deviceOf({ device: 'linux', managedLimit: '64M', oversubscribe: true })).toBe('linux');
  });

  it.each(['', 'Linux', 'gpu', 'toString'])('is not %j', (device) => {
    expect(() => deviceOf({ device })).toThrow(new UsageError(`--device ${device}: valid: model, linux`));
  });

  it('that is the model takes no limit', () => {
    const limit = new UsageError('--managed-limit goes with --device linux');
    expect(() => deviceOf({ managedLimit: '64M' })).toThrow(limit);
    expect(() => deviceOf({ device: 'model', managedLimit: '64M', oversubscribe: true })).toThrow(limit);
    expect(() => deviceOf({ oversubscribe: true })).toThrow(new UsageError('--oversubscribe goes with --device linux'));
  });

  it('comes from the options of a command', () => {
    const command = addDeviceOptions(new Command('run'));
    command.parse(['--device', 'linux', '--managed-limit', '1G', '--oversubscribe'], { from: 'user' });
    expect(command.opts()).toEqual({ device: 'linux', managedLimit: '1G', oversubscribe: true });
    expect(addDeviceOptions(new Command('run')).parse([], { from: 'user' }).opts()).toEqual({});
  });
});

describe('the limit of managed memory', () => {
  it('is left open when the user says nothing', () => {
    expect(managedChoice({})).toEqual({ oversubscribe: false });
    expect(managedChoice({ oversubscribe: true })).toEqual({ oversubscribe: true });
  });

  it.each([
    ['4096', 4096],
    ['4K', 4096],
    ['64MiB', 64 * 2 ** 20],
    ['0x1000', 4096],
    ['131072G', 2 ** 47],
  ])('is %j', (managedLimit, limit) => {
    expect(managedChoice({ managedLimit })).toEqual({ limit, oversubscribe: false });
  });

  it.each(['4095', '0', '-1', '131073G', '1.5G', '64MB', 'much', ''])('is not %j', (managedLimit) => {
    expect(() => managedChoice({ managedLimit })).toThrow(
      new UsageError(`--managed-limit ${managedLimit}: expected bytes from 4096, also as 64M or 1G`),
    );
  });
});
