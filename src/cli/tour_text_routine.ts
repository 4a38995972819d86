/** The tour's items 1 and 2 as text: the call stack, how the driver is set up, and the way of the live fault. */
import { microseconds, pagesText, runText } from '../analysis/explain_layout.ts';
import type { Tour } from '../analysis/tour.ts';
import type { Registers } from '../analysis/tour_recorder.ts';
import { bytes, count, counted } from './text.ts';
import { bothNames, earlierName, type TourPage } from './tour_page.ts';

const RF = 'uvm_gpu_replayable_faults.c';

/** Where the functions on the way are in the driver. */
const DRIVER_FILES: Readonly<Record<string, string>> = {
  _main_loop: 'nv-kthread-q.c',
  replayable_faults_isr_bottom_half: 'uvm_gpu_isr.c',
  uvm_parent_gpu_service_replayable_faults: RF,
  service_fault_batch: RF,
  service_fault_batch_dispatch: RF,
  service_fault_batch_block: RF,
  service_fault_batch_block_locked: RF,
  uvm_va_block_select_residency: 'uvm_va_block.c',
  uvm_parent_gpu_init_isr: 'uvm_gpu_isr.c',
  uvm_parent_gpu_fault_buffer_init: RF,
  fault_buffer_init_replayable_faults: RF,
  fault_buffer_reinit_replayable_faults: RF,
  nv_kthread_q_init_on_node: 'nv-kthread-q.c',
};

const POLICIES = ['BLOCK', 'BATCH', 'BATCH_FLUSH', 'ONCE'];

/** Item 1. */
export function stackText(p: TourPage, tour: Tour): void {
  const { fault, stack, routine } = tour;
  const { residency } = fault;
  p.notes(
    'The GPU page fault routine calls uvm_va_block_select_residency directly, followed by a call stack (left empty).',
  );
  p.paragraph(
    'Right: service_fault_batch_block_locked calls it by name, once for each page that it is about to service. ' +
      `The call stack that was left empty, as it stood in thread "${routine.bottomHalf.thread}" for page ` +
      `${tour.page}, the outermost first:`,
  );
  p.table(
    [
      ['function', 'entered at', 'driver file'],
      ...stack.map((frame, i) => [
        `${String(i).padStart(2)}  ${p.style.call(frame.function)}`,
        p.at(frame.time),
        DRIVER_FILES[frame.function] ?? '',
      ]),
    ],
    'lrl',
  );
  const renamed = stack.flatMap(({ function: name }, i) => {
    const earlier = earlierName(name);
    return earlier === undefined ? [] : [`${i} is ${earlier} in 535 and 545`];
  });
  p.paragraph(
    `Number ${renamed.join('; ')}. The driver has a wrapper more, replayable_faults_isr_bottom_half_entry, ` +
      'between 0 and 1: it is the function that the queue item names. CPU faults, non-replayable faults and access ' +
      'counters have calls of their own.',
  );
  if (residency === null) return;
  p.paragraph(
    `What it decided: ${p.style.strong(residency.residency)}, by rule ${residency.ruleNumber} ` +
      `(${residency.rule}). Its inputs: ${residency.processor} wants ${residency.accesses.join(' and ')}, the page ` +
      `is resident on ${residency.residents.join(', ') || 'nobody'}, preferred location ` +
      `${residency.preferredLocation ?? 'none'}, accessed by ${residency.accessedBy.join(', ') || 'none'}, read ` +
      `duplication ${residency.readDuplication}, thrashing hint ${residency.hint}.`,
  );
}

function threadText(p: TourPage, tour: Tour): void {
  const { setUp, routine, nodeTrial } = tour;
  p.notes('A thread in the driver runs _main_loop (nv-kthread-q.c); nv_kthread_q_init_on_node creates it.');
  p.paragraph(
    `Right. Here it is the thread "${routine.bottomHalf.thread}", which serves the queue isr.bottom_half_q and ` +
      'nothing else: it sleeps on the semaphore of the queue, takes one item at a time off its head and calls the ' +
      "item's function. An item counts as not queued from the moment it starts to run, so it can be queued again " +
      'meanwhile. All bottom halves of a GPU share this one thread; a second queue has ' +
      `"${setUp.killChannelQ.thread}", which kills channels.`,
  );
  const { wanted, landed, kept } = nodeTrial;
  const node = setUp.bottomHalfQ.node;
  p.paragraph(
    'nv_kthread_q_init_on_node wants the stack of the thread on one NUMA node and makes up to three threads for it, ' +
      `keeping the first that fits, or else the last. In this run ` +
      `${node === null ? 'no node was asked for' : `it lies on node ${node}`}, so one thread ` +
      `was enough. Tried on a spare model that wants node ${wanted} while stacks land on ${landed.join(', ')}: ` +
      `${counted(landed.length, 'thread')} made, ${landed.length - 1} stopped again, the one on node ${kept} ` +
      'kept.',
  );
}

