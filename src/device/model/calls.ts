/** What an ioctl of the model is: a routine for typed parameters, found by device and number. */

import { FILE_VA_SPACE } from '../../model/copy_routine/ioctl.ts';
import { IOCTL, type Ioctl } from '../abi/ioctls.ts';
import { type AnyLayout, decode, encodeInto, type ParamsOf } from '../abi/layout.ts';
import { type DriverProcess, type ModelDriver, NotModelledError, type OpenFile, type SpaceState } from './driver.ts';

/** Who calls. */
export interface Call {
  readonly driver: ModelDriver;
  readonly process: DriverProcess;
  readonly file: OpenFile;
}

/** Answers with a status; outputs go into the parameters. A generator may sleep. */
type Routine<P> = (call: Call, params: P) => number | Generator<number, number, void>;

export interface Route {
  readonly call: Ioctl;
  /** The file must stand for a VA space (the init check). */
  readonly initCheck: boolean;
  readonly run: (call: Call, bytes: Uint8Array) => Generator<number, number, void>;
}

/** An ioctl that the model answers. */
export function route<L extends AnyLayout>(call: Ioctl<L>, routine: Routine<ParamsOf<L>>, initCheck = true): Route {
  function* run(who: Call, bytes: Uint8Array): Generator<number, number, void> {
    const params = decode(call.params, bytes);
    const answer = routine(who, params);
    const status = typeof answer === 'number' ? answer : yield* answer;
    encodeInto(call.params, params as never, bytes);
    return status;
  }
  return { call, initCheck, run };
}

/** Routes by number, and for the driver's other ioctls of the device one that says what is missing. */
export function routeTable(routes: readonly Route[], others: readonly Ioctl[]): ReadonlyMap<number, Route> {
  const table = new Map(routes.map((r) => [r.call.number, r]));
  for (const call of others) {
    if (table.has(call.number)) continue;
    const initCheck = call !== IOCTL.INITIALIZE && call !== IOCTL.MM_INITIALIZE;
    table.set(call.number, {
      call,
      initCheck,
      run: () => {
        throw new NotModelledError(`${call.name} (ioctl ${call.number}) is not modelled`);
      },
    });
  }
  return table;
}

/** The VA space of a file that has passed the init check. */
export function spaceOf(call: Call): SpaceState {
  const { space } = call.driver;
  if (space === null || call.file.uvm.type !== FILE_VA_SPACE) throw new Error('the file has no VA space');
  return space;
}
