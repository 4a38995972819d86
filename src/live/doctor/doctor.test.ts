import { describe, expect, it } from 'vitest';
import {
  ALL_CAPABILITIES,
  DOCKER_CAPABILITIES,
  type FakeMachine,
  type FakeNode,
  fakeMachine,
  NO_DRIVER,
  statusText,
} from '../../../test/support/fake_machine.ts';
import { MODULE_PARAMETERS } from '../../model/uvm/params.ts';
import { diagnose, hindrances } from './doctor.ts';
import type { Finding, FindingState, Topic } from './finding.ts';
import { gatherFacts } from './machine_facts.ts';

async function findingsOf(machine: FakeMachine = {}): Promise<Finding[]> {
  return diagnose(await gatherFacts(fakeMachine(machine)));
}

async function of(topic: Topic, machine: FakeMachine = {}): Promise<Finding[]> {
  return (await findingsOf(machine)).filter((one) => one.topic === topic);
}

/** The topics of what hinders recording. */
async function hindered(machine: FakeMachine = {}): Promise<Topic[]> {
  return hindrances(await findingsOf(machine)).map(({ topic }) => topic);
}

const YAMA = '/proc/sys/kernel/yama/ptrace_scope';
const SELF = '/proc/self/status';
const PARAMETERS = '/sys/module/nvidia_uvm/parameters';
const ROOT = '0 0 0 0';
const scope = (value: number): Record<string, string> => ({ [YAMA]: `${value}\n` });

