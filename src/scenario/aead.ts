/** AES-256-GCM for machines with Confidential Computing: the model imports no packages, so it is given this. */
import { gcm } from '@noble/ciphers/aes.js';
import type { AeadCipher } from '../model/uvm/conf_computing_types.ts';

const TAG_BYTES = 16;

/** Keys of 32 bytes, IVs of 12, tags of 16. */
export const aesGcm: AeadCipher = {
  seal(key, iv, plain, aad) {
    const sealed = gcm(key, iv, aad).encrypt(plain);
    return { cipher: sealed.slice(0, -TAG_BYTES), tag: sealed.slice(-TAG_BYTES) };
  },
  open(key, iv, cipher, tag, aad) {
    const sealed = new Uint8Array(cipher.length + tag.length);
    sealed.set(cipher);
    sealed.set(tag, cipher.length);
    try {
      return gcm(key, iv, aad).decrypt(sealed);
    } catch {
      // The package tells a wrong tag by an error, and nothing else can be wrong here.
      return null;
    }
  },
};
