/** The life of a copy as text: what it was, and its timeline. */
import type { CopyPlace } from '../trace/copies.ts';
import type { CopyExplanation, CopyMoment, LockInfo, PushName } from './explain_copy.ts';
import { counted, list, PLAIN_STYLE, TextBuilder, type TextStyle, wrap } from './explain_layout.ts';

const LOCK_PREFIX = /^UVM_LOCK_(?:ORDER_)?/;

function lockText({ lock, shared }: LockInfo): string {
  return lock.replace(LOCK_PREFIX, '') + (shared ? ' (shared)' : '');
}

function pushText({ gpu, channel, value }: PushName): string {
  return `${gpu} channel ${channel}, value ${value}`;
}

function placeText({ buffer, page }: CopyPlace, pages: number): string {
  const which = pages === 1 ? `page ${page}` : `pages ${page}..${page + pages - 1}`;
  return buffer === null ? `${which} of no buffer` : `${which} of ${buffer}`;
}

function stageText(moment: CopyMoment & { kind: 'stage' }, form: string): string {
  const pages = counted(Number(moment.detail['pages'] ?? 0), 'page');
  switch (moment.stage) {
    case 'called':
      return 'UVM_SET_NEXT_COPY_ADDRESS: B is stored';
    case 'destination':
      return moment.detail['how'] === 'stage'
        ? `B is managed: a stage of the kernel's, ${pages}`
        : `B is pinned writable, ${pages}`;
    case 'mapped':
      return Number(moment.detail['gpus']) === 0
        ? 'the GPUs are kept; none of them can reach B'
        : `the GPUs are kept, and B is mapped for DMA on ${counted(Number(moment.detail['gpus']), 'GPU')}`;
    case 'listed':
      return form === 'armed' ? 'armed: the copy waits for its fault' : 'the copy is on the list of its VA space';
    case 'claimed':
      return (
        'a fault on the page is being serviced, and this bottom half takes the copy; ' +
        `held: ${list(moment.held.map(lockText))}`
      );
    case 'cpu':
      return `the CPU copies, or writes zeros: ${pages}`;
    case 'wait':
      return moment.detail['how'] === 'bottom half'
        ? 'the bottom half waits for the push, with the block locked'
        : 'waits for the pushes, with no lock of the VA space or block held';
    case 'waited':
      return 'the pushes are done';
    case 'decrypted':
      return `the CPU decrypts what the GPU put into staging buffers: ${pages}`;
    case 'staged':
      return `the stage is copied to B: ${pages}`;
    case 'queued':
      return "an item is queued for the routine's thread: whoever is here may neither sleep nor unpin";
    case 'released':
      return `B is unmapped and unpinned dirty (${pages}), the GPUs are released`;
    case 'returned':
      return Number(moment.detail['status']) === 0
        ? 'the ioctl returns NV_OK'
        : `the ioctl returns status 0x${Number(moment.detail['status']).toString(16)}`;
    case 'push':
      return 'a push is ended';
  }
}

/** Who did something, as its column shows it. */
function whoText({ thread }: CopyMoment): string {
  return thread === '' ? 'GPU' : thread;
}

function momentText(b: TextBuilder, moment: CopyMoment, form: string, column: number): void {
  const who = whoText(moment).padEnd(column);
  const line = (text: string): void => b.line(moment.time, 0, `${b.style.faint(who)}  ${text}`);
  switch (moment.kind) {
    case 'lock':
      line(`${moment.taken ? 'takes' : 'releases'} ${lockText(moment)}`);
      break;
    case 'stage':
      line(stageText(moment, form));
      break;
    case 'push': {
      const after = moment.acquires.map(pushText);
      line(`push ended: ${moment.what} on ${b.style.strong(pushText(moment.push))}, begun at ${b.at(moment.begin)}`);
      b.note(
        Math.ceil(column / 2) + 2,
        after.length === 0 ? 'acquires nothing that is still to be done' : `acquires ${after.join('; ')}`,
      );
      b.note(
        Math.ceil(column / 2) + 2,
        "added to the block's tracker: whoever moves, maps or frees the page next waits for it",
      );
      break;
    }
    case 'start':
      line(`${moment.what}: ${pushText(moment.push)} starts`);
      break;
    case 'semaphore':
      line(
        `${moment.what}: done; the tracking semaphore of channel ${moment.push.channel} reads ` +
          `0x${moment.payload.toString(16).padStart(8, '0')}`,
      );
      break;
  }
}

/** The explanation as text, in lines of at most `width` columns. */
export function copyExplanationText(e: CopyExplanation, style: TextStyle = PLAIN_STYLE, width = 120): string {
  const { copy, timeline } = e;
  const zero = timeline[0]?.time ?? copy.begin ?? 0;
  const b = new TextBuilder(zero, style, width);
  const pages = Math.max(1, Math.ceil(copy.bytes / 4096));
  const from = copy.from === null ? 'whichever page faults first' : placeText(copy.from, pages);
  b.lines.push(
    style.strong(`Copy ${e.number} of ${e.of} in ${e.scenario}: ${copy.form}, ${from} to ${placeText(copy.to, pages)}`),
  );
  b.lines.push(`  asked for   in step ${copy.step}`);
  b.lines.push(`  came to     ${copy.state}, ${copy.status}, ${copy.bytes} bytes`);
  b.lines.push(`  valid copy  ${copy.residentOn === null ? 'nowhere: B got zeros' : `on ${copy.residentOn}`}`);
  b.lines.push(
    `  writable    ${copy.writableOn.length === 0 ? 'by nobody at the time' : `by ${list(copy.writableOn)}`}`,
  );
  if (copy.fault !== undefined) {
    b.lines.push(`  fault       in step ${copy.fault.step}, of ${copy.fault.gpu}; the page was ${copy.fault.page}`);
  }
  if (copy.form === 'armed') {
    b.lines.push(`  snapshot    ${copy.snapshot ? 'yes: B holds the value of the moment of the fault' : 'no'}`);
    const lengthened = ((copy.bottomHalfTime ?? 0) / 1000).toFixed(3);
    b.lines.push(`  bottom half busy with it for ${lengthened} µs`);
  }
  b.lines.push('');
  b.lines.push(`        µs  since ${(zero / 1000).toFixed(3)} µs of the run`);
  const column = Math.max(...timeline.map((moment) => whoText(moment).length));
  for (const moment of timeline) momentText(b, moment, copy.form, column);
  if (copy.pageTablePush && copy.end !== null && copy.replay) {
    b.lines.push('');
    const order =
      `The copy ended at ${b.at(copy.end)}, the page-table entries began at ${b.at(copy.pageTablePush.begin)} ` +
      `and the replay at ${b.at(copy.replay.begin)}: in this order, by the block's and the batch's trackers.`;
    for (const text of wrap(order, Math.max(width, 80) - 2)) b.lines.push(`  ${text}`);
  }
  return `${b.lines.join('\n')}\n`;
}
