/**
 * The ioctls of /dev/nvidia-uvm over the model for managed memory: advice, migration, range groups. Statuses and the
 * order of checks are those of uvm_policy.c, uvm_migrate.c and uvm_range_group.c (driver 580.105.08).
 *
 * Left out: UVM_MIGRATE_RANGE_GROUP, UVM_DISCARD, asynchronous UVM_MIGRATE, NUMA nodes but the one of the machine, and
 * addresses that a GPU cannot reach.
 */
import { PAGE_SIZE } from '../../base/units.ts';
import { uvmMigrate } from '../../model/uvm/migrate.ts';
import { policySetAccessedBy, policySetPreferredLocation, policySetReadDuplication } from '../../model/uvm/policy.ts';
import { CPU_ID, INVALID_ID } from '../../model/uvm/processors.ts';
import { RANGE_GROUPS_PER_CALL_MAX, rangeGroupCreate, rangeGroupDestroy } from '../../model/uvm/range_group.ts';
import { rangeGroupSetAndMigrate, rangeGroupsAllowMigration } from '../../model/uvm/range_group_migrate.ts';
import {
  NV_ERR_INVALID_ADDRESS,
  NV_ERR_INVALID_ARGUMENT,
  NV_ERR_INVALID_DEVICE,
  NV_OK,
} from '../../model/uvm/status.ts';
import { toolsFlush } from '../../model/uvm/tools.ts';
import type { VaSpace } from '../../model/uvm/va_range_types.ts';
import { vaRangeFind } from '../../model/uvm/va_space.ts';
import { IOCTL, UVM_MIGRATE_FLAG_ASYNC } from '../abi/ioctls.ts';
import { pageOfAddress } from '../abi/layout.ts';
import { type Call, type Route, route, spaceOf } from './calls.ts';
import { NotModelledError, processorOfUuid } from './driver.ts';

const ADDRESS_SPACE = 1n << 64n;
const PAGE = BigInt(PAGE_SIZE);
/** Flags of UVM_MIGRATE that only tests may use. */
const MIGRATE_TEST_FLAGS = 2 | 4;
/** "None" and the machine's one node. */
const CPU_NODES = [-1, 0];

/** uvm_api_range_invalid: pages, not empty, not from address 0 on, not around the end of the address space. */
export function rangeInvalid(base: bigint, length: bigint): boolean {
  return base % PAGE !== 0n || length % PAGE !== 0n || base === 0n || length === 0n || base + length >= ADDRESS_SPACE;
}

/** The pages of a valid range that managed ranges cover without a gap, or null (uvm_api_range_type_check). */
function managedPages(space: VaSpace, base: bigint, length: bigint): { start: number; outer: number } | null {
  if (rangeInvalid(base, length)) return null;
  const start = pageOfAddress(base);
  const outer = pageOfAddress(base + length);
  for (let page = start; page < outer; ) {
    const range = vaRangeFind(space, page);
    if (range === null) return null;
    page = range.outerPage;
  }
  return { start, outer };
}

/** A processor that an advice names, or a status. */
function adviceProcessor(call: Call, uuid: Uint8Array): number {
  return processorOfUuid(call.driver, uuid, spaceOf(call).registeredGpus);
}

function setPreferredLocation(call: Call, base: bigint, length: bigint, uuid: Uint8Array, node: number): number {
  const { space } = spaceOf(call);
  const pages = managedPages(space, base, length);
  if (pages === null) return NV_ERR_INVALID_ADDRESS;
  const processor = adviceProcessor(call, uuid);
  if (processor === CPU_ID && !CPU_NODES.includes(node)) return NV_ERR_INVALID_ARGUMENT;
  if (processor === INVALID_ID) return NV_ERR_INVALID_DEVICE;
  return policySetPreferredLocation(call.driver.m, space, pages.start, pages.outer, processor);
}

function setAccessedBy(call: Call, base: bigint, length: bigint, uuid: Uint8Array, set: boolean): number {
  const { space } = spaceOf(call);
  const pages = managedPages(space, base, length);
  if (pages === null) return NV_ERR_INVALID_ADDRESS;
  const processor = adviceProcessor(call, uuid);
  if (processor === INVALID_ID) return NV_ERR_INVALID_DEVICE;
  return policySetAccessedBy(call.driver.m, space, pages.start, pages.outer, processor, set);
}

function setReadDuplication(call: Call, base: bigint, length: bigint, enable: boolean): number {
  const { space } = spaceOf(call);
  const pages = managedPages(space, base, length);
  if (pages === null) return NV_ERR_INVALID_ADDRESS;
  return policySetReadDuplication(call.driver.m, space, pages.start, pages.outer, enable);
}

/** What UVM_MIGRATE is asked for; names of the parameters. */
interface Migrate {
  base: bigint;
  length: bigint;
  destinationUuid: Uint8Array;
  flags: number;
  semaphoreAddress: bigint;
  cpuNumaNode: number;
}

