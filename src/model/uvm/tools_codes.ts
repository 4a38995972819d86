/**
 * Models two tables of uvm_tools.c (driver 580.105.08): g_hal_to_tools_fault_type_table and
 * g_hal_to_tools_fault_access_type_table, what tools events call the fault types of the hardware and the access types
 * of the driver. Left out: the table of client types, since every client here is one of a GPC.
 */

/** By the hardware's fault type; 7 is none that tools have a name for. */
const FAULT_TYPE: Readonly<Record<number, number>> = {
  0: 1,
  2: 2,
  6: 3,
  7: 0,
  15: 4,
  1: 5,
  3: 6,
  4: 7,
  5: 8,
  8: 9,
  9: 10,
  10: 11,
  11: 12,
  12: 13,
  13: 14,
  14: 15,
};

/** By the driver's access type: prefetch, read, write, and both kinds of atomics. */
const ACCESS_TYPE = Uint8Array.of(4, 1, 2, 3, 3);

/** UvmEventFaultType of a hardware fault type (kind `a` of an entry of the log). */
export function toolsFaultType(hardware: number): number {
  return FAULT_TYPE[hardware] ?? 0;
}

/** UvmEventMemoryAccessType of the driver's access type (`b` of an entry of the log). */
export function toolsAccessType(access: number): number {
  return ACCESS_TYPE[access] ?? 0;
}
