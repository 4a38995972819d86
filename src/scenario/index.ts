/** The public face of the scenario room: it needs no Node and runs in a browser. */
export { aesGcm } from './aead.ts';
export type { FaultStream } from './fault_stream.ts';
export { createFaultStream, STREAM_CPU_FAULT, STREAM_GPU_FAULT } from './fault_stream.ts';
export type { KnownMachines } from './machine.ts';
export { machineGpus, processorId, processorWord, processorWords } from './machine.ts';
export type { Profile } from './profile.ts';
export { DRIVER_BRANCHES, parseProfile } from './profile.ts';
export { replayNotes, replayRun } from './replay.ts';
export type { Run, RunState } from './runner.ts';
export { advanceRun, createRun } from './runner.ts';
export type { Allocation, Scenario, ScenarioResult, Step } from './scenario.ts';
export { accessCount, accessPages, parseScenario, scenarioName } from './scenario.ts';
export type { SessionOptions, SessionResult } from './session.ts';
export { createSession, sessionParameters } from './session.ts';
