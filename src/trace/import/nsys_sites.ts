/**
 * Code whose accesses of the CPU faulted, as an export of Nsight Systems has it: for each fault a function, its module,
 * and a line where there is debug information, as texts of StringIds.
 */
import type { TraceInfo } from '../store/trace_info.ts';
import { textsOf } from './nsys_strings.ts';
import type { SqliteReader, SqliteValue } from './sqlite_reader.ts';

/** Columns of the table of CPU faults. */
const COLUMNS = ['CpuInstruction', 'module', 'unresolvedFaultPc', 'sourceFile', 'sourceLine'] as const;
/** Different places that are told apart, at most, and that are kept: those with the most faults. */
const TOLD_APART_MAX = 10_000;
const KEPT_MAX = 200;
/** The place of a fault of which nothing is known. */
export const SITE_NONE = -1;

type FaultSite = TraceInfo['cpuFaultSites'][number];
type Row = Record<string, SqliteValue>;

interface Site {
  functionId: string;
  moduleId: string;
  fileId: string;
  line: number;
}

export interface Sites {
  /** Columns to read of the table of CPU faults. */
  columns: readonly string[];
  /** Number of the place of a row, or SITE_NONE. */
  of(row: Row): number;
  /** What is known of places, with their faults by allocation: pairs of both, one for each fault. */
  counted(faults: Iterable<readonly [site: number, allocation: string]>): FaultSite[];
}

/** `present`: columns that the table of CPU faults has. */
export function createSites(database: SqliteReader, present: readonly string[]): Sites {
  const columns = COLUMNS.filter((column) => present.includes(column));
  const sites: Site[] = [];
  const numbers = new Map<string, number>();
  return {
    columns,
    of: (row) => {
      // An instruction that could not be resolved has its address for a name: each is a place of its own.
      if (Number(row['unresolvedFaultPc'] ?? 0) !== 0 || (row['CpuInstruction'] ?? null) === null) return SITE_NONE;
      const [functionId, moduleId, fileId] = [row['CpuInstruction'], row['module'], row['sourceFile']].map(String);
      const given = Number(row['sourceLine'] ?? 0);
      const line = Number.isSafeInteger(given) && given > 0 ? given : 0;
      const key = `${functionId} ${moduleId} ${fileId} ${line}`;
      const known = numbers.get(key);
      if (known !== undefined) return known;
      if (sites.length === TOLD_APART_MAX) return SITE_NONE;
      numbers.set(key, sites.length);
      return sites.push({ functionId, moduleId, fileId, line }) - 1;
    },
    counted: (faults) => {
      const counts = new Map<string, FaultSite & { site: number }>();
      for (const [site, allocation] of faults) {
        const key = `${site} ${allocation}`;
        const found = counts.get(key);
        if (found !== undefined) found.faults++;
        else counts.set(key, { site, allocation, function: '', module: '', file: '', line: 0, faults: 1 });
      }
      if (sites.length === 0) return [];
      const ids = new Set(sites.flatMap(({ functionId, moduleId, fileId }) => [functionId, moduleId, fileId]));
      const texts = textsOf(database, ids);
      const kept = [...counts.values()].sort((a, b) => b.faults - a.faults).slice(0, KEPT_MAX);
      return kept.map(({ site, ...one }) => {
        if (site === SITE_NONE) return one;
        const { functionId, moduleId, fileId, line } = sites[site];
        const [name, module, file] = [functionId, moduleId, fileId].map((id) => texts.get(id) ?? '');
        return { ...one, function: name, module, file, line };
      });
    },
  };
}
