/**
 * The words for the enumerations in tools events (uvm_types.h, driver 580.105.08): the one table of them. Lists
 * are in the order of the driver's numbers, so a code is an index.
 */

/** Memory access types; 0 is invalid and occurs in no event. */
export const ACCESS_WORDS = ['invalid', 'read', 'write', 'atomic', 'prefetch'] as const;
/** GPU fault types; those from `pdeSize` on are fatal. A fatal fault of the CPU has none and says `invalid`. */
export const FAULT_TYPE_WORDS = [
  'invalid',
  'invalidPde',
  'invalidPte',
  'write',
  'atomic',
  'pdeSize',
  'vaLimit',
  'unboundInstance',
  'privilege',
  'pitchMask',
  'workCreation',
  'unsupportedAperture',
  'compressionFailure',
  'unsupportedKind',
  'regionViolation',
  'poison',
  'ccViolation',
] as const;
export const FATAL_REASON_WORDS = [
  'invalid',
  'invalidAddress',
  'invalidPermissions',
  'invalidFaultType',
  'outOfMemory',
  'internalError',
  'invalidOperation',
] as const;
/** `invalid` is what the driver gives a page that a debugger's write moves. */
export const MIGRATION_CAUSE_WORDS = [
  'invalid',
  'user',
  'coherence',
  'prefetch',
  'eviction',
  'accessCounters',
] as const;
/**
 * The same for a migration from one NUMA node of the CPU to another, where the driver stores a number of its own that
 * no header has: faults, access counters, prefetch, eviction, tools, UVM_MIGRATE, range groups, policy.
 */
export const NODE_MIGRATION_CAUSE_WORDS: readonly (typeof MIGRATION_CAUSE_WORDS)[number][] = [
  'coherence',
  'coherence',
  'accessCounters',
  'prefetch',
  'eviction',
  'invalid',
  'user',
  'coherence',
  'user',
];
export const MAP_REMOTE_CAUSE_WORDS = [
  'invalid',
  'coherence',
  'thrashing',
  'policy',
  'outOfMemory',
  'eviction',
] as const;

/** Who issued an access to the MMU; 0 is invalid. */
export const CLIENT_TYPE_WORDS = ['invalid', 'gpc', 'hub'] as const;

export type AccessWord = (typeof ACCESS_WORDS)[number];
export type FaultTypeWord = (typeof FAULT_TYPE_WORDS)[number];
export type FatalReasonWord = (typeof FATAL_REASON_WORDS)[number];
export type MigrationCauseWord = (typeof MIGRATION_CAUSE_WORDS)[number];
export type MapRemoteCauseWord = (typeof MAP_REMOTE_CAUSE_WORDS)[number];
export type ClientTypeWord = (typeof CLIENT_TYPE_WORDS)[number];
