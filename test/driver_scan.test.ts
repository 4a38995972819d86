import { describe, expect, it } from 'vitest';
import { modelFieldPlaces, modelName, modelPlaces, symbolsOf } from '../scripts/driver-model.mjs';
import { scan, stripComments, tokenize } from '../scripts/driver-scan.mjs';

const lines = (...all: string[]): string => all.join('\n');
const root = new URL('..', import.meta.url).pathname;

describe('functions', () => {
  it('have the first line of their head, the last of their body, and their calls', () => {
    const text = lines(
      '// int not_one(void) {',
      'static NV_STATUS first(int a,',
      '                       struct b *c)',
      '{',
      '    char brace = \'{\'; const char *s = "} second(";',
      '    if (a)',
      '        return outer(inner(a), table->member(c));',
      '    for (;;) { sizeof(a); }',
      '}',
      '',
      'void second(void) { first(1, 0); }',
    );
    expect(scan(text).functions).toEqual([
      {
        name: 'first',
        from: 2,
        to: 9,
        conditional: false,
        calls: [
          { name: 'inner', line: 7 },
          { name: '.member', line: 7 },
          { name: 'outer', line: 7 },
        ],
      },
      { name: 'second', from: 11, to: 11, conditional: false, calls: [{ name: 'first', line: 11 }] },
    ]);
  });

  it('are no prototypes, initialisers, or macros before them', () => {
    const text = lines(
      'int prototype(int a);',
      'static int table[] = { call(1), 2 };',
      'static struct ops ops = {',
      '    .open = my_open,',
      '};',
      'MODULE_THING(x)',
      'int real(void)',
      '{',
      '}',
    );
    expect(scan(text).functions.map(({ name, from, to }) => [name, from, to])).toEqual([['real', 7, 9]]);
  });

  it('under a condition say so, and both sides of it count', () => {
    const text = lines(
      '#ifndef GUARD_H',
      '#define GUARD_H',
      'int plain(void) { return 0; }',
      '#if defined(A)',
      'int either(void) { return 1; }',
      '#else',
      'int either(void) { return 2; }',
      '#endif',
      '#endif',
    );
    expect(scan(text).functions.map(({ name, from, conditional }) => [name, from, conditional])).toEqual([
      ['plain', 3, false],
      ['either', 5, true],
      ['either', 7, true],
    ]);
  });

  it('end where they end although both sides of a condition open a bracket', () => {
    const text = lines(
      'int split(int a)',
      '{',
      '#if A',
      '    if (a) {',
      '#else',
      '    if (!a) {',
      '#endif',
      '        call();',
      '    }',
      '    return 0;',
      '}',
      'int next(void) { return 0; }',
    );
    expect(scan(text).functions.map(({ name, from, to }) => [name, from, to])).toEqual([
      ['split', 1, 11],
      ['next', 12, 12],
    ]);
  });

  it('are found behind extern "C", and macros of several lines are no code', () => {
    const text = lines(
      '#ifdef __cplusplus',
      'extern "C" {',
      '#endif',
      '#define OPEN(x) \\',
      '    do { \\',
      '        if (x) {',
      'int real(void) { return 0; }',
      '#ifdef __cplusplus',
      '}',
      '#endif',
    );
    expect(scan(text).functions.map(({ name, from }) => [name, from])).toEqual([['real', 7]]);
  });
});

