/** The checks of the random histories with copies catch bugs of the copy routine: each one planted here must show. */
import { describe, expect, it } from 'vitest';
import type { CopyBounce, CopyRecord } from '../src/model/copy_routine/types.ts';
import { METHOD_COPY_OUT, METHOD_WORDS } from '../src/model/gpu/methods.ts';
import type { Model, Seams } from '../src/model/state.ts';
import { confComputingOf, dmaBufferFree } from '../src/model/uvm/conf_computing.ts';
import { PURPOSE_COPY_OUT } from '../src/model/uvm/push.ts';
import type { ServiceBlockContext } from '../src/model/uvm/va_block_types.ts';
import type { Why } from '../src/model/why.ts';
import { withConfidentialComputing } from './histories/check.ts';
import { checkCopySeed, type HistoryChange } from './histories/copies.ts';

const SEEDS_MAX = 300;
/** Words of a pending entry and of a ring entry, as gpu/host.ts lays them out. */
const PENDING_WORDS = 3;
const RING_BUFFER = 3;
const RING_LENGTH = 4;

function observe(m: Model, more: (before: Why) => Partial<Why>): void {
  if (m.res.why !== null) m.res.why = { ...m.res.why, ...more(m.res.why) };
}

/** Calls `act` with each record right after the push that copies for it was ended. */
function afterPush(m: Model, act: (token: number, channel: number, value: number) => void): void {
  let last = { channel: -1, value: -1 };
  observe(m, (before) => ({
    push: (purpose, gpu, channel, value, ...rest) => {
      before.push(purpose, gpu, channel, value, ...rest);
      if (purpose === PURPOSE_COPY_OUT) last = { channel, value };
    },
    copyStage: (token, stage, time, detail) => {
      before.copyStage?.(token, stage, time, detail);
      if (stage === 'push') act(token, last.channel, last.value);
    },
  }));
}

/** Forgets an entry in the trackers of all blocks. */
function forget(m: Model, channel: number, value: number): void {
  for (const space of m.vaSpaces) {
    for (const range of space.ranges) {
      for (const block of range.blocks) {
        for (let i = 0; block !== null && i < block.tracker.length; i += 2) {
          if (block.tracker[i] !== channel || block.tracker[i + 1] !== value) continue;
          block.tracker.splice(i, 2);
          return;
        }
      }
    }
  }
}

/** Edits the methods of a push that copies, once it was ended. */
function editCopies(m: Model, edit: (words: Float64Array, at: number) => void): void {
  observe(m, (before) => ({
    push: (purpose, gpu, channel, ...rest) => {
      before.push(purpose, gpu, channel, ...rest);
      if (purpose !== PURPOSE_COPY_OUT) return;
      const { host } = m.gpus[gpu].channelManager;
      const index = channel % 64;
      for (let at = host.pendingTail - PENDING_WORDS; at >= host.pendingHead; at -= PENDING_WORDS) {
        if (host.pending[at + 1] !== index) continue;
        const { ring } = host.channels[index];
        const entry = host.pending[at + 2];
        const words = host.memory.buffers[ring[entry + RING_BUFFER]];
        for (let i = 0; i < ring[entry + RING_LENGTH]; i += METHOD_WORDS[words[i]]) {
          if (words[i] === METHOD_COPY_OUT) edit(words, i);
        }
        return;
      }
    },
  }));
}

