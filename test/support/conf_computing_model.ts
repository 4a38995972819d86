/** A model of GPUs with Confidential Computing, with channels and contents and little else at work. */
import { createModel } from '../../src/model/model.ts';
import type { Costs, MachineSpec } from '../../src/model/spec.ts';
import type { Model } from '../../src/model/state.ts';
import { parseModuleParameters } from '../../src/model/uvm/params.ts';
import { aesGcm } from '../../src/scenario/aead.ts';
import { COSTS } from './channel_model.ts';

export interface ConfComputingModelOptions {
  gpus?: number;
  copyEngines?: number;
  numGpfifoEntries?: number;
  parameters?: Record<string, number>;
  contents?: boolean;
  costs?: Partial<Costs>;
}

/** Costs are those of createChannelModel; a page encrypted by the CPU costs 40. */
export function createConfComputingModel(options: ConfComputingModelOptions = {}): Model {
  const { gpus = 1, copyEngines = 8, numGpfifoEntries = 64, parameters = {}, contents = false, costs = {} } = options;
  const spec: MachineSpec = {
    name: 'test',
    driver: '580',
    architecture: 'hopper',
    gpus,
    nvlinkPeers: false,
    faultBufferEntries: 64,
    utlbsPerGpc: 19,
    gpcs: 8,
    vidmemBytes: 2 ** 37,
    copyEngines,
    confidentialComputing: true,
  };
  const given = { uvm_channel_num_gpfifo_entries: numGpfifoEntries, ...parameters };
  const parsed = parseModuleParameters(given, spec.faultBufferEntries, true);
  if (!parsed.ok) throw new Error(parsed.error);
  const cost = new Proxy({ ...COSTS, copyCpuPage: 40, ...costs } as Costs, {
    get: (all, name) => (all as unknown as Record<string | symbol, number>)[name] ?? 0,
  });
  return createModel(spec, parsed.params, cost, { contents, aead: aesGcm });
}
