/** Findings about the driver: its version, its module, its device nodes, its parameters and GPUs. */
import { MODULE_PARAMETERS, type ParameterName, parseModuleParameters } from '../../model/uvm/params.ts';
import { absent, type Finding, unreadable } from './finding.ts';
import type { MachineFacts, NodeFacts } from './machine_facts.ts';
import { known, type NodeStat } from './system_files.ts';

const VERSION_PATH = '/proc/driver/nvidia/version';

export const inContainer = (facts: MachineFacts): boolean => facts.containerSigns.length > 0;

const GIVE_NODES =
  'start the container with its nodes: docker run --gpus all (NVIDIA container toolkit), or ' +
  '--device /dev/nvidia-uvm --device /dev/nvidia-uvm-tools beside those of the GPU';
const MAKE_NODES =
  'as root: nvidia-modprobe -u -c=0, which loads the module and makes its nodes; or run any CUDA program once';

const CHECKED_VERSION = '580.159.04';

function checkedText(version: string): string {
  return version === CHECKED_VERSION
    ? 'checked on hardware'
    : `its branch was checked on hardware (${CHECKED_VERSION})`;
}

/** How far the ioctls and events that the client uses are known for a branch of the driver. */
function branchFinding(version: string): Finding {
  const branch = version.split('.')[0];
  const topic = 'driver';
  if (branch === '580') return { topic, state: 'ok', what: `driver ${version}: ${checkedText(version)}` };
  if (branch === '595') {
    return {
      topic,
      state: 'ok',
      what: `driver ${version}: by its source, its events are those of branch 580, which was checked on hardware`,
    };
  }
  return {
    topic,
    state: 'limited',
    what: `driver ${version}: unverified; known are the branches 580 (checked on hardware) and 595 (by its source)`,
    todo: 'try it: layouts may be others, so compare what is recorded with what the program does; or use branch 580',
  };
}

function driverFinding(facts: MachineFacts): Finding {
  const version = known(facts.uvmVersion) ?? known(facts.driver);
  if (version !== null) return branchFinding(version);
  if (absent(facts.driver) && known(facts.uvmLoaded) !== true) {
    return {
      topic: 'driver',
      state: 'missing',
      what: `no NVIDIA driver is loaded: there is no ${VERSION_PATH}`,
      todo: inContainer(facts)
        ? `install the driver on the host, then ${GIVE_NODES}`
        : "install NVIDIA's driver, best of branch 580, and load it, as root: nvidia-modprobe -u -c=0",
    };
  }
  const unread = unreadable('driver', VERSION_PATH, facts.driver);
  return unread ?? { topic: 'driver', state: 'unknown', what: `${VERSION_PATH} has no version in it` };
}

function moduleFinding(facts: MachineFacts): Finding {
  const { uvmLoaded } = facts;
  const unread = unreadable('nvidia-uvm', '/sys/module/nvidia_uvm', uvmLoaded);
  if (unread !== null) return unread;
  if (known(uvmLoaded) === true) return { topic: 'nvidia-uvm', state: 'ok', what: 'the module nvidia-uvm is loaded' };
  return {
    topic: 'nvidia-uvm',
    state: 'missing',
    what: 'the module nvidia-uvm is not loaded: there is no /sys/module/nvidia_uvm',
    todo: inContainer(facts) ? 'on the host, as root: nvidia-modprobe -u -c=0' : MAKE_NODES,
  };
}

/** 0o660 as rw-rw----. */
function modeText(mode: number): string {
  return [...'rwxrwxrwx'].map((letter, i) => ((mode & (1 << (8 - i))) !== 0 ? letter : '-')).join('');
}

function ownerText({ stat, group }: { stat: NodeStat; group: string | null }): string {
  return `c${modeText(stat.mode)}, user ${stat.uid}, group ${group ?? stat.gid}`;
}

function openFinding(facts: MachineFacts, node: NodeFacts, stat: NodeStat): Finding {
  const { path, group, openErrno } = node;
  const about = `${path} (${ownerText({ stat, group })})`;
  const finding = { topic: 'device node', what: `${about} cannot be opened: ${openErrno}`, state: 'missing' } as const;
  if (openErrno === null) {
    return { topic: 'device node', state: 'ok', what: `${about} can be opened for reading and writing` };
  }
  if (openErrno === 'EACCES') {
    const byGroup = (stat.mode & 0o060) === 0o060 && stat.gid !== 0;
    return {
      ...finding,
      rule: "the node's mode: this user needs the right to read and to write",
      todo: byGroup
        ? `as root: usermod -aG ${group ?? stat.gid} USER, then log in again`
        : `as root: chmod 666 ${path}; to keep it, set the option NVreg_DeviceFileMode=0666 of the module nvidia`,
    };
  }
  if (openErrno === 'EPERM') {
    const service = `in a service of systemd: DeviceAllow=${path} rw`;
    const rule = 'the device rules of a control group, as containers and services have them';
    return { ...finding, rule, todo: inContainer(facts) ? GIVE_NODES : service };
  }
  if (openErrno === 'ENXIO' || openErrno === 'ENODEV') {
    return { ...finding, rule: 'no driver is behind the node', todo: MAKE_NODES };
  }
  return { ...finding, todo: 'see what the kernel log says of NVRM and nvidia-uvm: dmesg' };
}