describe('whole machines', () => {
  it('finds nothing missing on a desktop: only running programs are out of reach', async () => {
    const findings = await findingsOf();
    expect(findings.filter(({ state }) => state !== 'ok')).toEqual([
      expect.objectContaining({
        topic: 'record --pid',
        state: 'limited',
        rule: expect.stringContaining('kernel.yama.ptrace_scope is 1'),
        todo: expect.stringContaining('sysctl kernel.yama.ptrace_scope=0'),
      }),
    ]);
    expect(hindrances(findings)).toEqual([]);
    expect(findings.map(({ what }) => what)).toEqual(
      expect.arrayContaining([
        'driver 580.105.08: its branch was checked on hardware (580.159.04)',
        '/dev/nvidia-uvm-tools (crw-rw-rw-, user 0, group root) can be opened for reading and writing',
        'GPU 0: NVIDIA H200, uuid 00112233445566778899aabbccddeeff',
        '/usr/lib/x86_64-linux-gnu/libcuda.so.1',
        'CPU pages of 4 KiB',
        'transparent huge pages: madvise',
        'Linux 6.8.0-60-generic answers the call',
        'user 1000 without CAP_SYS_PTRACE; kernel.yama.ptrace_scope is 1',
      ]),
    );
  });

  it('finds all of a machine that recordings were made on', async () => {
    const files = {
      [YAMA]: null,
      '/proc/sys/kernel/osrelease': '6.18.44\n',
      '/proc/devices': 'Character devices:\n195 nvidia\n238 nvidia-uvm\n\nBlock devices:\n254 virtblk\n',
      '/proc/driver/nvidia/gpus/0000:01:00.0/information': 'Model: \t\t NVIDIA H100 80GB HBM3\n',
      '/sys/module/nvidia_uvm/version': '580.159.04\n',
    };
    const nodes = {
      '/dev/nvidia-uvm': { character: true, major: 238, minor: 0 },
      '/dev/nvidia-uvm-tools': { character: true, major: 238, minor: 1 },
    };
    const findings = await findingsOf({ files, nodes });
    expect(findings.filter(({ state }) => state !== 'ok')).toEqual([]);
    expect(findings.map(({ what }) => what)).toEqual(
      expect.arrayContaining([
        'driver 580.159.04: checked on hardware',
        'GPU 0: NVIDIA H100 80GB HBM3, uuid not told before its first use',
        'user 1000 without CAP_SYS_PTRACE; this kernel has no Yama',
      ]),
    );
  });

  it('tells a container without nodes to be started with them', async () => {
    const machine: FakeMachine = {
      files: {
        '/.dockerenv': '',
        '/proc/self/cgroup': '0::/docker/0123\n',
        [SELF]: statusText({ ids: ROOT, permitted: DOCKER_CAPABILITIES, seccomp: 2 }),
      },
      nodes: { '/dev/nvidia-uvm': null, '/dev/nvidia-uvm-tools': null },
      from: { pidfdGetfd: async () => 'EPERM' },
    };
    const [uvm, tools] = await of('device node', machine);
    expect(uvm).toMatchObject({ state: 'missing', what: 'there is no /dev/nvidia-uvm' });
    expect(tools.todo).toContain('--gpus all');
    const [call] = await of('pidfd_getfd', machine);
    expect(call).toMatchObject({ state: 'missing', rule: expect.stringContaining('seccomp, mode 2') });
    expect(call.todo).toContain('--cap-add SYS_PTRACE');
    expect((await of('container', machine))[0].what).toContain('/.dockerenv, /proc/self/cgroup says 0::/docker/0123');
    expect(await hindered(machine)).toEqual(['device node', 'device node', 'pidfd_getfd']);
  });

  it('says without a driver what to install, and nothing of its module', async () => {
    const machine: FakeMachine = {
      files: { ...NO_DRIVER, '/usr/lib/x86_64-linux-gnu/libcuda.so.1': null },
      nodes: { '/dev/nvidia-uvm': null, '/dev/nvidia-uvm-tools': null },
    };
    const findings = await findingsOf(machine);
    expect(findings.find(({ topic }) => topic === 'driver')).toMatchObject({
      state: 'missing',
      what: 'no NVIDIA driver is loaded: there is no /proc/driver/nvidia/version',
    });
    expect(findings.filter(({ topic }) => ['nvidia-uvm', 'parameters', 'GPUs'].includes(topic))).toEqual([]);
    expect(findings.find(({ topic }) => topic === 'libcuda')?.state).toBe('missing');
    expect(hindrances(findings).map(({ topic }) => topic)).toEqual(['driver', 'device node', 'device node']);
  });

  it('calls arm64 unverified, and other systems good for the model alone', async () => {
    const arm = await findingsOf({ from: { arch: 'arm64' } });
    expect(arm[0]).toMatchObject({ topic: 'platform', state: 'limited', what: expect.stringContaining('arm64') });
    expect(hindrances(arm)).toEqual([]);
    for (const from of [{ platform: 'darwin', arch: 'arm64' }, { platform: 'win32' }]) {
      const findings = await findingsOf({ from });
      expect(findings.map(({ topic, state }) => [topic, state])).toEqual([
        ['platform', 'missing'],
        ['Node', 'ok'],
      ]);
    }
    expect((await of('platform', { from: { arch: 'riscv64' } }))[0].state).toBe('missing');
    const wsl = { files: { '/proc/sys/kernel/osrelease': '5.15.167.4-microsoft-standard-WSL2\n' } };
    expect((await of('platform', wsl))[0].state).toBe('missing');
  });
});

