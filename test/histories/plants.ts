/** Bugs to plant into a machine: each one changes a thing that the driver or the hardware would have done right. */
import { maskClear, maskNextSet, maskSet, maskTest, maskZero } from '../../src/base/page_mask.ts';
import { contentsForget } from '../../src/model/gpu/contents.ts';
import {
  METHOD_COPY,
  METHOD_COPY_SCATTERED,
  METHOD_MEMSET,
  METHOD_PTE,
  METHOD_REPLAY,
  METHOD_TIMESTAMP,
  METHOD_WORDS,
} from '../../src/model/gpu/methods.ts';
import { makePte, PTE_INVALID, PTE_LEVEL_4K } from '../../src/model/gpu/mmu.ts';
import type { Model } from '../../src/model/state.ts';
import { CPU_ID } from '../../src/model/uvm/processors.ts';
import { residentOffset, residentWords } from '../../src/model/uvm/va_block.ts';
import {
  B_CPU_READ,
  B_MAYBE_MAPPED,
  B_MM_PRESENT,
  B_READ_DUPLICATED,
  C_CHANGED_RESIDENCY,
  G_READ,
  type ServiceBlockContext,
  type VaBlock,
} from '../../src/model/uvm/va_block_types.ts';
import type { Why } from '../../src/model/why.ts';

type Plant = (m: Model) => void;

/** Words of a pending entry and of a ring entry, as gpu/host.ts lays them out. */
const PENDING_WORDS = 3;
const RING_BUFFER = 3;
const RING_LENGTH = 4;

const QUIET: Why = {
  enter: () => {},
  residency: () => {},
  prefetchLevel: () => {},
  prefetch: () => {},
  thrashing: () => {},
  push: () => {},
  copy: () => {},
  map: () => {},
};

/** Calls `edit` with each method of the push that was ended last on a GPU. */
function editLastPush(m: Model, gpu: number, channel: number, edit: (words: Float64Array, at: number) => void): void {
  const { host } = m.gpus[gpu].channelManager;
  for (let at = host.pendingTail - PENDING_WORDS; at >= host.pendingHead; at -= PENDING_WORDS) {
    if (host.pending[at + 1] !== channel) continue;
    const { ring } = host.channels[channel];
    const entry = host.pending[at + 2];
    const words = host.memory.buffers[ring[entry + RING_BUFFER]];
    for (let i = 0; i < ring[entry + RING_LENGTH]; i += METHOD_WORDS[words[i]]) edit(words, i);
    return;
  }
}

/** Spoils a method once: the first one that `edit` agrees to, at or after the third that it is asked about. */
function spoilMethod(edit: (words: Float64Array, at: number) => boolean): Plant {
  return (m) => {
    const before = m.res.why ?? QUIET;
    let asked = 0;
    let done = false;
    m.res.why = {
      ...before,
      push: (purpose, gpu, channel, value, begin, start, finish, methods) => {
        before.push(purpose, gpu, channel, value, begin, start, finish, methods);
        editLastPush(m, gpu, m.gpus[gpu].channelManager.channels[channel % 64].index, (words, at) => {
          if (!done && asked >= 2) done = edit(words, at);
          asked++;
        });
      },
    };
  };
}

type Spoil = (m: Model, block: VaBlock, page: number, processor: number, residency: number) => boolean;

/** Spoils the state of one page that has just changed place, once: the first for which `spoil` returns true. */
function spoilMoved(spoil: Spoil): Plant {
  return (m) => {
    let done = false;
    m.res.seams.serviceFinishHook = (
      model: Model,
      block: VaBlock,
      context: ServiceBlockContext,
      processor: number,
      residency: number,
    ) => {
      const w = context.blockContext.w;
      let page = maskNextSet(w, C_CHANGED_RESIDENCY, 0, block.n);
      while (!done && page < block.n) {
        done = spoil(model, block, page, processor, residency);
        page = maskNextSet(w, C_CHANGED_RESIDENCY, page + 1, block.n);
      }
    };
  };
}

function isCopy(op: number): boolean {
  return op === METHOD_COPY || op === METHOD_COPY_SCATTERED;
}

