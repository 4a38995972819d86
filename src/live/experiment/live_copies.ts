/**
 * The copy routine's steps on a stock driver (rule 56 of docs/copy-routine.md): its immediate form by ioctl 62, page by
 * page, which moves nothing either; armed and asynchronous copies are what a stock driver cannot do.
 */
import { IOCTL } from '../../device/abi/ioctls.ts';
import { statusText } from '../../device/abi/status.ts';
import { ioctlResult } from '../../device/device.ts';
import type {
  CheckBytesStep,
  CopyStatusStep,
  SetCopyFromStep,
  SetNextCopyStep,
  Step,
} from '../../scenario/scenario.ts';
import { NO_BUFFER } from '../../scenario/scenario.ts';
import type { LiveSession } from './live_session.ts';
import { LiveStepError, type Stage } from './scenario_stage.ts';

const PAGE = 4096;

/** A copy that was made, in the words of docs/copy-routine.md as far as a stock driver tells them. */
export interface LiveCopy {
  step: number;
  form: 'immediate';
  /** By ioctl 62: nothing tells where the page was, and no push of it can be named. */
  emulated: true;
  status: string;
  from: { buffer: string; page: number };
  to: { buffer: string; page: number };
  bytes: number;
}

export interface LiveCopies {
  from: { buffer: number; page: number; count: number } | null;
  done: LiveCopy[];
}

export type CopyStep = SetCopyFromStep | SetNextCopyStep | CopyStatusStep | CheckBytesStep;

/** The step as one of the copy routine's, or null. */
export function copyStepOf(step: Step): CopyStep | null {
  switch (step.do) {
    case 'setCopyFrom':
    case 'setNextCopy':
    case 'copyStatus':
    case 'checkBytes':
      return step;
    default:
      return null;
  }
}

/** Bytes of managed memory as they are, read without moving anything, into memory at `buffer`. */
async function read62(session: LiveSession, from: bigint, buffer: bigint, bytes: number) {
  const { errno, status, params } = await ioctlResult(
    session.device,
    session.attachment.uvm,
    IOCTL.TOOLS_READ_PROCESS_MEMORY,
    { buffer, size: bytes, targetVa: from },
  );
  return { errno, status, bytes: Number(params.bytesRead) };
}

const addressOf = (stage: Stage, buffer: number, page: number): bigint =>
  stage.placed[buffer].address + BigInt(page * PAGE);

async function copyNow(session: LiveSession, stage: Stage, copies: LiveCopies, step: SetNextCopyStep, index: number) {
  const { from } = copies;
  const { allocations } = stage.scenario;
  if (step.arm || step.async) {
    const what = step.arm ? 'arm' : 'async';
    throw new LiveStepError(
      `steps[${index}].${what}: a stock driver has no such copy (NV_ERR_NOT_SUPPORTED); the model has it: run ` +
        'without --device linux, or take "uvmlab copy --armed best-effort", which is no snapshot',
    );
  }
  if (from === null) throw new LiveStepError(`steps[${index}]: no setCopyFrom came before it`);
  const target = addressOf(stage, step.buffer, step.page);
  const result = await read62(session, addressOf(stage, from.buffer, from.page), target, from.count * PAGE);
  if (result.errno !== 0) throw new LiveStepError(`steps[${index}]: ioctl 62 failed with errno ${result.errno}`);
  copies.done.push({
    step: index,
    form: 'immediate',
    emulated: true,
    status: statusText(result.status),
    from: { buffer: allocations[from.buffer].name, page: from.page },
    to: { buffer: allocations[step.buffer].name, page: step.page },
    bytes: result.bytes,
  });
}

/** The bytes of a page, wherever it is: managed pages are not touched. */
async function pageBytes(session: LiveSession, stage: Stage, buffer: number, page: number): Promise<Uint8Array> {
  const { managed, words } = stage.placed[buffer];
  if (!managed && words !== null) return new Uint8Array(words.buffer, page * PAGE, PAGE).slice();
  const memory = await session.device.allocate(PAGE);
  try {
    const { errno, status } = await read62(session, addressOf(stage, buffer, page), memory.address, PAGE);
    if (errno !== 0 || status !== 0) throw new LiveStepError(`ioctl 62: errno ${errno}, ${statusText(status)}`);
    return memory.bytes().slice();
  } finally {
    await memory.close();
  }
}

async function checkBytes(session: LiveSession, stage: Stage, step: CheckBytesStep, index: number): Promise<void> {
  const bytes = await pageBytes(session, stage, step.buffer, step.page);
  const name = stage.scenario.allocations[step.buffer].name;
  if (step.sameAs === null) {
    const value = new DataView(bytes.buffer).getUint32(0, true);
    if (value === step.value) return;
    throw new LiveStepError(`steps[${index}]: page ${step.page} of '${name}' begins with ${value}, not ${step.value}`);
  }
  const other = await pageBytes(session, stage, step.sameAs.buffer, step.sameAs.page);
  const at = bytes.findIndex((byte, i) => byte !== other[i]);
  if (at < 0) return;
  const otherName = stage.scenario.allocations[step.sameAs.buffer].name;
  throw new LiveStepError(
    `steps[${index}]: page ${step.page} of '${name}' differs from page ${step.sameAs.page} of '${otherName}' at byte ` +
      `${at}`,
  );
}

/** Carries out a step of the copy routine. Throws LiveStepError. */
export async function performCopyStep(
  session: LiveSession,
  stage: Stage,
  copies: LiveCopies,
  step: CopyStep,
  index: number,
): Promise<void> {
  switch (step.do) {
    case 'setCopyFrom':
      copies.from = step.buffer === NO_BUFFER ? null : { buffer: step.buffer, page: step.page, count: step.count };
      return;
    case 'setNextCopy':
      return copyNow(session, stage, copies, step, index);
    case 'copyStatus':
      throw new LiveStepError(
        `steps[${index}]: copyStatus belongs to armed and asynchronous copies, which a stock driver has not`,
      );
    case 'checkBytes':
      return checkBytes(session, stage, step, index);
  }
}
