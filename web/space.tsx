/** The address space at the time of the cursor: a tile for each block of 2 MiB, coloured by where its pages are. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Space, TraceBackend, TraceSummary } from '../src/explorer/api.ts';
import {
  blockAtPoint,
  blockByKey,
  blockText,
  layoutOf,
  paintBlocks,
  SPACE_OVERLAYS,
  type SpaceOverlay,
} from './block_map.ts';
import type { Theme } from './colours.ts';
import { Answered, Choice, Legend, Nothing, useAnswer } from './panels.tsx';
import { spanText, timeLabel } from './scale.ts';

interface SpaceProps {
  backend: TraceBackend;
  trace: TraceSummary;
  theme: Theme;
  time: number;
  /** Width of the time in which events are counted, ns. */
  span: number;
  allocation: number;
  block: number;
  onBlock(allocation: number, block: number): void;
  onOpen(allocation: number, block: number): void;
  /** False: the map waits. */
  ask: boolean;
}

interface Pointed {
  allocation: number;
  block: number;
}

interface AllocationProps extends SpaceProps {
  space: Space;
  index: number;
  overlay: SpaceOverlay;
  onPoint(at: Pointed | null): void;
}

function Allocation(props: AllocationProps) {
  const { space, index, trace, theme, allocation, block, overlay } = props;
  const { name, bytes, firstBlock, blocks } = trace.allocations[index];
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    if (canvas.current !== null) {
      paintBlocks({ canvas: canvas.current, space, first: firstBlock, blocks, theme, overlay });
    }
  }, [space, theme, firstBlock, blocks, overlay]);
  const layout = layoutOf(blocks);
  const { cell, perRow } = layout;
  const size = { width: `${layout.columns * cell}px`, height: `${layout.rows * cell}px` };
  const chosen = allocation === index ? block : -1;
  const at = (event: MouseEvent): number => blockAtPoint(layout, blocks, event.offsetX, event.offsetY);
  const key = (event: KeyboardEvent): void => {
    const from = Math.max(0, chosen);
    const to = blockByKey(layout, blocks, from, event.key);
    if (event.key === 'Enter') props.onOpen(index, from);
    else if (to === null) return;
    else props.onBlock(index, to);
    event.preventDefault();
  };
  const text = chosen >= 0 ? `block ${chosen}, ${blockText(space, firstBlock + chosen)}` : `${blocks} blocks of 2 MiB`;
  return (
    <figure class="allocation">
      <figcaption>
        <strong>{name}</strong> {(bytes / 2 ** 20).toLocaleString('en', { maximumFractionDigits: 2 })} MiB
      </figcaption>
      <div class="blocks" style={size}>
        <canvas
          ref={canvas}
          style={size}
          role="slider"
          tabIndex={0}
          aria-label={`blocks of ${name}`}
          aria-valuemin={0}
          aria-valuemax={blocks - 1}
          aria-valuenow={Math.max(0, chosen)}
          aria-valuetext={text}
          onKeyDown={key}
          onClick={(event) => at(event) >= 0 && props.onBlock(index, at(event))}
          onDblClick={(event) => at(event) >= 0 && props.onOpen(index, at(event))}
          onMouseMove={(event) => props.onPoint(at(event) < 0 ? null : { allocation: index, block: at(event) })}
          onMouseLeave={() => props.onPoint(null)}
        />
        {chosen >= 0 && (
          <div
            class="chosen"
            style={{
              left: `${(chosen % perRow) * cell - 1}px`,
              top: `${Math.floor(chosen / perRow) * cell - 1}px`,
              width: `${cell + 2}px`,
              height: `${cell + 2}px`,
            }}
          />
        )}
      </div>
    </figure>
  );
}

function totalsOf({ pages, residents }: Space): number[] {
  const totals = residents.map(() => 0);
  for (let i = 0; i < pages.length; i++) totals[i % totals.length] += pages[i];
  return totals;
}

const OVERLAY_HINTS: Readonly<Record<Exclude<SpaceOverlay, 'residency'>, string>> = {
  faults: 'The darker, the more faults',
  moved: 'The darker, the more bytes moved',
  thrashing: 'The darker, the more thrashing',
};

export function SpaceView(props: SpaceProps) {
  const { backend, trace, theme, time, span, allocation, block, ask } = props;
  const [overlay, setOverlay] = useState<SpaceOverlay>('residency');
  const [pointed, setPointed] = useState<Pointed | null>(null);
  const asked = useAnswer(
    trace.allocations.length === 0 || !ask ? null : () => backend.space(trace.id, time, span),
    [backend, trace.id, ask, span, time],
    true,
  );
  if (trace.allocations.length === 0) return <Nothing>This trace names no allocations.</Nothing>;
  const at = pointed ?? { allocation, block };
  const its = trace.allocations[at.allocation];
  return (
    <Answered asked={asked}>
      {(space) => (
        <div class="space">
          <div class="space-head">
            <Choice
              label="what the map shows"
              of={SPACE_OVERLAYS}
              chosen={overlay}
              onChoose={(word) => setOverlay(word)}
            />
            {overlay === 'residency' ? (
              <Legend words={space.residents} counts={totalsOf(space)} theme={theme} letters />
            ) : (
              <span class="hint">
                {OVERLAY_HINTS[overlay]} within {spanText(span)} around the cursor.
              </span>
            )}
          </div>
          <p class="hint">
            Pages at {timeLabel(time, 1)}
            {overlay === 'residency' && `; the bar in a block: faults within ${spanText(span)} around`}.
            {space.known === 'inferred' && ' Concluded from events: pages that moved without one are not known.'}
          </p>
          <div class="allocations">
            {trace.allocations.map((_, index) => (
              <Allocation key={index} {...props} {...{ space, index, overlay, onPoint: setPointed }} />
            ))}
          </div>
          <p class="pointed" role="status">
            {its !== undefined &&
              at.block < its.blocks &&
              `${its.name}, block ${at.block}, ${blockText(space, its.firstBlock + at.block)}`}
          </p>
        </div>
      )}
    </Answered>
  );
}
