/**
 * The package `uvmlab`: the executable model, scenarios and recordings to run on it, and what a run says. Everything
 * but the files (profiles, cases, lines of results) also runs in a browser.
 */
export type { Executed, ExecuteOptions, ExecuteResult } from './analysis/execute.ts';
export { executeReplay, executeRun } from './analysis/execute.ts';
export type { Machines } from './analysis/machines.ts';
export { loadMachines, packageRoot, packageVersion, recordingPath } from './analysis/machines.ts';
export type { Flow, RunSummary, Tally } from './analysis/summary.ts';
export { summarize } from './analysis/summary.ts';
export type { CaseResult, FileTally, TimeDependentGroup, Verdict } from './analysis/validate.ts';
export { tallyFile, timeDependentGroups, validateCase } from './analysis/validate.ts';
export * from './model/index.ts';
export * from './scenario/index.ts';
export type { CaseLine, Recording } from './trace/case_check.ts';
export { checkRecording } from './trace/case_check.ts';
export type { BadLine, CaseEntry } from './trace/case_file.ts';
export { CaseFileError, readCases } from './trace/case_file.ts';
export type { Comparison, Difference } from './trace/compare.ts';
export { compareEvents } from './trace/compare.ts';
export type { CopyEntry, CopyPlace, CopyPushEntry } from './trace/copies.ts';
export { copyEntries } from './trace/copies.ts';
export type { EventKind, FaultEvent, UvmEvent } from './trace/event.ts';
export { EVENT_KINDS, IDENTITY_FIELDS, identity } from './trace/event.ts';
export type { LineWriter } from './trace/jsonl.ts';
export { createLineWriter } from './trace/jsonl.ts';
export { logEvents } from './trace/log_events.ts';
export { faultStream } from './trace/recorded_faults.ts';