const PLANTS: Readonly<Record<string, (m: Model) => void>> = {
  'the hook runs before the residency update': (m) => {
    const hook = m.res.seams.serviceFinishHook;
    const decide = m.res.seams.selectResidency;
    let last: { context: ServiceBlockContext; processor: number } | null = null;
    const remember: Seams['selectResidency'] = (model, block, context, page, processor, access, hint, operation) => {
      last = { context, processor };
      return decide(model, block, context, page, processor, access, hint, operation);
    };
    m.res.seams.selectResidency = remember;
    m.res.seams.serviceFinishHook = null;
    observe(m, (before) => ({
      makeResident: (block, destination, words, offset, cause, duplicate) => {
        before.makeResident?.(block, destination, words, offset, cause, duplicate);
        if (last !== null) hook?.(m, block, last.context, last.processor, destination);
      },
    }));
  },
  "the copy's push is not added to the block's tracker": (m) => {
    afterPush(m, (_token, channel, value) => forget(m, channel, value));
  },
  'the pin is released before the copy has ended': (m) => {
    afterPush(m, (token) => m.res.why?.copyStage?.(token, 'released', m.k.now, { pages: 0 }));
  },
  'another page is copied': (m) => {
    editCopies(m, (words, at) => {
      words[at + 2]++;
    });
  },
  'the last byte is left out': (m) => {
    editCopies(m, (words, at) => {
      words[at + 6]--;
    });
  },
  'the copy does not wait for what the block waits for': (m) => {
    observe(m, (before) => ({
      copyStage: (token, stage, time, detail) => {
        before.copyStage?.(token, stage, time, detail);
        if (stage !== 'claimed') return;
        for (const range of m.vaSpaces[0].ranges)
          for (const block of range.blocks) if (block !== null) block.tracker.length = 0;
      },
    }));
  },
  'a stale fault is said to give a snapshot': (m) => {
    observe(m, (before) => ({
      copyStage: (token, stage, time, detail) => {
        before.copyStage?.(token, stage, time, detail);
        const record = m.vaSpaces[0].copy.records[token - 1];
        if (stage === 'released' && record !== undefined && record.form === 2 && record.how === 3)
          record.snapshot = true;
      },
    }));
  },
  'an armed copy stays armed when it was taken': (m) => {
    observe(m, (before) => ({
      copyStage: (token, stage, time, detail) => {
        before.copyStage?.(token, stage, time, detail);
        if (stage === 'push' && m.vaSpaces[0].copy.records[token - 1]?.form === 2) m.vaSpaces[0].copy.armed = token;
      },
    }));
  },
  'a copy changes where the driver has a page': (m) => {
    observe(m, (before) => ({
      copyStage: (token, stage, time, detail) => {
        before.copyStage?.(token, stage, time, detail);
        if (stage === 'push') m.vaSpaces[0].ranges[0].blocks[0]?.w.fill(0, 0, 1);
      },
    }));
  },
};

/** Calls `act` with the staging buffers of a copy right after a push that encrypts for it was ended. */
function afterEncryption(m: Model, act: (record: CopyRecord, bounce: CopyBounce) => void): void {
  observe(m, (before) => ({
    copyStage: (token, stage, time, detail) => {
      before.copyStage?.(token, stage, time, detail);
      const record = m.vaSpaces[0].copy.records[token - 1];
      const bounce = record?.bounces[record.bounces.length - 1];
      if (stage === 'push' && record !== undefined && bounce !== undefined) act(record, bounce);
    },
  }));
}

/** Bugs that need Confidential Computing. */
const SECURE_PLANTS: Readonly<Record<string, (m: Model) => void>> = {
  'a staging buffer is not given back': (m) => {
    afterEncryption(m, (record) => {
      record.bounces = [];
    });
  },
  'a staging buffer is given back while it is still needed': (m) => {
    afterEncryption(m, (_record, { gpu, buffer }) => dmaBufferFree(m, gpu, buffer, null));
  },
  'the pages are decrypted to the page behind their own': (m) => {
    afterEncryption(m, (_record, bounce) => {
      bounce.startPage++;
    });
  },
  'the last page is not decrypted': (m) => {
    afterEncryption(m, (_record, bounce) => {
      bounce.pages.pop();
    });
  },
  'the IV of a page is that of another': (m) => {
    afterEncryption(m, (_record, { gpu, buffer, pages }) => {
      confComputingOf(m.gpus[gpu].channelManager).dma.buffers[buffer].decryptIv[pages[0]]++;
    });
  },
};

/** First seed that fails with the bug and passes without it, and what it says. */
function firstCatch(plant: (m: Model) => void, change?: HistoryChange): string | null {
  for (let seed = 1; seed <= SEEDS_MAX; seed++) {
    const failure = checkCopySeed(seed, new Map(), plant, change);
    if (failure === null) continue;
    return checkCopySeed(seed, new Map(), undefined, change) === null ? failure : null;
  }
  return null;
}

describe('planted bugs of the copy routine', () => {
  for (const [name, plant] of Object.entries(PLANTS)) {
    it(`${name}: caught`, { timeout: 120_000 }, () => {
      const caught = firstCatch(plant);
      if (process.env['COPY_PLANTS'] !== undefined) console.log(`${name}: ${caught}`);
      expect(caught).not.toBeNull();
    });
  }

  for (const [name, plant] of Object.entries(SECURE_PLANTS)) {
    it(`${name}, with Confidential Computing: caught`, { timeout: 120_000 }, () => {
      const caught = firstCatch(plant, withConfidentialComputing);
      if (process.env['COPY_PLANTS'] !== undefined) console.log(`${name}: ${caught}`);
      expect(caught).not.toBeNull();
    });
  }
});