function initText(p: TourPage, tour: Tour): void {
  const { setUp } = tour;
  p.notes(
    'uvm_gpu_init_isr (uvm_gpu_isr.c:280) calls init_queue_on_node for the bottom-half queue and initialises the ' +
      'fault-handling state through uvm_gpu_fault_buffer_init (uvm_gpu_replayable_faults.c:229), which calls ' +
      'fault_buffer_init_replayable_faults (line 122).',
  );
  p.paragraph('Right. In time the fault buffer comes first and the queues last. The run set itself up so:');
  p.table(
    [
      ['function', 'driver file', 'in 535 and 545'],
      ...setUp.calls.map((call) => [
        `${'  '.repeat(call.depth)}${p.style.call(call.function)}${call.queue === undefined ? '' : ` "${call.queue}"`}`,
        DRIVER_FILES[call.function] ?? '',
        earlierName(call.function) ?? '',
      ]),
    ],
    'lll',
  );
  p.paragraph(
    'init_queue_on_node stands between uvm_gpu_init_isr and nv_kthread_q_init_on_node; it also ties the thread ' +
      'to the CPUs of the node. A small thing about the lines: in the published sources of 535 and 545, 229 and ' +
      '122 are where the notes say; line 280 of uvm_gpu_isr.c is the call of nv_kthread_q_init_on_node inside ' +
      'init_queue_on_node, and uvm_gpu_init_isr begins at 291.',
  );
}

function bufferText(p: TourPage, tour: Tour): void {
  const { setUp } = tour;
  const rf = setUp.replayable;
  p.notes('It fills fault_buffer_info.replayable and allocates zeroed memory for fields of its batch_service_context.');
  p.paragraph('Right (the structure is fault_buffer.replayable in 580). Its values in this run:');
  const policy = POLICIES[rf.replayPolicy];
  p.table(
    [
      ['field', 'value', 'from'],
      [
        'max_faults',
        count(rf.maxFaults),
        `buffer of ${bytes(rf.maxFaults * rf.entryBytes)}, entries of ${rf.entryBytes} bytes`,
      ],
      ['max_batch_size', count(rf.maxBatchSize), 'uvm_perf_fault_batch_count, at most max_faults'],
      ['fault_cache', count(rf.faultCache), 'zeroed array, one element for each entry of the buffer, not of a batch'],
      ['ordered_fault_cache', count(rf.orderedFaultCache), 'zeroed array of pointers into it, for the sort'],
      ['utlbs', count(rf.utlbs), `zeroed array: ${rf.gpcs} GPCs of ${rf.utlbsPerGpc} uTLBs`],
      ['replay_policy', `${rf.replayPolicy}`, `${policy}, uvm_perf_fault_replay_policy`],
      ['replay_update_put_ratio', `${rf.replayUpdatePutRatio}`, 'percent, uvm_perf_fault_replay_update_put_ratio'],
      ['prefetch_faults_enabled', String(rf.prefetchFaultsEnabled), 'supported by every GPU from Volta on'],
    ],
    'lrl',
  );
  p.paragraph(
    'fault_cache, ordered_fault_cache and utlbs are the three zeroed arrays of batch_service_context. The first ' +
      'two have max_faults elements because a cancel fetches all that is in the buffer at once.',
  );
  p.notes(
    'It calls fault_buffer_reinit_replayable_faults, "which seems to read from gpu buffer": cached_get = ' +
      '…read_get(parent_gpu).',
  );
  const { registers } = setUp;
  p.paragraph(
    'Nearly: it reads no entry of the buffer. GET and PUT are two registers of the GPU, the ends of the ring: ' +
      'the GPU writes the entry at PUT and moves PUT on, the driver reads the entry at GET and moves GET on. ' +
      "cached_get and cached_put are the driver's copies of the two, because reading a register over PCIe is slow. " +
      `At set-up read_get gave ${registers.get} and read_put ${registers.put}, so cached_get = ` +
      `${registers.cachedGet} and cached_put = ${registers.cachedPut}. They are read, not set to zero, as the same ` +
      'function runs on resume from power management.',
  );
}