/** A node that stands there, against the number under which the driver is registered. */
function numberFinding(facts: MachineFacts, node: NodeFacts, stat: NodeStat, minor: number): Finding | null {
  const { path } = node;
  const unread = unreadable('device node', '/proc/devices', facts.major);
  if (unread !== null) return unread;
  const major = known(facts.major);
  const is = `${path} is device ${stat.major}:${stat.minor}`;
  const topic = 'device node';
  const anew = `as root: rm ${path}; nvidia-modprobe -u -c=0`;
  if (major === null) {
    return {
      topic,
      state: 'missing',
      what: `${is}, but /proc/devices has no nvidia-uvm: no driver is behind it`,
      rule: 'a node leads to the driver that is registered under its number',
      todo: MAKE_NODES,
    };
  }
  if (stat.major === major && stat.minor === minor) return null;
  return {
    topic,
    state: 'missing',
    what: `${is}, but nvidia-uvm is registered as ${major}, and this node has to be ${major}:${minor}`,
    rule: 'a node leads to the driver that is registered under its number, which can change when a module is loaded',
    todo: inContainer(facts) ? `make the container anew: ${GIVE_NODES}` : anew,
  };
}

function nodeFinding(facts: MachineFacts, node: NodeFacts, minor: number): Finding {
  const topic = 'device node';
  const { path, stat } = node;
  if (absent(stat)) {
    const todo = inContainer(facts) ? GIVE_NODES : MAKE_NODES;
    return { topic, state: 'missing', what: `there is no ${path}`, todo };
  }
  if ('errno' in stat) return { topic, state: 'unknown', what: `${path} cannot be looked at (${stat.errno})` };
  if (!stat.value.character) {
    const todo = `as root: rm -r ${path}; nvidia-modprobe -u -c=0`;
    return { topic, state: 'missing', what: `${path} is no character device`, todo };
  }
  return numberFinding(facts, node, stat.value, minor) ?? openFinding(facts, node, stat.value);
}

/** Parameters of which more is said than their value. */
const SAID_ALONE: readonly string[] = ['uvm_enable_builtin_tests', 'uvm_enable_va_space_mm'] satisfies ParameterName[];

/** The value as the driver takes it, whatever its spelling (Y is 1, 0x10 is 16); as it stands where that fails. */
function valueInForce(name: ParameterName, text: string): number | string {
  const parsed = parseModuleParameters({ [name]: text });
  return parsed.ok ? parsed.params[name] : text;
}

/** Parameters of the model's list that are not as the driver has them by itself. */
function changedParameters(parameters: Record<string, string>): string[] {
  const out: string[] = [];
  for (const name of Object.keys(MODULE_PARAMETERS) as ParameterName[]) {
    const text = parameters[name];
    const usual = MODULE_PARAMETERS[name].default;
    if (text === undefined || SAID_ALONE.includes(name) || valueInForce(name, text) === usual) continue;
    out.push(`${name}=${text} (default ${usual})`);
  }
  return out;
}

function parameterFindings(facts: MachineFacts): Finding[] {
  const topic = 'parameters';
  const folder = '/sys/module/nvidia_uvm/parameters';
  if (!('value' in facts.parameters)) {
    return [{ topic, state: 'unknown', what: `${folder} cannot be read (${facts.parameters.errno})` }];
  }
  const values: Record<string, string> = {};
  const out: Finding[] = [];
  for (const [name, value] of Object.entries(facts.parameters.value)) {
    const unread = Object.hasOwn(MODULE_PARAMETERS, name) ? unreadable(topic, `${folder}/${name}`, value) : null;
    if (unread !== null) out.push(unread);
    else if ('value' in value) values[name] = value.value;
  }
  if (values.uvm_enable_va_space_mm === '0') {
    out.push({
      topic,
      state: 'limited',
      what: 'uvm_enable_va_space_mm=0: the driver reaches memory of the CPU through whoever calls it',
      rule: 'copy, peek and poke of another process need the memory of that process',
      todo: 'load the module with uvm_enable_va_space_mm=1, its default; recording works as it is',
    });
  }
  const changed = changedParameters(values);
  if (changed.length > 0) {
    out.push({
      topic,
      state: 'limited',
      what: `not as in driver 580.105.08 by default: ${changed.join(', ')}`,
      todo: 'give the model the same, with --param NAME=VALUE, where it is compared with this machine',
    });
  }
  if (out.length === 0) out.push({ topic, state: 'ok', what: 'all that the model knows have their defaults' });
  const tests = values.uvm_enable_builtin_tests;
  if (tests !== undefined) {
    const what = tests === '0' ? 'cannot be called, as usual' : 'can be called';
    out.push({ topic, state: 'ok', what: `uvm_enable_builtin_tests=${tests}: the driver's own tests ${what}` });
  }
  return out;
}

function gpuFindings(facts: MachineFacts): Finding[] {
  const topic = 'GPUs';
  const unread = unreadable(topic, '/proc/driver/nvidia/gpus', facts.gpus);
  if (unread !== null) return [unread];
  const gpus = known(facts.gpus) ?? [];
  if (gpus.length === 0) {
    const todo = inContainer(facts) ? GIVE_NODES : 'see what the kernel log says of NVRM: dmesg';
    return [{ topic, state: 'missing', what: 'the driver lists no GPU', todo }];
  }
  return gpus.map(({ name, uuid }, i) => {
    const id = uuid === '' ? 'uuid not told before its first use' : `uuid ${uuid}`;
    return { topic, state: 'ok', what: `GPU ${i}: ${name || 'model not told'}, ${id}` };
  });
}

/** What is said of a driver; without one, there are no parameters and GPUs to speak of. */
export function driverFindings(facts: MachineFacts): Finding[] {
  const driver = driverFinding(facts);
  const nodes = [nodeFinding(facts, facts.nodes.uvm, 0), nodeFinding(facts, facts.nodes.tools, 1)];
  if (driver.state === 'missing') return [driver, ...nodes];
  const uvm = moduleFinding(facts);
  const parameters = uvm.state === 'missing' ? [] : parameterFindings(facts);
  return [driver, uvm, ...nodes, ...parameters, ...gpuFindings(facts)];
}