describe('types', () => {
  it('have their fields, those of unnamed structures with the way to them', () => {
    const text = lines(
      'struct outer_struct',
      '{',
      '    int a, *b[4];',
      '    struct',
      '    {',
      '        NvU32 get; // a comment; with a semicolon',
      '    } buffer;',
      '    struct { int lent; };',
      '    DECLARE_BITMAP(bits, 64);',
      '    void (*call)(int x, int y);',
      '    NvU32 narrow : 4;',
      '};',
    );
    const [type] = scan(text).types;
    expect([type.name, type.kind, type.from, type.to]).toEqual(['outer_struct', 'struct', 1, 12]);
    expect(type.fields).toEqual([
      { name: 'a', line: 3 },
      { name: 'b', line: 3 },
      { name: 'buffer', line: 7 },
      { name: 'buffer.get', line: 6 },
      { name: 'lent', line: 8 },
      { name: 'bits', line: 9 },
      { name: 'call', line: 10 },
      { name: 'narrow', line: 11 },
    ]);
  });

  it('have the name of their typedef, and the named ones inside count too', () => {
    const text = lines(
      'typedef struct',
      '{',
      '    struct inner_struct',
      '    {',
      '        int x;',
      '    } in;',
      '} outer_t;',
    );
    expect(scan(text).types.map(({ name, from, to }) => [name, from, to])).toEqual([
      ['outer_t', 1, 7],
      ['inner_struct', 3, 6],
    ]);
  });

  it('of enumerations have their values', () => {
    const text = lines('typedef enum', '{', '    FIRST = (1 << 2),', '    SECOND,', '    LAST = FIRST', '} some_t;');
    expect(scan(text).types[0].fields).toEqual([
      { name: 'FIRST', line: 3 },
      { name: 'SECOND', line: 4 },
      { name: 'LAST', line: 5 },
    ]);
  });
});

it('module parameters are found by their macro', () => {
  const text = lines('static int knob = 3;', 'module_param(knob, int, S_IRUGO);', 'MODULE_PARM_DESC(knob, "x");');
  expect(scan(text).parameters).toEqual([{ name: 'knob', line: 2 }]);
});

it('comments and strings go, lines stay', () => {
  const text = lines('a /* b', 'c */ d // e', '"f\\"g" h');
  expect(stripComments(text).split('\n').length).toBe(3);
  expect(tokenize(text).map((token) => `${token.line} ${token.text}`)).toEqual(['1 a', '2 d', '3 0', '3 h']);
});

describe('places in the model', () => {
  it('follow the rule of names', () => {
    expect(modelName('uvm_va_block_select_residency')).toBe('vaBlockSelectResidency');
    expect(modelName('_main_loop')).toBe('mainLoop');
    expect(modelName('nv_kthread_q_init_on_node')).toBe('nvKthreadQInitOnNode');
  });

  it('read functions with the words of their comments', () => {
    const found = symbolsOf('/** some_name: does. */\nexport function* other(a: number) {\n}\ninterface Third {\n}\n');
    expect(found.map(({ symbol, isType, comment }) => [symbol, isType, comment.has('some_name')])).toEqual([
      ['other', false, true],
      ['Third', true, false],
    ]);
  });

  it('prefer the name over a comment, and say which it was', () => {
    const names = new Set(['fuvm_va_block_map', 'fblock_populate_pages', 'fno_such_function', 'suvm_va_block_struct']);
    expect(modelPlaces(root, names)).toEqual({
      block_populate_pages: ['src/model/uvm/va_block_copy.ts', 'blockPopulatePages'],
      uvm_va_block_map: ['src/model/uvm/va_block_map.ts', 'vaBlockMap'],
      uvm_va_block_struct: ['src/model/uvm/va_block_types.ts', 'VaBlock'],
    });
    expect(modelPlaces(root, new Set(['fblock_service_finish_map'])).block_service_finish_map).toEqual([
      'src/model/uvm/va_block_service.ts',
      'finishMap',
      'comment',
    ]);
  });

  it('know fields, values and members of tables of functions', () => {
    const places = modelFieldPlaces(root, [
      'uvm_fault_buffer_t.replayable.cached_get',
      'uvm_channel_type_t.UVM_CHANNEL_TYPE_MEMOPS',
      'uvm_fault_buffer_hal_struct.read_get',
      'uvm_va_space_struct.lock',
    ]);
    expect(places.cached_get).toEqual(['src/model/uvm/gpu_replayable_faults_types.ts', 'ReplayableFaults.cachedGet']);
    expect(places.UVM_CHANNEL_TYPE_MEMOPS).toEqual(['src/model/uvm/channel.ts', 'CHANNEL_TYPE_MEMOPS']);
    expect(places['uvm_fault_buffer_hal_struct.read_get']).toEqual([
      'src/model/uvm/volta_fault_buffer.ts',
      'faultBufferHalReadGet',
    ]);
    expect(places.lock).toBeUndefined();
  });
});
