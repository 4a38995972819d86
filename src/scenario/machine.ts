/**
 * The names that a scenario uses for its machine and the machine's processors. Which machines exist is the caller's
 * knowledge (the profiles): it comes in as an argument, so this room reads no files.
 */
import { CPU_ID, INVALID_ID } from '../model/uvm/processors.ts';

/** What a scenario needs to know of a machine profile: how many GPUs it has. Keyed by the profile's name. */
export type KnownMachines = Readonly<Record<string, { readonly gpus: number }>>;

/** Number of GPUs of the named machine, or -1 when no profile has that name. */
export function machineGpus(name: string, machines: KnownMachines): number {
  return Object.hasOwn(machines, name) ? machines[name].gpus : -1;
}

/** The word of a processor id: 0 is `cpu`, 1 is `gpu0`. */
export function processorWord(id: number): string {
  return id === CPU_ID ? 'cpu' : `gpu${id - 1}`;
}

/** All processor words of a machine with that many GPUs, ascending. */
export function processorWords(gpus: number): string[] {
  return Array.from({ length: gpus + 1 }, (_, id) => processorWord(id));
}

/** The id of a processor word, or INVALID_ID when a machine with that many GPUs has no such processor. */
export function processorId(word: string, gpus: number): number {
  if (word === 'cpu') return CPU_ID;
  const match = /^gpu(0|[1-9]\d{0,3})$/.exec(word);
  if (match === null) return INVALID_ID;
  const id = Number(match[1]) + 1;
  return id <= gpus ? id : INVALID_ID;
}
