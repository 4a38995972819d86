/**
 * A second opinion on residency: the driver's decision written down once more, from its description alone, to be compared
 * with every decision of the model.
 */
import { maskTest } from '../../src/base/page_mask.ts';
import type { Model } from '../../src/model/state.ts';
import { THRASHING_HINT_PIN, type ThrashingHint } from '../../src/model/uvm/perf_thrashing_types.ts';
import {
  B_CPU_RESIDENT,
  B_READ_DUPLICATED,
  G_RESIDENT,
  OPERATION_ACCESS_COUNTERS,
  type VaBlock,
} from '../../src/model/uvm/va_block_types.ts';

const CPU = 0;
const NOBODY = -1;
const READ = 1;
const ATOMIC_WEAK = 3;
const DUPLICATION_ENABLED = 1;
const DUPLICATION_DISABLED = 2;

export interface Opinion {
  residency: number;
  readDuplicate: boolean;
  /** Position in RESIDENCY_RULES. */
  rule: number;
}

function has(mask: number, id: number): boolean {
  return id >= 0 && ((mask >> id) & 1) === 1;
}

/** The closest processor that holds the page: oneself, a GPU over a fast link, the CPU over one, reachable ones, any. */
function closestHolder(m: Model, block: VaBlock, page: number, to: number): number {
  const masks = block.range.space.processors;
  const holders: number[] = [];
  if (maskTest(block.w, B_CPU_RESIDENT, page)) holders.push(CPU);
  for (let id = 1; id <= m.spec.gpus; id++) {
    const state = block.gpus[id - 1];
    if (state !== null && maskTest(state.w, G_RESIDENT, page)) holders.push(id);
  }
  if (holders.includes(to)) return to;
  for (const reach of [masks.hasFastLink[to], masks.canAccess[to], -1]) {
    const near = holders.filter((id) => has(reach, id));
    const gpu = near.find((id) => id !== CPU);
    if (reach === -1) return near.length > 0 ? near[0] : NOBODY;
    if (gpu !== undefined) return gpu;
    if (near.length > 0) return CPU;
  }
  return NOBODY;
}

/** Where the page must live after a fault of `faulter`, and by which rule; the first that matches counts. */
export function residencyOpinion(
  m: Model,
  block: VaBlock,
  page: number,
  faulter: number,
  accesses: number,
  hint: ThrashingHint,
  operation: number,
): Opinion {
  const answer = (rule: number, residency: number, readDuplicate = false): Opinion => ({
    rule,
    residency,
    readDuplicate,
  });
  const { policy, space } = block.range;
  const { accessibleFrom, hasNativeAtomics } = space.processors;
  const types = [0, 1, 2, 3, 4].filter((type) => has(accesses, type));
  const isPin = hint.type === THRASHING_HINT_PIN;
  if (m.params.uvm_fault_force_sysmem !== 0 && m.params.uvm_enable_builtin_tests !== 0) return answer(0, CPU);
  const duplicated = maskTest(block.w, B_READ_DUPLICATED, page);
  const mayDuplicate =
    policy.readDuplication === DUPLICATION_ENABLED ||
    (policy.readDuplication !== DUPLICATION_DISABLED && duplicated && !isPin);
  if (mayDuplicate) {
    return types[types.length - 1] <= READ ? answer(1, faulter, true) : answer(2, faulter);
  }
  const preferred = policy.preferredLocation;
  if (preferred === faulter) return answer(3, faulter);
  if (isPin) return answer(4, hint.residency);
  const reachesPreferred = preferred >= 0 && has(accessibleFrom[preferred], faulter);
  const holder = closestHolder(m, block, page, faulter);
  if (holder === NOBODY) return reachesPreferred ? answer(5, preferred) : answer(6, faulter);
  const reachesHolder = has(accessibleFrom[holder], faulter);
  if (has(policy.accessedBy, faulter) && reachesHolder && operation !== OPERATION_ACCESS_COUNTERS) {
    return answer(7, holder);
  }
  const onlyAtomics = types[0] >= ATOMIC_WEAK;
  const native = faulter !== CPU && holder !== CPU && has(hasNativeAtomics[holder], faulter);
  if (m.params.uvm_perf_map_remote_on_native_atomics_fault !== 0 && onlyAtomics && native) return answer(8, holder);
  if (holder !== faulter && reachesPreferred) return answer(9, preferred);
  return answer(10, faulter);
}