/** By name: what is broken. */
export const PLANTS: Readonly<Record<string, Plant>> = {
  'residency: a page goes to the CPU instead of the faulting GPU': (m) => {
    const decide = m.res.seams.selectResidency;
    m.res.seams.selectResidency = (model, block, context, page, processor, access, hint, operation) => {
      const right = decide(model, block, context, page, processor, access, hint, operation);
      return page % 7 === 3 ? CPU_ID : right;
    };
  },
  'residency: a read of a read-mostly page moves it instead of copying it': (m) => {
    const decide = m.res.seams.selectResidency;
    m.res.seams.selectResidency = (model, block, context, page, processor, access, hint, operation) => {
      const right = decide(model, block, context, page, processor, access, hint, operation);
      context.readDuplicate = false;
      return right;
    };
  },
  'mapping: a GPU entry is left behind after a move': spoilMethod((words, at) => {
    if (words[at] !== METHOD_PTE || words[at + 4] !== PTE_INVALID || words[at + 1] !== PTE_LEVEL_4K) return false;
    words[at + 3] = 0;
    return true;
  }),
  'mapping: a CPU entry is left behind after a move': spoilMoved((_m, block, page, _processor, residency) => {
    if (residency === CPU_ID) return false;
    maskSet(block.w, B_MM_PRESENT, page);
    return true;
  }),
  "mapping: the driver's mask keeps a mapping that is gone": spoilMoved((_m, block, page, processor) => {
    const other = block.gpus.find((_state, i) => i + 1 !== processor && (block.mapped & (2 << i)) !== 0) ?? null;
    if (other === null || maskTest(other.w, G_READ, page)) return false;
    maskSet(other.w, G_READ, page);
    return true;
  }),
  'mapping: an entry with too few rights': spoilMethod((words, at) => {
    if (words[at] !== METHOD_PTE || (words[at + 4] & 0x87) !== 7) return false;
    words[at + 4] = makePte(1, (words[at + 4] >> 3) & 15);
    return true;
  }),
  'mapping: an entry with too many rights': spoilMethod((words, at) => {
    const pte = words[at + 4];
    if (words[at] !== METHOD_PTE || (pte & 0x81) !== 1 || (pte & 6) === 6) return false;
    words[at + 4] = pte | 6;
    return true;
  }),
  'mapping: an entry that names the wrong memory': spoilMethod((words, at) => {
    const pte = words[at + 4];
    if (words[at] !== METHOD_PTE || (pte & 0x81) !== 1 || pte >> 3 > 1) return false;
    words[at + 4] = pte ^ (1 << 3);
    return true;
  }),
  'mapping: a mapped page is taken for certainly unmapped': spoilMoved((_m, block) => {
    if (block.mapped === 0) return false;
    const before = maskNextSet(block.w, B_CPU_READ, 0, block.n);
    if (before === block.n) return false;
    maskClear(block.w, B_MAYBE_MAPPED, before);
    return true;
  }),
  'copying: a page is left out': spoilMethod((words, at) => {
    if (!isCopy(words[at])) return false;
    words[at + 4]--;
    return true;
  }),
  'copying: the direction is turned round': spoilMethod((words, at) => {
    if (!isCopy(words[at])) return false;
    const to = words[at + 1];
    words[at + 1] = words[at + 2];
    words[at + 2] = to;
    return true;
  }),
  'copying: new memory is not zeroed': spoilMethod((words, at) => {
    if (words[at] !== METHOD_MEMSET) return false;
    words[at + 3] = 0;
    return true;
  }),
  'copying: data is lost after it arrived': spoilMoved((m, block, page, _processor, residency) => {
    if (m.contents === null || residency !== CPU_ID) return false;
    contentsForget(m.contents, residency, block.startPage + page, 1);
    return true;
  }),
  'residency: the source keeps a page that was moved': spoilMoved((m, block, page, _processor, residency) => {
    for (let id = 0; id <= m.spec.gpus; id++) {
      const w = residentWords(block, id);
      if (w === null || id === residency || (block.resident & (1 << id)) === 0) continue;
      maskSet(w, residentOffset(id), page);
      return true;
    }
    return false;
  }),
  'read duplication: a page with one copy counts as duplicated for ever': spoilMoved((_m, block, page) => {
    maskSet(block.w, B_READ_DUPLICATED, page);
    return false;
  }),
  'read duplication: the bit of a page with two copies is lost': (m) => {
    m.res.seams.serviceFinishHook = (_m, block) => {
      if ((block.resident & (block.resident - 1)) !== 0) maskZero(block.w, B_READ_DUPLICATED);
    };
  },
  'replay: one does not take place': (m) => {
    let replays = 0;
    spoilMethod((words, at) => {
      if (words[at] !== METHOD_REPLAY || ++replays % 3 !== 0) return false;
      words[at] = METHOD_TIMESTAMP;
      return false;
    })(m);
  },
  'trackers: the next push does not wait for the copy': (m) => {
    m.res.seams.serviceFinishHook = (_m, block) => {
      block.tracker.length = 0;
    };
  },
  'sums: a chunk is counted twice': (m) => {
    m.res.seams.serviceFinishHook = (model, _block, _context, processor) => {
      if (processor !== CPU_ID) model.gpus[processor - 1].vidmemUsed += 4096;
    };
  },
};
