/** What is said of one process: whether it can be recorded, and which rule forbids it. */
import { describe, expect, it } from 'vitest';
import {
  cudaProgram,
  DOCKER_CAPABILITIES,
  type FakeMachine,
  fakeMachine,
  statusText,
} from '../../../test/support/fake_machine.ts';
import { diagnose, hindrances } from './doctor.ts';
import type { Finding, Topic } from './finding.ts';
import { gatherFacts } from './machine_facts.ts';

async function findingsOf(machine: FakeMachine): Promise<Finding[]> {
  return diagnose(await gatherFacts(fakeMachine(machine)));
}

async function of(topic: Topic, machine: FakeMachine): Promise<Finding[]> {
  return (await findingsOf(machine)).filter((one) => one.topic === topic);
}

async function hindered(machine: FakeMachine): Promise<Topic[]> {
  return hindrances(await findingsOf(machine)).map(({ topic }) => topic);
}

const SELF = '/proc/self/status';
const ROOT = '0 0 0 0';
const scope = (value: number): Record<string, string> => ({ '/proc/sys/kernel/yama/ptrace_scope': `${value}\n` });

describe('a process', () => {
  const user = (change: FakeMachine = {}) => cudaProgram(4711, { ...change, files: { ...scope(0), ...change.files } });
  const status = (text: string) => ({ '/proc/4711/status': text });
  const attach = async (change: FakeMachine): Promise<Finding> => (await of('process', user(change)))[1];

  it('can be recorded under scope 0 by the same user', async () => {
    expect((await of('process', user())).map(({ state, what }) => [state, what])).toEqual([
      ['ok', 'process 4711 (python3), of user 1000'],
      ['ok', 'its descriptors may be taken'],
      ['ok', 'it has /dev/nvidia-uvm open: descriptors 7'],
    ]);
    expect(await hindered(user())).toEqual([]);
  });

  it('can be recorded under scope 1 or 2 with the capability alone', async () => {
    const capable = { [SELF]: statusText({ permitted: '80000' }) };
    for (const yama of [1, 2]) {
      expect(await attach({ files: scope(yama) })).toMatchObject({
        state: 'missing',
        rule: expect.stringContaining(`kernel.yama.ptrace_scope is ${yama}`),
      });
      expect((await attach({ files: { ...scope(yama), ...capable } })).state).toBe('ok');
    }
    expect((await attach({ files: { ...scope(3), ...capable } })).state).toBe('missing');
    expect(await hindered(user({ files: scope(1) }))).toEqual(['process']);
  });

  it('cannot where one of its ids is another, it is not dumpable, or it has more capabilities', async () => {
    const ids = await attach({ files: status(statusText({ ids: '1001 1001 1001 1001' })) });
    expect(ids.rule).toContain('user 1001');
    expect((await attach({ files: status(statusText({ gids: '1000 1000 100 1000' })) })).rule).toContain('all ids');
    const capable = await attach({ files: status(statusText({ permitted: '1' })) });
    expect(capable.rule).toContain('capabilities');
    const links = { '/proc/4711/fd/7': '/dev/zero', '/proc/4711/ns/user': 'user:[1]' };
    const hidden = { links: { ...links }, nodes: { '/proc/4711/fd': { uid: 0 } } };
    expect((await attach(hidden)).rule).toContain('not dumpable');
    expect((await attach({ links })).rule).toContain('another user namespace');
    for (const one of [ids, capable]) expect(one.state).toBe('missing');
  });

  it('does not guess whether a process of root is dumpable', async () => {
    const root = statusText({ ids: ROOT, permitted: DOCKER_CAPABILITIES });
    const change: FakeMachine = {
      files: { [SELF]: root, ...status(root) },
      links: { '/proc/4711/fd/7': '/dev/zero' },
      nodes: { '/proc/4711/fd': { uid: 0 } },
    };
    expect((await attach(change)).state).toBe('unknown');
    expect((await attach({ ...change, links: {} })).state).toBe('ok');
  });

  it('has to have the driver open, and may be traced', async () => {
    const change = { links: { '/proc/4711/fd/7': '/dev/zero' }, files: status(statusText({ tracer: 99 })) };
    const findings = await of('process', user(change));
    expect(findings[2]).toMatchObject({ state: 'missing', what: expect.stringContaining('no open /dev/nvidia-uvm') });
    expect(findings[3].what).toContain('process 99 traces it');
  });

  it('cannot where the kernel refuses already to show its links, whatever other rules allow', async () => {
    const facts = await gatherFacts(fakeMachine(user({ files: { [SELF]: statusText({ permitted: '80000' }) } })));
    const refused = { ...facts, process: { ...facts.process!, uvmFds: { errno: 'EACCES' } } };
    const [, attached] = diagnose(facts).filter(({ topic }) => topic === 'process');
    expect(attached).toMatchObject({ state: 'ok', what: 'its descriptors may be taken, with CAP_SYS_PTRACE' });
    const [, attach, list] = diagnose(refused).filter(({ topic }) => topic === 'process');
    expect(attach).toMatchObject({ state: 'missing', rule: expect.stringContaining('a security module') });
    expect(list).toMatchObject({ state: 'unknown', what: expect.stringContaining('EACCES') });
    // Where a rule that can be seen refuses it, that one is named.
    const bound = { ...refused, yama: { value: 3 } };
    expect(diagnose(bound).filter(({ topic }) => topic === 'process')[1].rule).toContain('ptrace_scope is 3');
  });

  it('is asked for by its own number, not by that of a thread', async () => {
    const findings = await of('process', user({ files: status(`Tgid:\t4700\n${statusText()}`) }));
    expect(findings).toEqual([expect.objectContaining({ state: 'missing', todo: 'give the process: --pid 4700' })]);
    expect(await of('process', user({ files: status(`Tgid:\t4711\n${statusText()}`) }))).toHaveLength(3);
  });

  it('is not guessed about where its status lacks a line', async () => {
    const lacking = statusText().replace(/^CapPrm:.*\n/m, '');
    expect(await attach({ files: status(lacking) })).toMatchObject({
      state: 'unknown',
      what: '/proc/4711/status cannot be read (no line CapPrm)',
    });
    expect((await of('rights', { files: { [SELF]: lacking } }))[0]).toMatchObject({
      state: 'unknown',
      what: '/proc/self/status cannot be read (no line CapPrm)',
    });
  });

  it('has to be there', async () => {
    expect(await of('process', { from: { pid: 12 } })).toHaveLength(1);
    expect(await hindered({ from: { pid: 12 } })).toEqual(['process']);
    const zombie = { '/proc/4711/stat': '4711 (a) Z 1 1 1\n' };
    expect((await of('process', user({ files: zombie })))[0].state).toBe('missing');
  });
});
