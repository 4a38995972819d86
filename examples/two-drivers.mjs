/**
 * One program text over two drivers: the model, and with --linux the GPU of this machine as well. It allocates managed
 * memory, touches it from both sides, gives advice by ioctls, reads a page that lives on the GPU without moving it, and
 * prints what the driver's event queue told.
 *
 *     node examples/two-drivers.mjs
 *     node examples/two-drivers.mjs --linux
 */
import { createModel, loadMachines, parseModuleParameters } from 'uvmlab';
import {
  createModelDriver,
  createModelProgram,
  decodeEvent,
  drainEvents,
  enableEvents,
  flushEvents,
  IOCTL,
  ioctl,
  openEventSource,
  RECORDED_EVENTS,
  readProcessMemory,
} from 'uvmlab/device';

const MIB = 2 ** 20;
const bytesOfUuid = (hex) => Uint8Array.from(hex.match(/../g), (digits) => Number.parseInt(digits, 16));

/** The program. `program` is of the model or of this machine: it cannot tell. */
async function run(program) {
  const { device, uvm, gpus } = program;
  const source = await openEventSource(device, uvm, { entries: 4096 });
  await enableEvents(source, RECORDED_EVENTS);
  const lines = [];
  const base = await program.allocateManaged(4 * MIB);
  const step = async (name, act) => {
    const result = await act();
    await flushEvents(source);
    const seen = new Map();
    drainEvents(source, (entries) => {
      for (let at = 0; at < entries.length; at += 72) {
        const { name: event, values } = decodeEvent(entries.subarray(at, at + 72));
        const where = event === 'replay' ? '' : ` at ${(values.address - base) / 4096n}`;
        const size = event === 'migration' ? `, ${values.migratedBytes / 4096n} pages` : '';
        const list = seen.get(event) ?? [];
        list.push(`${event}${where}${size}`);
        seen.set(event, list);
      }
    });
    // Order between kinds is the driver's habit (docs/formats.md): kinds in the order of their names.
    lines.push(`${name}: ${result ?? ''}`);
    for (const event of [...seen.keys()].sort()) for (const text of seen.get(event)) lines.push(`    ${text}`);
  };
  const pages = [0, 1, 2, 40, 41, 600];
  await step('cpu writes', () => program.access({ on: 'cpu', do: 'write', address: base, pages, value: 7 }));
  await step('gpu0 reads', () => program.access({ on: 'gpu0', do: 'read', address: base, pages: [0, 40, 600] }));
  await step('gpu0 adds', () => program.access({ on: 'gpu0', do: 'atomic', address: base, pages: [0, 40] }));
  const memory = await device.allocate(4096);
  await step('page 40 by ioctl 62', async () => {
    const { status } = await readProcessMemory(device, uvm, base + 40n * 4096n, memory, 0, 4096);
    return `status ${status}, first word ${new DataView(memory.bytes().buffer, memory.bytes().byteOffset).getUint32(0, true)}`;
  });
  await step('prefer gpu0', async () => {
    const preferredLocation = bytesOfUuid(gpus[0].uuid);
    const range = { requestedBase: base, length: 2 * MIB, preferredCpuNumaNode: -1 };
    await ioctl(device, uvm, IOCTL.SET_PREFERRED_LOCATION, { ...range, preferredLocation });
  });
  await step('cpu reads', () => program.access({ on: 'cpu', do: 'read', address: base, pages: [0, 40, 600] }));
  await step('outside', async () => {
    const { status, bytes } = await readProcessMemory(device, uvm, base + BigInt(64 * MIB), memory, 0, 4096);
    return `status ${status} after ${bytes} bytes`;
  });
  await memory.close();
  await program.freeManaged(base);
  await program.close();
  return lines;
}

function modelProgram() {
  const { spec, traced } = loadMachines().profile('h200-pcie5');
  const { params } = parseModuleParameters({}, spec.faultBufferEntries);
  return createModelProgram(createModelDriver(createModel(spec, params, traced, { traced: true, contents: true })));
}

const model = await run(await modelProgram());
console.log(['the model', ...model].join('\n'));
if (process.argv.includes('--linux')) {
  const { createLinuxProgram } = await import('uvmlab/linux');
  const machine = await run(await createLinuxProgram());
  console.log(['', 'this machine', ...machine].join('\n'));
  const differs = machine.findIndex((line, i) => line !== model[i]);
  console.log(
    differs < 0 && machine.length === model.length ? '\nboth did the same' : `\nthey differ at line ${differs}`,
  );
  process.exit(differs < 0 ? 0 : 1);
}
