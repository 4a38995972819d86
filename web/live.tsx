/** A scenario that is written in the page and run by the model in the page's worker. */
import { useState } from 'preact/hooks';
import twoSides from '../examples/two-sides.json';
import type { Backends } from './backends.ts';
import { Failure, Panel } from './panels.tsx';

interface LiveProps {
  backends: Backends;
  /** A trace is there. */
  onTrace(id: string): void;
}

const MIB = 2 ** 20;

/** Scenarios to begin with. */
const EXAMPLES: readonly { name: string; scenario: unknown }[] = [
  { name: 'both sides: faults, prefetch, read duplication, thrashing', scenario: twoSides },
  {
    name: 'one GPU reads what the CPU wrote',
    scenario: {
      name: 'gpu-reads',
      machine: 'h200-pcie5',
      allocations: [{ name: 'a', bytes: 4 * MIB }],
      steps: [
        { on: 'cpu', do: 'write', buffer: 'a', offset: 0, length: 4 * MIB, stride: 4096 },
        { on: 'gpu0', do: 'read', buffer: 'a', offset: 0, length: 4 * MIB, stride: 4096 },
      ],
    },
  },
  {
    name: 'the same without the prefetch tree',
    scenario: {
      name: 'gpu-reads-no-tree',
      machine: 'h200-pcie5',
      parameters: { uvm_perf_prefetch_enable: 0 },
      allocations: [{ name: 'a', bytes: MIB }],
      steps: [
        { on: 'cpu', do: 'write', buffer: 'a', offset: 0, length: MIB, stride: 4096 },
        { on: 'gpu0', do: 'read', buffer: 'a', offset: 0, length: MIB, stride: 4096 },
      ],
    },
  },
  {
    name: 'two GPUs write the same pages in turn',
    scenario: {
      name: 'two-gpus',
      machine: '2xh200-nvlink',
      allocations: [{ name: 'a', bytes: 2 * MIB }],
      steps: [0, 1, 0, 1].map((gpu) => ({
        on: `gpu${gpu}`,
        do: 'write',
        buffer: 'a',
        offset: 0,
        length: 2 * MIB,
        stride: 65_536,
      })),
    },
  },
];

/** JSON as people write scenarios: an allocation or a step is a line. */
function text(scenario: unknown): string {
  const line = (value: unknown): string =>
    JSON.stringify(value, null, 1).replace(/\n\s*/g, ' ').replace(/\[ /g, '[').replace(/ \]/g, ']');
  const fields = Object.entries(scenario as Record<string, unknown>).map(([name, value]) => {
    const lines = Array.isArray(value) ? `[\n    ${value.map(line).join(',\n    ')}\n  ]` : line(value);
    return `  ${JSON.stringify(name)}: ${lines}`;
  });
  return `{\n${fields.join(',\n')}\n}\n`;
}

export function LiveView({ backends, onTrace }: LiveProps) {
  const [scenario, setScenario] = useState(text(EXAMPLES[0].scenario));
  const [running, setRunning] = useState<string | null>(null);
  const [error, setError] = useState<string | null>(null);
  const run = async (): Promise<void> => {
    setError(null);
    setRunning('running…');
    try {
      const id = await backends.start(scenario, (done, steps) => setRunning(`${done} of ${steps} steps`));
      onTrace(id);
    } catch (failure) {
      setError(failure instanceof Error ? failure.message : String(failure));
    } finally {
      setRunning(null);
    }
  };
  return (
    <Panel title="Run the model" class="grow live-view">
      <p class="hint">
        The model of the driver runs in this page, and what it does opens as a trace. The format is the one that uvmlab
        run takes.
      </p>
      <div class="live-tools">
        <label>
          begin with{' '}
          <select
            onChange={(event) => setScenario(text(EXAMPLES[Number(event.currentTarget.value)].scenario))}
            aria-label="an example to begin with"
          >
            {EXAMPLES.map(({ name }, i) => (
              <option key={name} value={i}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <button type="button" class="primary" onClick={() => void run()} disabled={running !== null}>
          Run
        </button>
        <span role="status">{running}</span>
      </div>
      {error !== null && <Failure error={error} />}
      <textarea
        class="scenario"
        aria-label="scenario as JSON"
        spellcheck={false}
        value={scenario}
        onInput={(event) => setScenario(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) void run();
        }}
      />
    </Panel>
  );
}