describe('the driver', () => {
  it.each([
    ['580.159.04', 'ok', ': checked on hardware'],
    ['580.105.08', 'ok', 'its branch was checked on hardware (580.159.04)'],
    ['595.45.04', 'ok', 'by its source'],
    ['590.48.01', 'limited', 'unverified'],
    ['535.288.01', 'limited', 'unverified'],
  ] as const)('knows how far %s is known', async (version, state, words) => {
    const files = { '/sys/module/nvidia_uvm/version': `${version}\n` };
    const [finding] = await of('driver', { files });
    expect(finding).toMatchObject({ state, what: expect.stringContaining(words) });
    expect(finding.what).toContain(version);
  });

  it('says how to load a module that is not loaded', async () => {
    const gone = Object.fromEntries(Object.entries(NO_DRIVER).filter(([path]) => path.startsWith('/sys/module')));
    const files = { ...gone, '/proc/devices': 'Character devices:\n195 nvidia\n\nBlock devices:\n510 nvidia-uvm\n' };
    const findings = await findingsOf({ files });
    expect(findings.find(({ topic }) => topic === 'driver')?.state).toBe('ok');
    expect(findings.find(({ topic }) => topic === 'nvidia-uvm')).toMatchObject({
      state: 'missing',
      todo: expect.stringContaining('nvidia-modprobe -u -c=0'),
    });
    const node = findings.find(({ topic }) => topic === 'device node');
    expect(node?.what).toContain('/proc/devices has no nvidia-uvm');
  });

  it('names parameters that differ, and those that change what a client can do', async () => {
    const files = {
      [`${PARAMETERS}/uvm_enable_builtin_tests`]: '1\n',
      [`${PARAMETERS}/uvm_enable_va_space_mm`]: '0\n',
      [`${PARAMETERS}/uvm_perf_prefetch_threshold`]: '75\n',
      [`${PARAMETERS}/uvm_disable_hmm`]: 'Y\n',
    };
    expect((await of('parameters', { files })).map(({ state, what }) => [state, what])).toEqual([
      ['limited', expect.stringContaining('uvm_enable_va_space_mm=0')],
      [
        'limited',
        'not as in driver 580.105.08 by default: uvm_disable_hmm=Y (default 0), ' +
          'uvm_perf_prefetch_threshold=75 (default 51)',
      ],
      ['ok', expect.stringContaining('uvm_enable_builtin_tests=1')],
    ]);
    expect(await hindered({ files })).toEqual([]);
  });

  it('knows all defaults as /sys spells them, and names any other value', async () => {
    const files: Record<string, string> = { [`${PARAMETERS}/uvm_of_another_branch`]: '7\n' };
    for (const [name, info] of Object.entries(MODULE_PARAMETERS)) {
      files[`${PARAMETERS}/${name}`] = `${info.type === 'bool' ? 'N' : info.default}\n`;
    }
    expect((await of('parameters', { files })).map(({ state, what }) => [state, what])).toEqual([
      ['ok', 'all that the model knows have their defaults'],
      ['ok', "uvm_enable_builtin_tests=0: the driver's own tests cannot be called, as usual"],
    ]);
    const forced = { ...files, [`${PARAMETERS}/uvm_fault_force_sysmem`]: '1\n', [`${PARAMETERS}/uvm_ats_mode`]: '?\n' };
    expect((await of('parameters', { files: forced }))[0]).toMatchObject({
      state: 'limited',
      what: expect.stringMatching(/: uvm_ats_mode=\? \(default 1\), uvm_fault_force_sysmem=1 \(default 0\)$/),
    });
  });
});

