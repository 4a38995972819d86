/**
 * The copy routine's ioctls over the model, under the driver's numbers and layouts. The routine itself
 * (src/model/copy_routine/ioctl.ts) takes the layouts of docs/copy-routine.md: parameters are carried over by name.
 */
import { uvmCopyIoctl } from '../../model/copy_routine/ioctl.ts';
import { copyIoctls, type Ioctl } from '../abi/ioctls.ts';
import { decode, encode, encodeInto } from '../abi/layout.ts';
import type { Call, Route } from './calls.ts';
import type { ModelDriver } from './driver.ts';
import { needContents } from './user_memory.ts';

const STANDARD = copyIoctls();

/** One of the three, as the driver's layout says it; `standard` is what the routine takes. */
function copyRoute(call: Ioctl, standard: Ioctl): Route {
  function* run({ driver, process, file }: Call, bytes: Uint8Array): Generator<number, number, void> {
    if (standard === STANDARD.SET_NEXT_COPY_ADDRESS) needContents(driver.m, call.name);
    const params = encode(standard.params, decode(call.params, bytes) as never);
    const errno = yield* uvmCopyIoctl(driver.m, file.uvm, process.mm, standard.number, params);
    if (errno !== 0) throw new Error(`the copy routine did not take ${call.name}: ${errno}`);
    const answer = decode(standard.params, params) as unknown as { rmStatus: number };
    encodeInto(call.params, answer as never, bytes);
    return answer.rmStatus;
  }
  return { call, initCheck: true, run };
}

/** The route of a number of the driver's copy routine, if it is one. */
export function copyRouteOf(driver: ModelDriver, number: number): Route | null {
  const calls = driver.copyIoctls;
  if (calls === null) return null;
  for (const name of ['SET_COPY_FROM_ADDRESS', 'SET_NEXT_COPY_ADDRESS', 'COPY_STATUS'] as const) {
    if (calls[name].number === number) return copyRoute(calls[name], STANDARD[name]);
  }
  return null;
}
