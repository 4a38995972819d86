/**
 * Who calls whom, in the driver's names: the functions that the model tells its observers of, each with those that it
 * is called from. Functions do not tell when they return, so the caller of one is the innermost of them that is still
 * open.
 */

const TOP: readonly string[] = [];
const SERVICE = 'uvm_parent_gpu_service_replayable_faults';
const CANCEL = 'service_fault_batch_for_cancel';
const FAULT_SERVICE = ['service_fault_batch_block_locked', 'block_cpu_fault_locked'];
const FINISH = ['uvm_va_block_service_finish'];
const CALLS_OF_USERS = [
  'uvm_api_migrate',
  'uvm_api_set_preferred_location',
  'uvm_api_unset_preferred_location',
  'uvm_api_set_accessed_by',
  'uvm_api_unset_accessed_by',
  'uvm_api_enable_read_duplication',
  'uvm_api_disable_read_duplication',
  'uvm_vm_close_managed',
];
const MAKE_RESIDENT = ['uvm_va_block_service_copy', ...CALLS_OF_USERS];

const CALLERS: Readonly<Record<string, readonly string[]>> = {
  _main_loop: TOP,
  uvm_parent_gpu_init_isr: TOP,
  uvm_parent_gpu_fault_buffer_init: ['uvm_parent_gpu_init_isr'],
  fault_buffer_init_replayable_faults: ['uvm_parent_gpu_fault_buffer_init'],
  fault_buffer_reinit_replayable_faults: ['fault_buffer_init_replayable_faults'],
  nv_kthread_q_init_on_node: ['uvm_parent_gpu_init_isr'],
  uvm_isr_top_half: TOP,
  replayable_faults_isr_bottom_half: TOP,
  uvm_va_space_cpu_fault: TOP,
  thrashing_unpin_pages: TOP,
  ...Object.fromEntries(CALLS_OF_USERS.map((name) => [name, TOP])),
  [SERVICE]: ['replayable_faults_isr_bottom_half'],
  fetch_fault_buffer_entries: [SERVICE, CANCEL],
  preprocess_fault_batch: [SERVICE, CANCEL],
  service_fault_batch: [SERVICE],
  service_fault_batch_dispatch: ['service_fault_batch', CANCEL],
  service_fault_batch_block: ['service_fault_batch_dispatch'],
  service_fault_batch_block_locked: ['service_fault_batch_block', 'service_fault_batch_dispatch'],
  [CANCEL]: [SERVICE],
  cancel_faults_all: [SERVICE],
  cancel_fault_precise_va: [CANCEL, 'cancel_faults_all'],
  fault_buffer_flush_locked: [SERVICE, CANCEL, 'cancel_faults_all', 'preprocess_fault_batch'],
  push_replay_on_gpu: ['fault_buffer_flush_locked', 'service_fault_batch', SERVICE],
  block_cpu_fault_locked: ['uvm_va_space_cpu_fault'],
  uvm_va_block_service_locked: FAULT_SERVICE,
  uvm_va_block_service_copy: ['uvm_va_block_service_locked'],
  uvm_va_block_make_resident_copy: MAKE_RESIDENT,
  uvm_va_block_make_resident_read_duplicate: MAKE_RESIDENT,
  uvm_va_block_service_finish: ['uvm_va_block_service_locked'],
  block_service_finish_revoke_prot: FINISH,
  block_service_finish_map: FINISH,
  block_service_finish_map_accessed_by: FINISH,
  uvm_tracker_wait: ['uvm_va_block_service_copy', SERVICE],
};

/** Functions that only hand on to the next one: an explanation of a fault leaves them out. */
const PASSED_OVER = new Set(['_main_loop', 'service_fault_batch_block']);

export function isPassedOver(name: string): boolean {
  return PASSED_OVER.has(name);
}

/** A function that nobody among the others calls: where the driver is entered. */
export function isRoot(name: string): boolean {
  return CALLERS[name] === TOP;
}

/**
 * How many of the open functions, outermost first, stay open when `name` is entered: the last of them is its caller.
 */
export function callParent(open: readonly string[], name: string): number {
  const callers = CALLERS[name];
  if (callers === TOP) return 0;
  // A function that is not in the table is called by whoever is open.
  if (callers === undefined) return open.length;
  for (let depth = open.length; depth > 0; depth--) if (callers.includes(open[depth - 1])) return depth;
  return 0;
}
