/**
 * The import table of src/: rooms may import the rooms before them, never the ones after.
 * Run by `npm run check:imports` (scripts/check-imports.mjs), which also fails when nothing was cruised.
 */

/** In order: a room may import any room to its left. */
const ROOMS = ['base', 'model', 'device', 'scenario', 'trace', 'analysis', 'explorer', 'live', 'cli'];

const TEST = '\\.test\\.ts$';
const STATE = '^src/model/state\\.ts$';
const PACKAGES = ['npm', 'npm-dev', 'npm-optional', 'npm-peer', 'npm-bundled', 'npm-no-pkg', 'npm-unknown'];

const roomRules = ROOMS.slice(0, -1).map((room, i) => ({
  name: `room-${room}`,
  comment: `src/${room} comes before ${ROOMS.slice(i + 1).join(', ')}: move the shared part down, or pass it in as a parameter.`,
  severity: 'error',
  from: { path: `^src/${room}/` },
  to: { path: `^src/(${ROOMS.slice(i + 1).join('|')})/` },
}));

/** Inside the model: each layer may import the ones named, and of the model's root only the type of the state. */
const layerRules = [
  ['kernel', ['kernel']],
  ['gpu', ['kernel', 'gpu']],
  ['uvm', ['kernel', 'gpu', 'uvm']],
  ['copy_routine', ['kernel', 'gpu', 'uvm', 'copy_routine']],
].flatMap(([layer, allowed]) => [
  {
    name: `model-${layer}`,
    comment: `Of src/model, src/model/${layer} imports ${allowed.join(', ')} and the type of the root state; nothing else.`,
    severity: 'error',
    from: { path: `^src/model/${layer}/`, pathNot: TEST },
    to: { path: '^src/model/', pathNot: [`^src/model/(${allowed.join('|')})/`, STATE] },
  },
  {
    name: `model-${layer}-state-type-only`,
    comment: `src/model/state.ts lends its types alone to src/model/${layer}: write \`import type\`.`,
    severity: 'error',
    from: { path: `^src/model/${layer}/`, pathNot: TEST },
    to: { path: STATE, dependencyTypesNot: ['type-only'] },
  },
]);

module.exports = {
  forbidden: [
    ...roomRules,
    ...layerRules,
    {
      name: 'no-node-in-model',
      comment:
        'src/base, src/model, src/device (but for src/device/linux) and src/scenario also run in a browser: no Node modules; do the I/O in src/cli.',
      severity: 'error',
      from: { path: '^src/(base|model|device|scenario)/', pathNot: [TEST, '^src/device/linux/'] },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'no-node-in-explorer',
      comment:
        'A page runs src/explorer: no Node modules, here or in what it imports (npm run check:browser finds those); src/explorer/server may.',
      severity: 'error',
      from: { path: '^src/explorer/', pathNot: [TEST, '^src/explorer/server/'] },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'explorer-without-server',
      comment: 'src/explorer/server serves what is in src/explorer, which knows nothing of it.',
      severity: 'error',
      from: { path: '^src/explorer/', pathNot: [TEST, '^src/explorer/server/'] },
      to: { path: '^src/explorer/server/' },
    },
    {
      name: 'page',
      comment:
        'web/ is the page: of src/ it imports src/explorer and what that hands on; nothing of src/ imports web/.',
      severity: 'error',
      from: { path: '^web/', pathNot: [TEST, '^web/support/'] },
      to: { path: '^src/', pathNot: '^src/explorer/(?!server/)' },
    },
    {
      name: 'no-page-in-src',
      comment: 'web/ is built into dist/web; the server reads it from there.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^web/' },
    },
    {
      name: 'no-packages-in-model',
      comment: 'src/base and src/model stand alone: no npm packages.',
      severity: 'error',
      from: { path: '^src/(base|model)/', pathNot: TEST },
      to: { dependencyTypes: PACKAGES },
    },
    {
      name: 'no-dev-packages',
      comment: 'What src/ needs at run time belongs in "dependencies" of package.json.',
      severity: 'error',
      from: { path: '^src/', pathNot: TEST },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['npm', 'npm-peer'] },
    },
    {
      name: 'no-cycles',
      comment:
        'A cycle of imports that survives compilation: split the file, or make one direction a type-only import.',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'no-import-of-tests',
      comment: 'Tests are leaves: move shared helpers into a file that is no test.',
      severity: 'error',
      from: {},
      to: { path: [TEST, '^test/'], pathNot: '^test/support/' },
    },
    {
      name: 'no-way-out-of-src',
      comment: 'src/ imports nothing from test/, bench/ or scripts/: they are not in the package.',
      severity: 'error',
      from: { path: '^src/', pathNot: TEST },
      to: { path: '^(test|bench|scripts)/' },
    },
    {
      name: 'index-is-for-users',
      comment: 'src/index.ts is the door of the package: inside, import the file itself.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^src/index\\.ts$' },
    },
    {
      name: 'index-without-cli',
      comment: 'The library does not bring the command with it.',
      severity: 'error',
      from: { path: '^src/index\\.ts$' },
      to: { path: '^src/cli/' },
    },
    {
      name: 'no-unresolvable',
      comment: 'The import leads nowhere: check the path and its .ts extension.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      extensions: ['.ts', '.mjs', '.js', '.json', '.d.ts'],
    },
  },
};
