/** The command `parameters`: the module parameters that a scenario or `--param` can set. */
import type { Command } from 'commander';

const EXAMPLES = `
Examples:
  uvmlab parameters
  uvmlab parameters thrashing      those with "thrashing" in their names
  uvmlab parameters --json
`;

export function registerParameters(program: Command): void {
  program
    .command('parameters')
    .summary("list the driver's module parameters")
    .description("Lists the driver's module parameters with their defaults and valid values.")
    .argument('[PART]', 'only names that contain this')
    .option('--json', 'print them as JSON')
    .addHelpText('after', EXAMPLES)
    .action(async (part: string | undefined, options: { json?: boolean }) => {
      const { listParameters } = await import('./list_parameters.ts');
      process.exitCode = listParameters(part ?? '', options.json ?? false);
    });
}
