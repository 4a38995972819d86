/**
 * Models the residency decision of uvm_va_block.c (driver 580.105.08): uvm_va_block_select_residency,
 * block_select_processor_residency, can_read_duplicate, map_remote_on_atomic_fault. The fault routine calls
 * vaBlockSelectResidency directly, once for each page it services.
 *
 * Left out: HMM steps, the NUMA node decision, processors without memory.
 */
import { maskTest } from '../../base/page_mask.ts';
import type { Model } from '../state.ts';
import { THRASHING_HINT_PIN, type ThrashingHint } from './perf_thrashing_types.ts';
import { CPU_ID, INVALID_ID } from './processors.ts';
import { pageClosestResident } from './va_block.ts';
import {
  ACCESS_ATOMIC_WEAK,
  ACCESS_READ,
  B_READ_DUPLICATED,
  OPERATION_ACCESS_COUNTERS,
  type ServiceBlockContext,
  type VaBlock,
} from './va_block_types.ts';
import { READ_DUPLICATION_DISABLED, READ_DUPLICATION_ENABLED } from './va_range_types.ts';

/** The rules of the decision, in the order in which they are tried; `explain` and the statistics name them so. */
export const RESIDENCY_RULES = [
  'forced to system memory',
  'read duplication: a copy for the faulting processor',
  'read duplication: collapse to the faulting processor',
  'the faulting processor is the preferred location',
  'thrashing: pinned',
  'first touch at the preferred location',
  'first touch at the faulting processor',
  'accessed-by: stay and map remotely',
  'atomics stay where they are native',
  'the preferred location is reachable',
  'migrate to the faulting processor',
] as const;

const RULE_FORCED = 0;
const RULE_DUPLICATE = 1;
const RULE_COLLAPSE = 2;
const RULE_PREFERRED_IS_PROCESSOR = 3;
const RULE_PINNED = 4;
const RULE_FIRST_TOUCH_PREFERRED = 5;
const RULE_FIRST_TOUCH = 6;
const RULE_ACCESSED_BY = 7;
const RULE_REMOTE_ATOMICS = 8;
const RULE_PREFERRED = 9;
const RULE_PROCESSOR = 10;

/** Rule that decided last, and the closest resident processor it saw: out-fields for the observer. */
let lastRule = 0;
let lastClosest = INVALID_ID;

function canReadDuplicate(block: VaBlock, page: number, hint: ThrashingHint): boolean {
  const policy = block.range.policy.readDuplication;
  if (policy === READ_DUPLICATION_ENABLED) return true;
  return (
    policy !== READ_DUPLICATION_DISABLED &&
    maskTest(block.w, B_READ_DUPLICATED, page) &&
    hint.type !== THRASHING_HINT_PIN
  );
}

/** Highest access type in a non-empty mask of types. */
function highestAccess(accessMask: number): number {
  return 31 - Math.clz32(accessMask);
}

function lowestAccess(accessMask: number): number {
  return 31 - Math.clz32(accessMask & -accessMask);
}

function decide(rule: number, residency: number): number {
  lastRule = rule;
  return residency;
}

function blockSelectProcessorResidency(
  m: Model,
  block: VaBlock,
  context: ServiceBlockContext,
  page: number,
  processor: number,
  accessMask: number,
  hint: ThrashingHint,
  operation: number,
): number {
  const space = block.range.space;
  const policy = block.range.policy;
  const preferred = policy.preferredLocation;
  context.readDuplicate = false;
  lastClosest = INVALID_ID;

  // The knob counts only with the driver's own tests enabled, as in is_uvm_fault_force_sysmem_set.
  if (m.params.uvm_fault_force_sysmem !== 0 && m.params.uvm_enable_builtin_tests !== 0) {
    return decide(RULE_FORCED, CPU_ID);
  }
  if (canReadDuplicate(block, page, hint)) {
    context.readDuplicate = highestAccess(accessMask) <= ACCESS_READ;
    return decide(context.readDuplicate ? RULE_DUPLICATE : RULE_COLLAPSE, processor);
  }
  if (processor === preferred) return decide(RULE_PREFERRED_IS_PROCESSOR, processor);
  if (hint.type === THRASHING_HINT_PIN) return decide(RULE_PINNED, hint.residency);

  const closest = pageClosestResident(block, page, processor);
  lastClosest = closest;
  const masks = space.processors;
  const preferredReachable = preferred !== INVALID_ID && (masks.accessibleFrom[preferred] & (1 << processor)) !== 0;
  if (closest === INVALID_ID) {
    return preferredReachable ? decide(RULE_FIRST_TOUCH_PREFERRED, preferred) : decide(RULE_FIRST_TOUCH, processor);
  }
  if (
    (policy.accessedBy & (1 << processor)) !== 0 &&
    (masks.accessibleFrom[closest] & (1 << processor)) !== 0 &&
    operation !== OPERATION_ACCESS_COUNTERS
  ) {
    return decide(RULE_ACCESSED_BY, closest);
  }
  if (
    m.params.uvm_perf_map_remote_on_native_atomics_fault !== 0 &&
    lowestAccess(accessMask) >= ACCESS_ATOMIC_WEAK &&
    processor !== CPU_ID &&
    closest !== CPU_ID &&
    (masks.hasNativeAtomics[closest] & (1 << processor)) !== 0
  ) {
    return decide(RULE_REMOTE_ATOMICS, closest);
  }
  if (closest !== processor && preferredReachable) return decide(RULE_PREFERRED, preferred);
  return decide(RULE_PROCESSOR, processor);
}

/**
 * Where one page shall live after the fault on it (uvm_va_block_select_residency).
 *
 * `page` is the index in the block, `accessMask` has a bit for each access type merged on the page. Sets
 * `context.readDuplicate`. Rule by rule: driver notes on residency selection, first match wins.
 */
export function vaBlockSelectResidency(
  m: Model,
  block: VaBlock,
  context: ServiceBlockContext,
  page: number,
  processor: number,
  accessMask: number,
  hint: ThrashingHint,
  operation: number,
): number {
  const id = blockSelectProcessorResidency(m, block, context, page, processor, accessMask, hint, operation);
  if (m.res.why !== null) m.res.why.residency(block, page, processor, accessMask, lastRule, lastClosest, id);
  return id;
}
