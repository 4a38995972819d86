/** Names of GPUs beside the numbers that events have. */
import type { ProcessorEntry } from '../../device/attach.ts';
import { readGpus } from '../../device/linux/proc.ts';

/** The processors of a VA space with the names that /proc/driver/nvidia has for their uuids. */
export function namedGpus(processors: readonly ProcessorEntry[]): (ProcessorEntry & { name?: string })[] {
  const gpus = readGpus();
  return processors.map((processor) => {
    const name = gpus.find(({ uuid }) => uuid === processor.uuid)?.name;
    return name === undefined || name === '' ? { ...processor } : { ...processor, name };
  });
}
