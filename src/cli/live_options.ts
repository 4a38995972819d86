/** Options of commands that may use this machine's GPU instead of the model. */
import type { Command } from 'commander';
import type { ManagedChoice } from '../device/linux/managed_limit.ts';
import { parseBytes } from '../live/memory/managed_range.ts';
import { UsageError } from './command.ts';

export const DEVICES = ['model', 'linux'] as const;
export type DeviceWord = (typeof DEVICES)[number];

export interface DeviceFlags {
  device?: string;
  managedLimit?: string;
  oversubscribe?: boolean;
}

export const DEVICE_HELP = `
--device linux uses the real driver and GPU of this machine instead of the model; it needs an NVIDIA GPU and the package
koffi (uvmlab doctor). Managed memory is at most 256 MiB in all and a fiftieth of what the GPU has free, unless
--managed-limit says otherwise. More than the GPU has free is refused: it makes the driver evict and can hang the GPU.
--oversubscribe allows it.
`;

export function addDeviceOptions(command: Command): Command {
  return command
    .option('--device <WHERE>', 'model, or linux: the GPU of this machine (default: model)')
    .option('--managed-limit <BYTES>', 'with --device linux: most managed memory, also as 64M or 1G')
    .option('--oversubscribe', 'with --device linux: allow more managed memory than the GPU has free');
}

/** Which device, checked. Throws UsageError. */
export function deviceOf(flags: DeviceFlags): DeviceWord {
  const { device = 'model', managedLimit, oversubscribe } = flags;
  if (!(DEVICES as readonly string[]).includes(device)) {
    throw new UsageError(`--device ${device}: valid: ${DEVICES.join(', ')}`);
  }
  if (device === 'model' && (managedLimit !== undefined || oversubscribe === true)) {
    throw new UsageError(
      `${managedLimit !== undefined ? '--managed-limit' : '--oversubscribe'} goes with --device linux`,
    );
  }
  return device as DeviceWord;
}

/** The user's own limit of managed memory. Throws UsageError. */
export function managedChoice({ managedLimit, oversubscribe = false }: DeviceFlags): ManagedChoice {
  if (managedLimit === undefined) return { oversubscribe };
  const limit = parseBytes(managedLimit);
  if (limit === null || limit < 4096n || limit > 2n ** 47n) {
    throw new UsageError(`--managed-limit ${managedLimit}: expected bytes from 4096, also as 64M or 1G`);
  }
  return { limit: Number(limit), oversubscribe };
}
