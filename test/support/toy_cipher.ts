/**
 * A cipher for tests that move many pages: fast, and no secret. But for secrecy it does what AES-GCM does: text and tag
 * depend on every bit of key, IV and text, so that an IV that the two sides do not agree upon is found.
 */
import type { AeadCipher } from '../../src/model/uvm/conf_computing_types.ts';

function mix(hash: number, bytes: Uint8Array): number {
  let h = hash;
  for (let i = 0; i < bytes.length; i++) h = Math.imul(h ^ bytes[i], 0x01000193);
  return h;
}

function tagOf(seed: number, text: Uint8Array): Uint8Array {
  const words = new Uint32Array(4);
  for (let i = 0; i < 4; i++) words[i] = mix(seed + i, i === 0 ? text : new Uint8Array(words.buffer, 0, 4 * i));
  return new Uint8Array(words.buffer);
}

function xor(seed: number, text: Uint8Array): Uint8Array {
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text[i] ^ (seed >>> (8 * (i % 4))) ^ i;
  return out;
}

export const toyCipher: AeadCipher = {
  seal(key, iv, plain) {
    const seed = mix(mix(0x811c9dc5, key), iv);
    const cipher = xor(seed, plain);
    return { cipher, tag: tagOf(seed, cipher) };
  },
  open(key, iv, cipher, tag) {
    const seed = mix(mix(0x811c9dc5, key), iv);
    return tagOf(seed, cipher).every((byte, i) => byte === tag[i]) ? xor(seed, cipher) : null;
  },
};