describe('device nodes', () => {
  const node = async (uvm: FakeNode, files: FakeMachine['files'] = {}): Promise<Finding> => {
    const base = { character: true, major: 510, minor: 0 };
    return (await of('device node', { files, nodes: { '/dev/nvidia-uvm': { ...base, ...uvm } } }))[0];
  };

  it('finds a node with the number of another driver', async () => {
    const what = '/dev/nvidia-uvm is device 509:0, but nvidia-uvm is registered as 510, and this node has to be 510:0';
    const rule = expect.stringContaining('registered under its number');
    expect(await node({ major: 509 })).toMatchObject({ state: 'missing', what, rule });
    expect((await node({ minor: 1 })).state).toBe('missing');
    expect(await hindered({ nodes: { '/dev/nvidia-uvm': { character: true, major: 509, minor: 0 } } })).toEqual([
      'device node',
    ]);
  });

  it('says why a node cannot be opened', async () => {
    const rights = { mode: 0o660, gid: 44, open: 'EACCES' };
    expect(await node(rights)).toMatchObject({
      state: 'missing',
      what: '/dev/nvidia-uvm (crw-rw----, user 0, group video) cannot be opened: EACCES',
      todo: expect.stringContaining('usermod -aG video'),
    });
    expect((await node({ mode: 0o640, gid: 44, open: 'EACCES' })).todo).toContain('chmod 666');
    expect((await node({ mode: 0o660, gid: 0, open: 'EACCES' })).todo).toContain('chmod 666');
    expect((await node({ open: 'EPERM' })).todo).toContain('DeviceAllow');
    expect((await node({ open: 'EPERM' }, { '/.dockerenv': '' })).todo).toContain('--device');
    expect((await node({ open: 'ENXIO' })).rule).toContain('no driver');
    expect(await node({ open: 'EIO' })).toMatchObject({ state: 'missing', what: expect.stringContaining('EIO') });
  });

  it('does not open what is no device', async () => {
    const machine: FakeMachine = { files: { '/dev/nvidia-uvm': 'x' }, nodes: { '/dev/nvidia-uvm': null } };
    const [finding] = await of('device node', machine);
    expect(finding).toMatchObject({ state: 'missing', what: '/dev/nvidia-uvm is no character device' });
  });
});

describe('pidfd_getfd', () => {
  const call = async (release: string, answer: string | null, seccomp: number): Promise<FindingState> => {
    const files = { '/proc/sys/kernel/osrelease': release, [SELF]: statusText({ seccomp }) };
    const [{ state }] = await of('pidfd_getfd', { files, from: { pidfdGetfd: async () => answer } });
    return state;
  };

  it('needs Linux 5.6', async () => {
    expect(await call('5.5.19', null, 0)).toBe('missing');
    expect(await call('5.6.0', null, 0)).toBe('ok');
    expect(await call('4.18.0-553.el8', 'ENOSYS', 0)).toBe('missing');
  });

  it('believes the call more than the mode of seccomp, and does not guess without it', async () => {
    expect(await call('6.1.0', 'EBADF', 2)).toBe('ok');
    expect(await call('6.1.0', 'EPERM', 2)).toBe('missing');
    expect(await call('6.1.0', null, 2)).toBe('unknown');
    expect(await call('6.1.0', 'errno 5', 0)).toBe('unknown');
  });
});

describe('rights to look into processes', () => {
  const states = async (yama: number, status: string): Promise<FindingState[]> => {
    const findings = await findingsOf({ files: { ...scope(yama), [SELF]: status } });
    return (['record -- COMMAND', 'record --pid'] as const).map(
      (wanted) => findings.find(({ topic }) => topic === wanted)!.state,
    );
  };

  it('follows the scope of Yama and the capability', async () => {
    const user = statusText();
    const root = statusText({ ids: ROOT, permitted: ALL_CAPABILITIES });
    expect(await states(0, user)).toEqual(['ok', 'ok']);
    expect(await states(1, user)).toEqual(['ok', 'limited']);
    expect(await states(2, user)).toEqual(['missing', 'missing']);
    expect(await states(3, user)).toEqual(['missing', 'missing']);
    expect(await states(1, root)).toEqual(['ok', 'ok']);
    expect(await states(2, root)).toEqual(['ok', 'ok']);
    expect(await states(3, root)).toEqual(['missing', 'missing']);
    // CAP_SYS_PTRACE is bit 19 of the effective set.
    expect(await states(2, statusText({ permitted: '80000' }))).toEqual(['ok', 'ok']);
    expect(await states(2, statusText({ permitted: 'fff7ffff' }))).toEqual(['missing', 'missing']);
    expect(await states(2, statusText({ permitted: '80000', effective: '0' }))).toEqual(['missing', 'missing']);
  });

  it('names the rule and what to do under scope 2', async () => {
    const [finding] = await of('record -- COMMAND', { files: scope(2) });
    expect(finding.rule).toContain('kernel.yama.ptrace_scope is 2');
    expect(finding.todo).toContain('sysctl kernel.yama.ptrace_scope=1');
    expect(await hindered({ files: scope(2) })).toEqual(['record -- COMMAND']);
  });

  it('takes a kernel without Yama for one of scope 0, and does not guess an unreadable one', async () => {
    expect((await of('record --pid', { files: { [YAMA]: null } }))[0].state).toBe('ok');
    // Reading a folder fails with EISDIR, for root as well.
    const [finding] = await of('record -- COMMAND', { files: { [YAMA]: null, [`${YAMA}/x`]: '' } });
    expect(finding).toMatchObject({ state: 'unknown', what: expect.stringContaining('EISDIR') });
    expect((await of('record --pid', { files: scope(7) }))[0].state).toBe('unknown');
  });

  it('says that a capability of a user namespace ends there', async () => {
    const files = {
      [SELF]: statusText({ ids: ROOT, permitted: ALL_CAPABILITIES }),
      '/proc/self/uid_map': '         0       1000          1\n',
    };
    expect((await of('rights', { files }))[0].state).toBe('limited');
    expect((await of('record --pid', { files }))[0]).toMatchObject({ state: 'limited' });
  });
});

