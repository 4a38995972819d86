/** What the command `parameters` does. */
import { MODULE_PARAMETERS, type NumericParameter, type TextParameter } from '../model/uvm/params.ts';
import { EXIT_OK, UsageError } from './command.ts';
import { colorsFor, table } from './text.ts';

type Parameter = NumericParameter | TextParameter;

const UINT_MAX = 0xffffffff;

/** What the driver accepts, and what it makes of the rest. */
function validText(info: Parameter): string {
  if (info.type === 'charp') return `${info.choices.join(', ')}; else the default`;
  if (info.type === 'bool') return 'Y or N';
  if (info.range === null) return `any ${info.type}`;
  const { min, max, outside } = info.range;
  const range = max === UINT_MAX ? `from ${min}` : `${min} to ${max}`;
  return `${range}; else the ${outside === 'clamp' ? 'nearest' : 'default'}`;
}

/** Prints the parameters whose names contain `part` and returns the exit code. */
export function listParameters(part: string, json: boolean): number {
  const all: [string, Parameter][] = Object.entries(MODULE_PARAMETERS);
  const chosen = all.filter(([name]) => name.includes(part));
  if (chosen.length === 0) throw new UsageError(`no module parameter has "${part}" in its name`);
  if (json) {
    process.stdout.write(`${JSON.stringify(Object.fromEntries(chosen), null, 2)}\n`);
    return EXIT_OK;
  }
  const colors = colorsFor(process.stdout);
  const rows = chosen.map(([name, info]) => [name, String(info.default), validText(info), colors.dim(info.file)]);
  const header = ['parameter', 'default', 'valid', 'driver file'].map((cell) => colors.dim(cell));
  process.stdout.write(table([header, ...rows], 'lrll'));
  return EXIT_OK;
}
