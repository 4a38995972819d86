/** One block: its 512 pages at the time of the cursor, its prefetch tree, and its history. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { BlockDetail, TraceBackend, TraceSummary } from '../src/explorer/api.ts';
import type { Theme } from './colours.ts';
import { PAGE_OVERLAYS, PageMap, type PageOverlay } from './page_map.tsx';
import { Answered, Choice, Legend, Nothing, Panel, useAnswer } from './panels.tsx';
import { countText, spanText, timeLabel } from './scale.ts';

/** Height of a line of the history. */
const LINE = 20;

interface BlockProps {
  backend: TraceBackend;
  trace: TraceSummary;
  theme: Theme;
  time: number;
  allocation: number;
  block: number;
  /** A page to mark. */
  page: number | null;
  row: number | null;
  onRow(row: number, time: number): void;
  onTime(time: number): void;
  onBlock(allocation: number, block: number): void;
}

function Tree({ tree }: { tree: NonNullable<BlockDetail['tree']> }) {
  return (
    <>
      <p class="hint">
        To {tree.destination}. {tree.text}.
      </p>
      <table class="tree">
        <thead>
          <tr>
            <th scope="col">level</th>
            <th scope="col">pages</th>
            <th scope="col">leaves set</th>
            <th scope="col">share</th>
          </tr>
        </thead>
        <tbody>
          {tree.levels.map(({ level, first, outer, set, size, passes }) => (
            <tr key={level} class={passes ? 'passes' : ''}>
              <th scope="row">{level}</th>
              <td>
                {first} to {outer - 1}
              </td>
              <td>
                {set} of {size}
              </td>
              <td>
                <span class="bar">
                  <span style={{ width: `${Math.min(100, (set / size) * 100)}%` }} />
                </span>
                {passes ? 'passes' : ''}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

/** A list of which only the lines in sight are in the page. */
function History({ detail, row, onRow }: Pick<BlockProps, 'row' | 'onRow'> & { detail: BlockDetail }) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const { history, historyCount, time } = detail;
  const here = history.findIndex((entry) => entry.time > time);
  useEffect(() => {
    const middle = (here < 0 ? history.length : here) * LINE;
    if (box.current !== null) box.current.scrollTop = Math.max(0, middle - box.current.clientHeight / 2);
  }, [detail]);
  if (history.length === 0) return <Nothing>Nothing happened to this block.</Nothing>;
  const first = Math.max(0, Math.floor(top / LINE) - 10);
  const shown = history.slice(first, first + 60);
  return (
    <>
      <p class="hint">
        {countText(historyCount, 'event')}
        {historyCount > history.length ? `, ${history.length} around this time` : ''}
      </p>
      <div class="history" ref={box} onScroll={(event) => setTop(event.currentTarget.scrollTop)}>
        <ol style={{ height: `${history.length * LINE}px` }}>
          {shown.map((entry, i) => (
            <li key={entry.row} style={{ top: `${(first + i) * LINE}px` }}>
              <button
                type="button"
                class={`${entry.row === row ? 'current' : ''} ${entry.time > time ? 'later' : ''}`}
                onClick={() => onRow(entry.row, entry.time)}
              >
                <span class="when">{timeLabel(entry.time, 100)}</span> {entry.text}
              </button>
            </li>
          ))}
        </ol>
      </div>
    </>
  );
}

/** The cursor as a slider over the trace, and steps from event to event of the block. */
function Cursor({ trace, time, detail, onRow, onTime }: BlockProps & { detail: BlockDetail }) {
  const { history } = detail;
  const before = history.findLast((entry) => entry.time < time);
  const after = history.find((entry) => entry.time > time);
  return (
    <div class="cursor">
      <button
        type="button"
        disabled={before === undefined}
        onClick={() => before !== undefined && onRow(before.row, before.time)}
      >
        event before
      </button>
      <input
        type="range"
        aria-label="time of the cursor"
        aria-valuetext={timeLabel(time, 100)}
        min={trace.begin}
        max={Math.max(trace.end, trace.begin + 1)}
        step={Math.max(1, (trace.end - trace.begin) / 2000)}
        value={time}
        onInput={(event) => onTime(Number(event.currentTarget.value))}
      />
      <button
        type="button"
        disabled={after === undefined}
        onClick={() => after !== undefined && onRow(after.row, after.time)}
      >
        event after
      </button>
      <span class="hint">{spanText(time - trace.begin)} since the begin</span>
    </div>
  );
}

export function BlockView(props: BlockProps) {
  const { backend, trace, theme, time, allocation, block, page, row } = props;
  const [overlay, setOverlay] = useState<PageOverlay>('residency');
  const its = trace.allocations[allocation];
  const known = its !== undefined && block < its.blocks;
  const asked = useAnswer(
    known ? () => backend.block(trace.id, allocation, block, time) : null,
    [backend, trace.id, allocation, block, time],
    true,
  );
  if (trace.allocations.length === 0) return <Nothing>This trace names no allocations.</Nothing>;
  if (!known) return <Nothing>There is no such block; choose one on the map of the address space.</Nothing>;
  const chooser = (
    <span class="chooser">
      <label>
        allocation{' '}
        <select value={allocation} onChange={(event) => props.onBlock(Number(event.currentTarget.value), 0)}>
          {trace.allocations.map(({ name }, i) => (
            <option key={name} value={i}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        block{' '}
        <input
          type="number"
          min={0}
          max={its.blocks - 1}
          value={block}
          onChange={(event) => props.onBlock(allocation, Math.min(its.blocks - 1, Number(event.currentTarget.value)))}
        />{' '}
        of {its.blocks}
      </label>
    </span>
  );
  return (
    <div class="block-view">
      <Panel title={`Pages at ${timeLabel(time, 1)}`} aside={chooser}>
        <Answered asked={asked}>
          {(detail) => (
            <>
              <Cursor {...props} detail={detail} />
              <Choice
                label="what the colours say"
                of={PAGE_OVERLAYS}
                chosen={overlay}
                onChoose={(word) => setOverlay(word)}
              />
              <PageMap {...{ detail, theme, page, overlay }} processors={trace.processors} />
              {overlay === 'residency' && <Legend words={detail.residents} theme={theme} letters />}
              <p class="hint">
                {detail.mapped === null
                  ? 'Mappings are known in runs of the model alone.'
                  : `The marks along the bottom of a page: who maps it, by place (${trace.processors.join(', ')}).`}
              </p>
            </>
          )}
        </Answered>
      </Panel>
      <Panel title="Prefetch tree of the last fault">
        <Answered asked={asked}>
          {({ tree }) =>
            tree === null ? (
              <Nothing>
                {trace.noWalk === null
                  ? 'No fault of this block asked the tree before this time.'
                  : `It is not known: ${trace.noWalk}.`}
              </Nothing>
            ) : (
              <Tree tree={tree} />
            )
          }
        </Answered>
      </Panel>
      <Panel title="History" class="grow">
        <Answered asked={asked}>{(detail) => <History detail={detail} row={row} onRow={props.onRow} />}</Answered>
      </Panel>
    </div>
  );
}
