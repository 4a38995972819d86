/** Puts a scenario, a machine profile and options together into a run. */
import { createModel, type ModelOptions } from '../model/model.ts';
import { type ModuleParameters, parseModuleParameters } from '../model/uvm/params.ts';
import { aesGcm } from './aead.ts';
import type { Profile } from './profile.ts';
import { createRun, type Run } from './runner.ts';
import type { Scenario } from './scenario.ts';

export interface SessionOptions extends Omit<ModelOptions, 'traced'> {
  /** Predict a traced program instead of an untraced one. */
  traced?: boolean;
  /** Module parameters that override the scenario's. */
  parameters?: Readonly<Record<string, number | string>>;
}

export type SessionResult = { ok: true; run: Run; notes: string[] } | { ok: false; error: string };

/** The module parameters of a scenario with overrides, validated. */
export function sessionParameters(
  scenario: Scenario,
  profile: Profile,
  overrides: Readonly<Record<string, number | string>> = {},
): { ok: true; params: ModuleParameters; notes: string[] } | { ok: false; error: string } {
  const { faultBufferEntries, confidentialComputing } = profile.spec;
  return parseModuleParameters({ ...scenario.parameters, ...overrides }, faultBufferEntries, confidentialComputing);
}

/** A run that has not begun, on a fresh model of the scenario's machine; or what is wrong with its parameters. */
export function createSession(scenario: Scenario, profile: Profile, options: SessionOptions = {}): SessionResult {
  const parsed = sessionParameters(scenario, profile, options.parameters);
  if (!parsed.ok) return parsed;
  const traced = options.traced ?? false;
  const m = createModel(profile.spec, parsed.params, traced ? profile.traced : profile.untraced, {
    aead: aesGcm,
    ...options,
    traced,
  });
  return { ok: true, run: createRun(m, scenario), notes: parsed.notes };
}