describe('the rest', () => {
  it('asks for Node 20.19 and koffi', async () => {
    expect((await of('Node', { from: { nodeVersion: '20.18.3' } }))[0].state).toBe('missing');
    expect((await of('Node', { from: { nodeVersion: '22.0.0' } }))[0].state).toBe('ok');
    const from = { ffi: async () => 'the package koffi cannot be loaded' };
    expect((await of('koffi', { from }))[0]).toMatchObject({ state: 'missing', todo: 'npm install koffi' });
    expect(await hindered({ from })).toEqual(['koffi']);
  });

  it('finds libcuda in the loader path and cache, if it is there', async () => {
    const usual = '/usr/lib/x86_64-linux-gnu/libcuda.so.1';
    const cache = 'libcuda.so.1\0/opt/nvidia/libcuda.so.1\0';
    const cached = { [usual]: null, '/etc/ld.so.cache': cache };
    expect((await of('libcuda', { files: cached }))[0].state).toBe('missing');
    const there = { ...cached, '/opt/nvidia/libcuda.so.1': '' };
    expect((await of('libcuda', { files: there }))[0].what).toBe('/opt/nvidia/libcuda.so.1');
    const files = { ...there, '/opt/mine/libcuda.so.1': '' };
    const from = { env: { LD_LIBRARY_PATH: 'relative:/opt/mine' } };
    expect((await of('libcuda', { files, from }))[0].what).toBe('/opt/mine/libcuda.so.1, /opt/nvidia/libcuda.so.1');
  });

  it('finds libcuda where the loader has to be told of it', async () => {
    const files = { '/usr/lib/x86_64-linux-gnu/libcuda.so.1': null, '/usr/local/nvidia/lib64/libcuda.so.1': '' };
    expect((await of('libcuda', { files }))[0]).toMatchObject({
      state: 'limited',
      todo: 'export LD_LIBRARY_PATH=/usr/local/nvidia/lib64',
    });
    const env = { LD_LIBRARY_PATH: '/usr/local/nvidia/lib64' };
    expect((await of('libcuda', { files, from: { env } }))[0]).toMatchObject({
      state: 'ok',
      what: '/usr/local/nvidia/lib64/libcuda.so.1',
    });
  });

  it('says what cannot be read, with the errno', async () => {
    const path = '/proc/self/auxv';
    const [finding] = await of('CPU memory', { files: { [path]: null } });
    expect(finding).toEqual({ topic: 'CPU memory', state: 'unknown', what: `${path} cannot be read (ENOENT)` });
  });
});
