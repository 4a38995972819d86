/** Who wants to see every push from its submission to the moment when its entry is collected. */
import type { Model } from './state.ts';
import type { Push } from './uvm/pushbuffer.ts';

/** Called by the channels; null in Resources while nobody watches, which then costs nothing. */
export interface PushWatch {
  /** A push was handed over to the host, by GPFIFO entry `gpfifo` of its channel: all of its times are known. */
  ended(m: Model, push: Push, gpfifo: number): void;
  /** Its entry was collected at the local time, and its callback has run, if it has one. */
  collected(m: Model, channel: number, value: number, hasCallback: boolean): void;
}
