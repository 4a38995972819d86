/** The command `demo`. */
import type { Command } from 'commander';
import { EXIT_CODES } from './command.ts';

const EXAMPLES = `
Examples:
  uvmlab demo
`;

export function registerDemo(program: Command): void {
  program
    .command('demo')
    .summary('a first look: real histories, model and hardware side by side')
    .description(
      'Runs a few histories that were recorded on a real H200 and shows, side by side, what the hardware did and ' +
        'what the model does; then explains one fault.',
    )
    .addHelpText('after', EXAMPLES + EXIT_CODES)
    .action(async () => {
      const { runDemo } = await import('./run_demo.ts');
      process.exitCode = await runDemo();
    });
}