function registerRow(when: string, r: Registers): string[] {
  return [
    when,
    String(r.get),
    String(r.put),
    String(r.cachedGet),
    String(r.cachedPut),
    r.interruptEnabled ? 'on' : 'off',
    String(r.disableIntrRefCount),
    r.serviceLocked ? 'taken' : 'free',
  ];
}

function arrivalText(p: TourPage, tour: Tour): void {
  const { fault, routine } = tour;
  const { topHalf, bottomHalf, fetch, batch } = routine;
  const { gpc, client, access, processor, type } = fault.fault;
  p.stage(
    'the entry',
    fault.begin,
    `A thread of ${processor} wants to ${access} page ${tour.page} and finds no translation (${type}). GPC ` +
      `${gpc}, client ${client} parks the access; the entry goes into slot ${topHalf.before.put - 1}, and PUT ` +
      `becomes ${topHalf.before.put}. An interrupt is sent.`,
  );
  p.stage(
    'top half',
    topHalf.time,
    `uvm_isr_top_half, in the interrupt, interrupt ${topHalf.before.interruptCount + 1} of this GPU. It takes ` +
      `the service lock without waiting, asks ${bothNames('uvm_parent_gpu_replayable_faults_pending')}, disables ` +
      `the interrupt (disable count ${topHalf.before.disableIntrRefCount} to ${topHalf.after.disableIntrRefCount}) ` +
      'and queues the bottom half. It returns with the lock held.',
  );
  p.stage(
    'bottom half',
    bottomHalf.time,
    `_main_loop wakes in thread "${bottomHalf.thread}" and calls replayable_faults_isr_bottom_half, bottom half ` +
      `${fetch.before.bottomHalfCount}, which calls ${bothNames('uvm_parent_gpu_service_replayable_faults')}: a ` +
      'loop over batches until nothing is left or a limit is reached.',
  );
  p.stage(
    'fetch',
    fetch.time,
    `fetch_fault_buffer_entries. cached_get = cached_put = ${fetch.before.cachedGet}, so PUT is read: ` +
      `${fetch.after.cachedPut}. ${counted(batch.entries, 'entry', 'entries')} of at most ` +
      `${tour.setUp.replayable.maxBatchSize} copied into fault_cache, ${batch.representatives} after merging; GET ` +
      `moves from ${fetch.before.get} to ${fetch.after.get} now, before anything is serviced. This is batch ` +
      `${batch.number}.`,
  );
  p.stage(
    'preprocess',
    routine.preprocess,
    'preprocess_fault_batch looks up the VA space behind the channel of each entry and sorts by VA space, GPU, ' +
      'address and access, the most intrusive first.',
  );
}

function serviceText(p: TourPage, tour: Tour): void {
  const { fault, routine } = tour;
  const { residency, prefetch } = fault;
  p.stage(
    'service',
    routine.service,
    "service_fault_batch takes the VA space's lock for read, service_fault_batch_dispatch finds the block, " +
      'service_fault_batch_block takes its lock, and service_fault_batch_block_locked walks its entries: report ' +
      'the fault event, check permissions, ask for the thrashing hint, then for the residency.',
  );
  if (residency !== null) {
    p.stage(
      'residency',
      residency.time,
      `uvm_va_block_select_residency: page ${residency.page} to ${residency.residency} (item 1).`,
    );
  }
  if (prefetch !== null) {
    const region = prefetch.pages.map((one) => runText(one.region)).join(', ');
    p.stage(
      'prefetch',
      prefetch.time,
      `uvm_va_block_service_locked asks uvm_va_block_get_prefetch_hint: the region is pages ${region}, so ` +
        `${counted(prefetch.prefetched, 'page')} more (${pagesText(prefetch.runs).replace(/^pages? /, '')}) than ` +
        'the one that faulted.',
    );
  }
  for (const unmap of routine.unmap) {
    p.stage('unmap', unmap.time, `uvm_va_block_unmap: ${unmap.processor} loses ${pagesText(unmap.runs)}.`);
  }
  for (const one of routine.populate) {
    const zeroed = one.runs.reduce((sum, run) => sum + run.zeroed, 0);
    const push =
      one.push === null ? '' : ` by a push on channel ${one.push.channel}, tracking value ${one.push.trackingValue}`;
    p.stage(
      'memory',
      one.time,
      `block_populate_pages: ${one.processor} gets ${pagesText(one.runs)} in ` +
        `${counted(one.runs.length, 'chunk')}; ${counted(zeroed, 'page')} that the CPU never had are zeroed${push}.`,
    );
  }
  const { copy, map } = routine;
  const pages = copy.runs.reduce((sum, run) => sum + run.count, 0);
  p.stage(
    'copy',
    copy.push.begin,
    `block_copy_resident_pages: ${counted(pages, 'page')} from ${copy.from} to ${copy.to}, in ` +
      `${counted(copy.runs.length, 'run')}, by a push on channel ${copy.push.channel} (${copy.push.channelType}), ` +
      `tracking value ${copy.push.trackingValue}. The CPU is done with it at ${p.at(copy.push.end)}; copy engine ` +
      `${copy.push.engine} works from ${p.at(copy.push.start)} to ${p.at(copy.push.finish)}. Nobody waits here.`,
  );
  const ptes = Object.entries(map.push.ptes ?? {}).map(([size, n]) => `${n} × ${size}`);
  p.stage(
    'map',
    map.push.begin,
    `uvm_va_block_service_finish, uvm_va_block_map: ${map.processor} gets ${map.protection} on ` +
      `${pagesText(map.runs)}. Page-table entries: ${ptes.join(', ')}; tracking value ${map.push.trackingValue} on ` +
      `channel ${map.push.channel}, which starts behind the copy, at ${p.at(map.push.start)}.`,
  );
}

