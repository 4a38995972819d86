/** What happened in histories, counted by name, and what must happen at least once in a run of many. */
import type { Model } from '../../src/model/state.ts';
import {
  EVENT_CPU_FAULT,
  EVENT_FATAL_FAULT,
  EVENT_GPU_FAULT,
  EVENT_MAP_REMOTE,
  EVENT_MIGRATION,
  EVENT_READ_DUPLICATE,
  EVENT_READ_DUPLICATE_INVALIDATE,
  EVENT_REPLAY,
  EVENT_THRASHING,
  EVENT_THROTTLING_END,
  EVENT_THROTTLING_START,
} from '../../src/model/uvm/tools.ts';
import { RESIDENCY_RULES } from '../../src/model/uvm/va_block_residency.ts';
import type { Why } from '../../src/model/why.ts';
import { ADVICES, GROUP_OPERATIONS } from './history.ts';

export type Coverage = Map<string, number>;

export function count(coverage: Coverage, name: string, by = 1): void {
  coverage.set(name, (coverage.get(name) ?? 0) + by);
}

export function addCoverage(to: Coverage, from: Coverage): void {
  for (const [name, by] of from) count(to, name, by);
}

const EVENTS: Readonly<Record<number, string>> = {
  [EVENT_CPU_FAULT]: 'cpuFault',
  [EVENT_MIGRATION]: 'migration',
  [EVENT_GPU_FAULT]: 'gpuFault',
  [EVENT_REPLAY]: 'replay',
  [EVENT_FATAL_FAULT]: 'fatalFault',
  [EVENT_READ_DUPLICATE]: 'readDuplicate',
  [EVENT_READ_DUPLICATE_INVALIDATE]: 'readDuplicateInvalidate',
  [EVENT_THRASHING]: 'thrashing',
  [EVENT_THROTTLING_START]: 'throttlingStart',
  [EVENT_THROTTLING_END]: 'throttlingEnd',
  [EVENT_MAP_REMOTE]: 'mapRemote',
};
const FAULT_TYPES: Readonly<Record<number, string>> = {
  0: 'InvalidPde',
  2: 'InvalidPte',
  3: 'LimitViolation',
  6: 'RoViolation',
  7: 'WoViolation',
  9: 'UnsupportedKind',
  10: 'RegionViolation',
  15: 'AtomicViolation',
};
const ACCESSES = ['prefetch', 'read', 'write', 'weak atomic', 'atomic'];
const MIGRATION_CAUSES: Readonly<Record<number, string>> = { 1: 'user', 2: 'coherence', 3: 'prefetch' };
const MAP_REMOTE_CAUSES: Readonly<Record<number, string>> = { 2: 'thrashing', 3: 'policy' };
const FATAL_REASONS: Readonly<Record<number, string>> = {
  1: 'invalid address',
  2: 'invalid permissions',
  3: 'invalid fault type',
  4: 'out of memory',
  6: 'invalid operation',
};
const POLICIES = ['block', 'batch', 'batch flush', 'once'];
const HINTS = ['none', 'pin', 'throttle'];
const PREFETCH = ['whole block', 'tree', 'several residencies', 'disabled'];

/** Counts the events of a finished history. */
export function countLog(coverage: Coverage, m: Model): void {
  const log = m.tools.log;
  for (let i = 0; i < log.count; i++) {
    const name = EVENTS[log.kind[i]];
    count(coverage, `event ${name}`);
    if (name === 'gpuFault') {
      count(coverage, `fault type ${FAULT_TYPES[log.a[i]]}`);
      count(coverage, `access ${ACCESSES[log.b[i]]}`);
    } else if (name === 'migration') {
      count(coverage, `migration cause ${MIGRATION_CAUSES[log.a[i]]}`);
    } else if (name === 'mapRemote') {
      count(coverage, `remote map cause ${MAP_REMOTE_CAUSES[log.a[i]] ?? 'none'}`);
    } else if (name === 'fatalFault') {
      count(coverage, `fatal reason ${FATAL_REASONS[log.batch[i]]}`);
    } else if (name === 'replay') {
      count(coverage, `replay policy ${POLICIES[m.params.uvm_perf_fault_replay_policy]}`);
    }
  }
}

/** An observer that counts decisions. */
export function countingObserver(coverage: Coverage): Why {
  return {
    enter: () => {},
    residency: (_block, _page, _processor, _access, rule) => count(coverage, `told: ${RESIDENCY_RULES[rule]}`),
    prefetchLevel: () => {},
    prefetch: (_block, context, rule) => {
      if (rule === 'tree' && context.prefetchResidency < 0) count(coverage, 'prefetch tree, nothing found');
      count(coverage, `prefetch ${rule}`);
    },
    thrashing: (_block, _page, _processor, _step, type) => count(coverage, `hint ${HINTS[type]}`),
    push: () => {},
    copy: () => {},
    map: () => {},
  };
}

/** Names that no run of many histories may leave at zero. */
export const REQUIRED: readonly string[] = [
  ...RESIDENCY_RULES.map((rule) => `rule ${rule}`),
  ...RESIDENCY_RULES.map((rule) => `told: ${rule}`),
  ...Object.values(EVENTS).map((event) => `event ${event}`),
  ...Object.values(FAULT_TYPES)
    .filter((t) => !/Limit|Kind|Region/.test(t))
    .map((type) => `fault type ${type}`),
  ...ACCESSES.map((access) => `access ${access}`),
  ...Object.values(MIGRATION_CAUSES).map((cause) => `migration cause ${cause}`),
  ...Object.values(MAP_REMOTE_CAUSES).map((cause) => `remote map cause ${cause}`),
  ...Object.values(FATAL_REASONS)
    .filter((r) => !/type|operation/.test(r))
    .map((reason) => `fatal reason ${reason}`),
  ...POLICIES.map((policy) => `replay policy ${policy}`),
  ...HINTS.map((hint) => `hint ${hint}`),
  ...PREFETCH.map((rule) => `prefetch ${rule}`),
  ...ADVICES.map((advice) => `advice ${advice}`),
  ...GROUP_OPERATIONS.map((operation) => `range group ${operation}`),
];

/** One line for each name, by name. */
export function coverageText(coverage: Coverage): string {
  const names = [...new Set([...coverage.keys(), ...REQUIRED])].sort();
  return names.map((name) => `${String(coverage.get(name) ?? 0).padStart(9)}  ${name}`).join('\n');
}

/** Required names that did not occur. */
export function missing(coverage: Coverage): string[] {
  return REQUIRED.filter((name) => (coverage.get(name) ?? 0) === 0);
}
