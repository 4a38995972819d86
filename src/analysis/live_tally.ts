export interface LiveTally { counts: number[]; dropped: number }
export function createLiveTally(): LiveTally { return { counts: new Array(64).fill(0), dropped: 0 }; }
export function tallyEntries(t: LiveTally, e: Uint8Array): void { for (let i = 0; i < e.length; i += 72) t.counts[e[i] & 63]++; }
export function tallyDrops(t: LiveTally, n: number): void { t.dropped += n; }
