import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CopyAbiError, parseCopyAbi } from './copy_abi.ts';
import { copyIoctls, IOCTL } from './ioctls.ts';
import { decode, encode } from './layout.ts';

const EXAMPLE = readFileSync(new URL('../../../examples/copy-abi.json', import.meta.url), 'utf8');

/** The message for a description, as an object or as text. */
function refusal(description: unknown): string {
  try {
    parseCopyAbi(typeof description === 'string' ? description : JSON.stringify(description));
  } catch (error) {
    if (error instanceof CopyAbiError) return error.message.replace(/^copy ABI: /, '');
    throw error;
  }
  return 'taken';
}

const status = (fields: unknown, rest: object = {}) => ({ COPY_STATUS: { ...rest, fields } });

describe('a description', () => {
  it('of the example is the standard one, and so is an empty one', () => {
    expect(parseCopyAbi(EXAMPLE)).toEqual(copyIoctls());
    for (const empty of ['{}', '{ "COPY_STATUS": {} }', '{ "COPY_STATUS": { "fields": {} } }']) {
      expect(parseCopyAbi(empty)).toEqual(copyIoctls());
    }
    // The example says everything: each line of it counts.
    const example = JSON.parse(EXAMPLE);
    for (const call of Object.values(copyIoctls())) {
      const name = call.name.replace('UVM_', '');
      expect([example[name].number, example[name].size]).toEqual([call.number, call.params.size]);
      expect(Object.keys(example[name].fields)).toEqual(Object.keys(call.params.fields));
    }
  });

  it('changes numbers, sizes, places and small types, and nothing that it does not name', () => {
    const calls = parseCopyAbi(
      JSON.stringify({
        SET_NEXT_COPY_ADDRESS: { number: 81 },
        ...status({ state: { type: 'u16', offset: 46 }, copyStatus: { type: 'u32', offset: 16 } }, { size: 48 }),
      }),
    );
    expect(calls.SET_COPY_FROM_ADDRESS).toEqual(copyIoctls().SET_COPY_FROM_ADDRESS);
    expect(calls.SET_NEXT_COPY_ADDRESS).toEqual({ ...copyIoctls().SET_NEXT_COPY_ADDRESS, number: 81 });
    expect(calls.COPY_STATUS).toMatchObject({ name: 'UVM_COPY_STATUS', number: 3003, device: 'uvm' });
    const bytes = encode(calls.COPY_STATUS.params, { token: 5, state: 0x102, copyStatus: 7 });
    expect([bytes.length, bytes[0], bytes[16], bytes[46], bytes[47]]).toEqual([48, 5, 7, 2, 1]);
    expect(decode(calls.COPY_STATUS.params, bytes)).toMatchObject({ token: 5n, state: 0x102, copyStatus: 7 });
  });
});

describe('a mistake', () => {
  it('in a number is named with what is valid', () => {
    const number = (value: unknown) => refusal({ COPY_STATUS: { number: value } });
    const stock = [1, 80, 200, 314, 2047, 0x30000001, 0x30000002];
    for (const taken of stock) {
      expect(number(taken)).toBe(
        `COPY_STATUS.number: ${taken}; expected a number that the stock driver does not use: ` +
          'a whole number from 1 to 4294967295 other than 1-80, 200-314, 2047, 0x30000001, 0x30000002',
      );
    }
    for (const { number: value } of Object.values(IOCTL)) expect(number(value)).toContain('the stock driver');
    for (const free of [81, 199, 315, 2046, 2048, 0x30000000, 0x30000003, 4294967295]) {
      expect(number(free)).toBe('taken');
    }
    expect(number(0x5451)).toContain('a number that Linux does not use');
    for (const bad of [0, -1, 1.5, 4294967296, '3003', null]) {
      expect(number(bad)).toBe(
        `COPY_STATUS.number: ${JSON.stringify(bad)}; expected a whole number from 1 to 4294967295`,
      );
    }
    expect(number(3001)).toBe('COPY_STATUS.number: 3001; expected another number than SET_COPY_FROM_ADDRESS has');
  });

  it.each([
    ['{', 'not JSON: '],
    ['[]', 'the file: []; expected an object'],
    ['null', 'the file: null; expected an object'],
    [{ COPY: {} }, 'COPY: {}; expected no such field, but one of SET_COPY_FROM_ADDRESS, SET_NEXT_COPY_ADDRESS, COPY_S'],
    [{ COPY_STATUS: 3003 }, 'COPY_STATUS: 3003; expected an object'],
    [{ COPY_STATUS: { nr: 1 } }, 'COPY_STATUS.nr: 1; expected no such field, but one of number, size, fields'],
    [{ COPY_STATUS: { size: 0 } }, 'COPY_STATUS.size: 0; expected a whole number from 1 to 4096'],
    [{ COPY_STATUS: { size: 4097 } }, 'COPY_STATUS.size: 4097; expected a whole number from 1 to 4096'],
    [
      { COPY_STATUS: { size: 39 } },
      'COPY_STATUS.fields.trackingSemaphoreValue.offset: 32; expected a whole number from 0 to 31, ' +
        'since a u64 must end within the 39 bytes of COPY_STATUS.size',
    ],
    [
      status({ token: { type: 'u64', offset: 0 } }, { size: 4 }),
      'COPY_STATUS.fields.token.offset: 0; expected a size of at least 8',
    ],
    [
      status({ address: { type: 'u64', offset: 0 } }),
      'COPY_STATUS.fields.address: {"type":"u64","offset":0}; expected no such field, but one of token, flags,',
    ],
    [
      status({ token: { type: 'u64', offset: 0, size: 8 } }),
      'COPY_STATUS.fields.token.size: 8; expected no such field, but one of type, offset',
    ],
    [status({ token: { type: 'u32', offset: 0 } }), 'COPY_STATUS.fields.token.type: "u32"; expected u64'],
    [
      status({ state: { type: 'u64', offset: 0 } }),
      'COPY_STATUS.fields.state.type: "u64"; expected one of u8, u16, u32',
    ],
    [status({ token: { type: 'u64' } }), 'COPY_STATUS.fields.token.offset: nothing; expected a whole number from 0'],
    [status({ token: { offset: 0 } }), 'COPY_STATUS.fields.token.type: nothing; expected u64'],
    [
      status({ token: { type: 'u64', offset: -1 } }),
      'COPY_STATUS.fields.token.offset: -1; expected a whole number from',
    ],
    [status({ token: 0 }), 'COPY_STATUS.fields.token: 0; expected an object'],
    [
      status({ flags: { type: 'u8', offset: 15 } }),
      'COPY_STATUS.fields.flags.offset: 15; expected a byte that rmStatus does not take: it ends at byte 16',
    ],
    [
      status({ flags: { type: 'u32', offset: 7 } }),
      'COPY_STATUS.fields.flags.offset: 7; expected a byte that token does not take: it ends at byte 8',
    ],
  ])('%j', (description, message) => {
    expect(refusal(description)).toContain(message);
  });
});
