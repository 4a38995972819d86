/** What is selected: an event with all that it has, and where it leads. */
import type { RowDetail, TraceSummary } from '../src/explorer/api.ts';
import { Answered, type Asked } from './panels.tsx';
import { spanText, timeLabel } from './scale.ts';

interface DetailProps {
  asked: Asked<RowDetail> | null;
  trace: TraceSummary;
  onRow(row: number): void;
  onWalk(fault: number): void;
  onBlock(allocation: number, block: number, time: number): void;
  onZoom(begin: number, end: number): void;
}

/** What a trace is, where nothing is selected. */
function About({ trace }: { trace: TraceSummary }) {
  const { info } = trace;
  const facts: [string, string | null][] = [
    ['origin', info.source],
    ['machine', info.machine],
    ['driver', info.driver],
    ['events', trace.rows.toLocaleString('en')],
    ['time', spanText(trace.end - trace.begin)],
    ['clock', info.clock],
    ['residency', trace.residency],
    ['lost', Object.keys(info.dropped).length === 0 ? null : JSON.stringify(info.dropped)],
  ];
  return (
    <>
      <dl class="fields">
        {facts.map(([name, value]) =>
          value === null ? null : (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ),
        )}
      </dl>
      {info.notes.map((note) => (
        <p key={note} class="hint">
          {note}
        </p>
      ))}
      <p class="hint">Click an event, or go through a lane with n and p.</p>
    </>
  );
}

export function Detail({ asked, trace, onRow, onWalk, onBlock, onZoom }: DetailProps) {
  if (asked === null) return <About trace={trace} />;
  return (
    <Answered asked={asked}>
      {(row) => (
        <>
          <p class="detail-title">{row.title}</p>
          <p class="hint">
            {timeLabel(row.begin, 1)}
            {row.end > row.begin ? `, for ${spanText(row.end - row.begin)}` : ''}
          </p>
          <div class="step-buttons">
            {row.fault !== null && trace.noWalk === null && (
              <button type="button" class="primary" onClick={() => onWalk(row.fault as number)}>
                walk through fault {row.fault}
              </button>
            )}
            {row.place !== null && (
              <button
                type="button"
                onClick={() => row.place && onBlock(row.place.allocation, row.place.block, row.begin)}
              >
                its block
              </button>
            )}
            <button
              type="button"
              onClick={() => {
                const air = Math.max(2000, (row.end - row.begin) * 2);
                onZoom(row.begin - air, row.end + air);
              }}
            >
              zoom to it
            </button>
          </div>
          <dl class="fields">
            {row.fields.map(({ name, value }) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
          {row.related.length === 0 ? null : (
            <>
              <h3>Belongs to</h3>
              <ul class="related">
                {row.related.map((one) => (
                  <li key={`${one.row} ${one.label}`}>
                    <button type="button" class="link" onClick={() => onRow(one.row)}>
                      {one.label}
                    </button>
                  </li>
                ))}
              </ul>
            </>
          )}
        </>
      )}
    </Answered>
  );
}
