/** A model of the machine that most recordings are of, with the contents of pages, traced. */
import profile from '../../profiles/h200-pcie5.json' with { type: 'json' };
import { createModel } from '../../src/model/model.ts';
import type { Model } from '../../src/model/state.ts';
import { parseModuleParameters } from '../../src/model/uvm/params.ts';
import { parseProfile } from '../../src/scenario/profile.ts';

export function createProfileModel(): Model {
  const { spec, traced } = parseProfile(profile);
  const parsed = parseModuleParameters({}, spec.faultBufferEntries);
  if (!parsed.ok) throw new Error(parsed.error);
  return createModel(spec, parsed.params, traced, { traced: true, contents: true });
}