/** uvm_api_migrate */
function migrate(call: Call, p: Migrate): number {
  const { m } = call.driver;
  const state = spaceOf(call);
  const asynchronous = (p.flags & UVM_MIGRATE_FLAG_ASYNC) !== 0;
  const releaseOnly = p.length === 0n && asynchronous && p.semaphoreAddress !== 0n;
  if (!releaseOnly && rangeInvalid(p.base, p.length)) return NV_ERR_INVALID_ADDRESS;
  if ((p.flags & ~(UVM_MIGRATE_FLAG_ASYNC | MIGRATE_TEST_FLAGS)) !== 0) return NV_ERR_INVALID_ARGUMENT;
  if ((p.flags & MIGRATE_TEST_FLAGS) !== 0) {
    if (m.params.uvm_enable_builtin_tests === 0) return NV_ERR_INVALID_ARGUMENT;
    throw new NotModelledError('UVM_MIGRATE with the flags of tests');
  }
  if (asynchronous) throw new NotModelledError('UVM_MIGRATE without waiting for its end');
  if (p.semaphoreAddress !== 0n) return NV_ERR_INVALID_ARGUMENT;
  const destination = processorOfUuid(call.driver, p.destinationUuid, state.gpuVaSpaces);
  if (destination === INVALID_ID) return NV_ERR_INVALID_DEVICE;
  if (destination === CPU_ID && !CPU_NODES.includes(p.cpuNumaNode)) return NV_ERR_INVALID_ARGUMENT;
  const pages = managedPages(state.space, p.base, p.length);
  if (pages === null) return NV_ERR_INVALID_ADDRESS;
  return uvmMigrate(m, state.space, pages.start, pages.outer, destination);
}

/** uvm_api_set_range_group */
function setRangeGroup(call: Call, id: bigint, base: bigint, length: bigint): number {
  if (rangeInvalid(base, length)) return NV_ERR_INVALID_ADDRESS;
  const { m } = call.driver;
  return rangeGroupSetAndMigrate(m, spaceOf(call).space, Number(id), pageOfAddress(base), pageOfAddress(base + length));
}

/** uvm_api_prevent_migration_range_groups, uvm_api_allow_migration_range_groups */
function allowMigration(call: Call, ids: readonly bigint[], count: bigint, allow: boolean): number {
  if (count === 0n || count > BigInt(RANGE_GROUPS_PER_CALL_MAX)) return NV_ERR_INVALID_ARGUMENT;
  const { m } = call.driver;
  const groups = ids.slice(0, Number(count)).map(Number);
  const status = rangeGroupsAllowMigration(m, spaceOf(call).space, groups, allow);
  if (!allow && status === NV_OK) toolsFlush(m);
  return status;
}

/** uvm_api_validate_va_range: one range has exactly these pages. */
function validateVaRange(call: Call, base: bigint, length: bigint): number {
  const { ranges } = spaceOf(call).space;
  const exact = ranges.some(
    (range) => BigInt(range.startPage) * PAGE === base && BigInt(range.outerPage) * PAGE === base + length,
  );
  return exact ? NV_OK : NV_ERR_INVALID_ADDRESS;
}

export const MEMORY_ROUTES: readonly Route[] = [
  route(IOCTL.SET_PREFERRED_LOCATION, (call, p) =>
    setPreferredLocation(call, p.requestedBase, p.length, p.preferredLocation, p.preferredCpuNumaNode),
  ),
  route(IOCTL.UNSET_PREFERRED_LOCATION, (call, p) => {
    const { space } = spaceOf(call);
    const pages = managedPages(space, p.requestedBase, p.length);
    if (pages === null) return NV_ERR_INVALID_ADDRESS;
    return policySetPreferredLocation(call.driver.m, space, pages.start, pages.outer, INVALID_ID);
  }),
  route(IOCTL.SET_ACCESSED_BY, (call, p) => setAccessedBy(call, p.requestedBase, p.length, p.uuid, true)),
  route(IOCTL.UNSET_ACCESSED_BY, (call, p) => setAccessedBy(call, p.requestedBase, p.length, p.uuid, false)),
  route(IOCTL.ENABLE_READ_DUPLICATION, (call, p) => setReadDuplication(call, p.requestedBase, p.length, true)),
  route(IOCTL.DISABLE_READ_DUPLICATION, (call, p) => setReadDuplication(call, p.requestedBase, p.length, false)),
  route(IOCTL.MIGRATE, migrate),
  route(IOCTL.CREATE_RANGE_GROUP, (call, p) => {
    p.rangeGroupId = BigInt(rangeGroupCreate(spaceOf(call).space));
    return NV_OK;
  }),
  route(IOCTL.DESTROY_RANGE_GROUP, (call, p) => rangeGroupDestroy(spaceOf(call).space, Number(p.rangeGroupId))),
  route(IOCTL.SET_RANGE_GROUP, (call, p) => setRangeGroup(call, p.rangeGroupId, p.requestedBase, p.length)),
  route(IOCTL.PREVENT_MIGRATION_RANGE_GROUPS, (call, p) => allowMigration(call, p.rangeGroupIds, p.numGroupIds, false)),
  route(IOCTL.ALLOW_MIGRATION_RANGE_GROUPS, (call, p) => allowMigration(call, p.rangeGroupIds, p.numGroupIds, true)),
  route(IOCTL.VALIDATE_VA_RANGE, (call, p) => validateVaRange(call, p.base, p.length)),
  // Managed memory is freed by unmapping it, and there is no other.
  route(IOCTL.FREE, () => NV_ERR_INVALID_ADDRESS),
];
