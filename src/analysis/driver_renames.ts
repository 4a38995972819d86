/**
 * What the UVM driver's functions, types and fields were called in its branches 535 to 595. Candidates are proposed by
 * `node scripts/driver-map.mjs CLONE --renames` (a name that goes and one that comes between neighbouring branches, in
 * the same file and with nearly the same body) and reviewed one by one; driver_renames.test.ts holds each entry to the
 * map. A function that was split, or only resembles another one, is no rename and has no place here.
 */

/** [older name, newer name, first branch with the newer one]. */
export type Rename = readonly [older: string, newer: string, since: string];

const PARENT_GPU_550 = [
  'add_user_channel',
  'deinit_isr',
  'disable_isr',
  'disable_prefetch_faults',
  'dma_alloc_page',
  'dma_free_page',
  'enable_prefetch_faults',
  'fault_buffer_deinit',
  'fault_buffer_deinit_non_replayable_faults',
  'fault_buffer_init',
  'fault_buffer_init_non_replayable_faults',
  'fault_buffer_resume',
  'fault_entry_to_va_space',
  'flush_bottom_halves',
  'init_isr',
  'non_replayable_faults_isr_lock',
  'non_replayable_faults_isr_unlock',
  'non_replayable_faults_pending',
  'replayable_faults_intr_disable',
  'replayable_faults_intr_enable',
  'replayable_faults_isr_lock',
  'replayable_faults_isr_unlock',
  'replayable_faults_pending',
  'unmap_cpu_page',
  'unmap_cpu_pages',
];

/** Functions of the fault buffer, the host and the copy engine that took the name of a later architecture. */
const VOLTA_TO_TURING_595 = [
  'cancel_faults_va',
  'fault_buffer_get_fault_type',
  'fault_buffer_get_ve_id',
  'fault_buffer_parse_non_replayable_entry',
  'fault_buffer_parse_replayable_entry',
  'fault_buffer_read_get',
  'fault_buffer_read_put',
  'fault_buffer_write_get',
  'host_semaphore_timestamp',
  'host_write_gpu_put',
  'mmu_client_id_to_utlb_id',
  'replay_faults',
];

/** Functions and types. */
export const RENAMES: readonly Rename[] = [
  ...PARENT_GPU_550.map((name): Rename => [`uvm_gpu_${name}`, `uvm_parent_gpu_${name}`, '550']),
  ['block_select_residency', 'block_select_processor_residency', '550'],
  ['wlc_get_paired_lcic', 'uvm_channel_wlc_get_paired_lcic', '550'],
  ['lcic_get_paired_wlc', 'uvm_channel_lcic_get_paired_wlc', '550'],
  ['register_gpu_nvlink_peers', 'register_gpu_peers', '550'],
  ['uvm_gpu_service_replayable_faults', 'uvm_parent_gpu_service_replayable_faults', '570'],
  ['uvm_gpu_service_non_replayable_fault_buffer', 'uvm_parent_gpu_service_non_replayable_fault_buffer', '570'],
  ['block_gpu_state_get_alloc', 'uvm_va_block_gpu_state_get_alloc', '570'],
  ['block_populate_pages_gpu', 'uvm_va_block_populate_pages_gpu', '570'],
  ['find_first_valid_gpu', 'uvm_parent_gpu_find_first_valid_gpu', '570'],
  [
    'cmp_sort_fault_entry_by_va_space_address_access_type',
    'cmp_sort_fault_entry_by_va_space_gpu_address_access_type',
    '570',
  ],
  ['uvm_fault_buffer_info_t', 'uvm_fault_buffer_t', '570'],
  ['uvm_replayable_fault_buffer_info_struct', 'uvm_replayable_fault_buffer_struct', '570'],
  ['uvm_non_replayable_fault_buffer_info_struct', 'uvm_non_replayable_fault_buffer_struct', '570'],
  ['uvm_va_range_managed_t', 'uvm_va_range_managed_struct', '570'],
  ['block_migrate_map_mapped_pages', 'uvm_va_block_migrate_map_mapped_pages', '580'],
  ['uvm_tools_record_block_migration_begin', 'uvm_tools_record_migration_begin', '580'],
  ['schedule_non_replayable_faults_handler', 'uvm_parent_gpu_schedule_non_replayable_faults_handler', '595'],
  ['uvm_gpu_fault_buffer_flush', 'uvm_gpu_replayable_buffer_flush', '595'],
  ['uvm_hal_pascal_enable_replayable_faults', 'uvm_hal_turing_enable_replayable_faults', '595'],
  ...VOLTA_TO_TURING_595.map((name): Rename => [`uvm_hal_volta_${name}`, `uvm_hal_turing_${name}`, '595']),
];

/** Fields, as TYPE.FIELD with the type's newest name. */
export const FIELD_RENAMES: readonly Rename[] = [
  ['uvm_parent_gpu_struct.fault_buffer_info', 'uvm_parent_gpu_struct.fault_buffer', '570'],
  ['uvm_va_block_struct.va_range', 'uvm_va_block_struct.managed_range', '570'],
  ['uvm_va_block_struct.cpu.chunks', 'uvm_va_block_struct.cpu.node_state', '545'],
];

/** Older name to newest, through any number of steps. */
export function newestName(name: string, renames: readonly Rename[] = RENAMES): string {
  const step = renames.find(([older]) => older === name);
  return step === undefined ? name : newestName(step[1], renames);
}

/** All names of what is called `name` in some branch, the oldest first. */
export function allNames(name: string, renames: readonly Rename[] = RENAMES): string[] {
  const names = [newestName(name, renames)];
  for (;;) {
    const step = renames.find(([, newer]) => newer === names[0]);
    if (step === undefined) return names;
    names.unshift(step[0]);
  }
}
