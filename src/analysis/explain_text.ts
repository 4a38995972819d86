/** An explanation as text: a summary, and then the way through the driver, indented by call depth. */
import type { FaultExplanation, Outcome } from './explain.ts';
import { channelText, itemsText } from './explain_item_text.ts';
import type { PushInfo } from './explain_items.ts';
import { counted, microseconds, PLAIN_STYLE, TextBuilder, type TextStyle, TIME_WIDTH } from './explain_layout.ts';

function outcomeWords(is: string): string {
  switch (is) {
    case 'serviced':
      return 'serviced';
    case 'authorised':
      return "already authorised: the driver's own page-table state allows the access, so nothing was done for it";
    case 'throttled':
      return 'throttled: its page thrashes and another processor is spared';
    case 'invalidPrefetch':
      return 'an invalid prefetch: neither serviced nor cancelled';
    case 'fatal':
      return 'fatal';
    case 'spurious':
      return 'spurious to the driver: it believes the page is mapped, so the access is tried again first';
    default:
      return is;
  }
}

/** What became of the fault, in a sentence. */
function outcomeText(outcome: Outcome): string {
  let text = outcomeWords(outcome.is);
  const of = outcome.representative;
  if (outcome.is === 'merged') {
    const its = outcomeWords(outcome.representativeOutcome ?? '');
    text = `merged into fault ${of} when the batch was fetched; that one was ${its}`;
  } else if (outcome.is === 'duplicate') {
    text = 'a duplicate: the entry before it in service order is of the same page';
    if (of !== undefined) text += `; fault ${of} stands for the page and was ${outcome.representativeOutcome}`;
  }
  if (outcome.fatalReason !== undefined) text += ` (${outcome.fatalReason})`;
  if (outcome.comesBackAs !== undefined) text += `; the access comes back as fault ${outcome.comesBackAs}`;
  return text;
}

function resultText(e: FaultExplanation): string | null {
  if (e.residency === null || e.permission === null) return null;
  const { residency, prefetch, permission } = e;
  const moved = residency.residents.length === 1 && residency.residents[0] === residency.residency;
  const copy = e.calls.length > 0 && !moved && residency.residents.length > 0;
  const verb = residency.residents.length === 0 ? 'first touch on' : copy ? 'moved to' : 'stays on';
  const duplicate = residency.rule.includes('a copy for') ? 'copied to' : verb;
  const extra =
    prefetch === null || prefetch.prefetched === 0 ? '' : `, with ${counted(prefetch.prefetched, 'prefetched page')}`;
  return `${duplicate} ${residency.residency}${extra}; mapped on ${permission.processor}: ${permission.protection}`;
}

function replayText(b: TextBuilder, e: FaultExplanation): void {
  const { replay } = e;
  if (replay === null) return;
  const { push, again } = replay;
  const by = (which: PushInfo): string => `the replay with value ${which.trackingValue} of ${channelText(which)}`;
  if (again !== null && again.finish !== replay.retried) {
    const as = e.outcome.comesBackAs === undefined ? '' : `, as fault ${e.outcome.comesBackAs}`;
    b.line(again.finish, 0, `${by(again)} tries the access again: it faults again${as}`);
  }
  if (replay.cancelled) {
    b.line(replay.retried, 0, 'the access is cancelled');
  } else if (replay.retried !== null) {
    b.line(replay.retried, 0, `${push === null ? 'a replay' : by(push)} tries the access again: it goes through`);
  } else if (push !== null) {
    b.line(push.finish, 0, `${by(push)} is carried out`);
  }
  if (replay.resumed !== null) b.line(replay.resumed, 0, `${e.fault.processor} goes on`);
}

/** The whole explanation as text. */
export function faultExplanationText(e: FaultExplanation, style: TextStyle = PLAIN_STYLE, width = 120): string {
  const { fault } = e;
  const type = fault.type === undefined ? '' : `, fault type ${fault.type}`;
  const where = `page ${fault.page} of ${fault.buffer}`;
  const head = [
    style.strong(
      `Fault ${fault.number} of ${fault.of} in ${e.scenario}: ${fault.access} by ${fault.processor}, ${where}${type}`,
    ),
  ];
  const rows: [string, string][] = [];
  const batch = fault.batch === undefined ? '' : `, batch ${fault.batch}, GPC ${fault.gpc} client ${fault.client}`;
  rows.push(['event', `${fault.event} of step ${fault.step}${batch}`]);
  rows.push(['outcome', outcomeText(e.outcome)]);
  const result = resultText(e);
  if (result !== null) rows.push(['result', result]);
  if (e.residency !== null)
    rows.push(['why', `${e.residency.rule} (rule ${e.residency.ruleNumber} of the residency decision)`]);
  if (e.duration !== null) {
    const helped = e.replay !== null && e.replay.again !== null ? 'the replay that helped' : 'the replay';
    const span =
      fault.event === 'cpuFault' ? 'from the trap to the return' : `from the entry in the fault buffer to ${helped}`;
    rows.push(['took', `${microseconds(e.duration)} µs ${span}${e.traced ? ', traced' : ''}`]);
  }
  for (const note of e.notes) rows.push(['note', note]);
  for (const [name, text] of rows) head.push(`  ${name.padEnd(8)} ${text}`);
  const b = new TextBuilder(e.begin, style, width);
  const zero = fault.event === 'cpuFault' ? 'the trap' : 'the entry in the fault buffer';
  head.push('', `${'µs'.padStart(TIME_WIDTH)}  since ${zero}, at ${microseconds(e.begin)} µs of the run`);
  itemsText(b, 0, e.calls);
  replayText(b, e);
  return `${[...head, ...b.lines].join('\n')}\n`;
}