function replayText(p: TourPage, tour: Tour): void {
  const { routine, setUp } = tour;
  const { flush, replay, wait, fetchAgain, rearm } = routine;
  p.stage(
    'flush, replay',
    flush.time,
    `Policy ${POLICIES[setUp.replayable.replayPolicy]}: fault_buffer_flush_locked drops what is left up to ` +
      `cached_put (${counted(flush.discarded, 'entry', 'entries')} here), and push_replay_on_gpu puts a replay on ` +
      `channel ${replay.channel}, tracking value ${replay.trackingValue}. It acquires the tracker of the batch: on ` +
      `the GPU it runs from ${p.at(replay.start)} to ${p.at(replay.finish)}, after the mapping.`,
  );
  const waited = microseconds(wait.end - wait.begin);
  p.stage(
    'wait',
    wait.begin,
    `uvm_tracker_wait: the thread waits for the replay, ${waited} µs, until ${p.at(wait.end)}.`,
  );
  p.stage('access', replay.finish, 'The replay tries the parked access again: the new entry translates it.');
  p.stage(
    'fetch again',
    fetchAgain.time,
    `GET ${fetchAgain.before.get}, PUT ${fetchAgain.before.put}: nothing new, so the loop ends.`,
  );
  if (routine.resumed !== null) p.stage('goes on', routine.resumed, 'The warp goes on.');
  p.stage(
    're-arm',
    rearm.time,
    `${bothNames('uvm_parent_gpu_replayable_faults_isr_unlock')}: disable count ` +
      `${rearm.before.disableIntrRefCount} to ${rearm.after.disableIntrRefCount}, so the interrupt is on again; ` +
      `then the pending bit is cleared and GET is written once more with ${rearm.after.cachedGet}, which makes the ` +
      'GPU compare GET and PUT anew: an entry that came meanwhile interrupts at once, so none is lost. The service ' +
      'lock is given back, and _main_loop sleeps.',
  );
  p.blank();
}

/** Item 2. */
export function routineText(p: TourPage, tour: Tour): void {
  threadText(p, tour);
  initText(p, tour);
  bufferText(p, tour);
  p.notes('4. (blank)');
  p.paragraph('From here on it is the live fault that tells what comes:');
  arrivalText(p, tour);
  serviceText(p, tour);
  replayText(p, tour);
  const { topHalf, fetch, flush, rearm } = tour.routine;
  p.paragraph("The two registers, the driver's copies of them, and the interrupt on the way:");
  p.table(
    [
      ['', 'GET', 'PUT', 'cached_get', 'cached_put', 'interrupt', 'disable count', 'service lock'],
      registerRow('before the fault', tour.setUp.registers),
      registerRow('top half begins', topHalf.before),
      registerRow('top half is done', topHalf.after),
      registerRow('after the fetch', fetch.after),
      registerRow('after the flush', flush.after),
      registerRow('bottom half is done', rearm.after),
    ],
    'lrrrrrrr',
  );
  p.paragraph(
    '`uvmlab explain FILE --fault N` tells this way for any fault of any scenario, with every rule and input.',
  );
}
