/** A step of a scenario in a few words. */

import { INVALID_ID } from '../model/uvm/processors.ts';
import { processorWord } from '../scenario/machine.ts';
import { type AccessStep, accessCount, HOST_SIDE, NO_BUFFER, type Scenario, type Step } from '../scenario/scenario.ts';
import { bytes, count, counted } from './text.ts';

const VERB = { read: 'reads', write: 'writes', atomic: 'adds atomically to' } as const;

function access(step: AccessStep, buffer: string): string {
  const who = `${processorWord(step.on)} ${VERB[step.do]} ${buffer}`;
  const pages = counted(accessCount(step), 'page');
  if (step.pages !== null) {
    const { pages: list } = step;
    if (list.length === 1) return `${who}: page ${list[0]}`;
    return `${who}: ${pages}, ${list[0]} to ${list[list.length - 1]} by list`;
  }
  const from = step.offset === 0 ? '' : ` from ${bytes(step.offset)}`;
  if (step.stride === 4096) return `${who}: ${pages}${from}`;
  return `${who}: ${count(accessCount(step))} of ${bytes(step.length)}${from}, one each ${bytes(step.stride)}`;
}

function part(step: { offset: number; length: number }): string {
  return step.offset === 0 ? bytes(step.length) : `${bytes(step.length)} from ${bytes(step.offset)}`;
}

/** A few words for a step, without its number. */
export function describeStep(step: Step, scenario: Scenario): string {
  const name = (index: number): string => {
    if (index === HOST_SIDE) return 'host';
    return scenario.allocations[index].name;
  };
  switch (step.do) {
    case 'read':
    case 'write':
    case 'atomic':
      return access(step, name(step.buffer));
    case 'prefetch':
      return `prefetch ${name(step.buffer)} to ${processorWord(step.to)}: ${part(step)}`;
    case 'advise': {
      const who = step.processor === INVALID_ID ? '' : ` ${processorWord(step.processor)}`;
      return `${step.advice}${who} on ${name(step.buffer)}: ${part(step)}`;
    }
    case 'kernel':
      return `${step.kernel} on ${processorWord(step.on)}, ${name(step.buffer)}: ${bytes(step.length)}`;
    case 'memset':
      return `memset on ${processorWord(step.on)}, ${name(step.buffer)}: ${part(step)}`;
    case 'memcpy':
      return `memcpy ${name(step.from)} to ${name(step.to)}: ${part(step)}`;
    case 'setCopyFrom':
      return step.buffer === NO_BUFFER ? 'setCopyFrom nothing' : `setCopyFrom ${name(step.buffer)}, page ${step.page}`;
    case 'setNextCopy':
      return `setNextCopy ${name(step.buffer)}, page ${step.page}${step.arm ? ', armed' : ''}`;
    case 'copyStatus':
      return `copyStatus${step.wait ? ', waiting' : ''}${step.disarm ? ', disarming' : ''}`;
    case 'checkBytes':
      return `check the bytes of ${name(step.buffer)}, page ${step.page}`;
    case 'contend':
      return `${processorWord(step.gpu)} and cpu write page ${step.page} of ${name(step.buffer)} at once`;
    case 'free':
      return `free ${name(step.buffer)}`;
  }
}
