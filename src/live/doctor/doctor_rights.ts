/**
 * Findings about who may look into which process. Recording takes descriptors of another process (pidfd_getfd), which
 * Linux allows to whom it would allow to attach a debugger: equal ids, a dumpable process and no more capabilities than
 * one's own, or CAP_SYS_PTRACE; and the Yama module asks for more than that.
 */
import { absent, type Finding, type Topic, unreadable } from './finding.ts';
import type { MachineFacts } from './machine_facts.ts';
import type { ProcessFacts } from './process_facts.ts';
import { coversCapabilities, type Fact, hasPtraceCapability, known, type ProcessStatus } from './system_files.ts';

const YAMA = 'kernel.yama.ptrace_scope';
const YAMA_PATH = '/proc/sys/kernel/yama/ptrace_scope';
const STATUS_PATH = '/proc/self/status';
const WHOLE_MAP = '0 0 4294967295';

const GIVE_CAPABILITY = 'run uvmlab as root (a container has to be started with --cap-add SYS_PTRACE)';
const lowered = (scope: number): string => `as root: sysctl ${YAMA}=${scope} (in a container: on its host)`;

/** The scope in force: a kernel without Yama has the rules of scope 0. */
function yamaScope(facts: MachineFacts): Fact<number> {
  return absent(facts.yama) ? { value: 0 } : facts.yama;
}

function yamaText(facts: MachineFacts): string {
  return absent(facts.yama) ? 'this kernel has no Yama' : `${YAMA} is ${known(facts.yama) ?? 'unknown'}`;
}

/** Whether this is a user namespace below the first one; null where that cannot be told. */
function inUserNamespace(facts: MachineFacts): boolean | null {
  const map = known(facts.uidMap);
  return map === null ? null : map.join() !== WHOLE_MAP;
}

function rightsFinding(facts: MachineFacts): Finding {
  const topic = 'rights';
  const { self } = facts;
  if ('errno' in self) return { topic, state: 'unknown', what: `${STATUS_PATH} cannot be read (${self.errno})` };
  const { uid } = self.value;
  const able = hasPtraceCapability(self.value);
  const user = uid.real === uid.effective ? `user ${uid.real}` : `user ${uid.real}, acting as ${uid.effective}`;
  const what = `${user} ${able ? 'with' : 'without'} CAP_SYS_PTRACE; ${yamaText(facts)}`;
  const apart = inUserNamespace(facts);
  if (able && apart === null) {
    return { topic, state: 'unknown', what: `${what}; /proc/self/uid_map does not say in which user namespace` };
  }
  if (!able || !apart) return { topic, state: 'ok', what };
  const rule = 'a capability counts for processes of its own user namespace and of those below it';
  return { topic, state: 'limited', what: `${what}; in a user namespace of its own`, rule };
}

/** The scope and the capability, or the finding that one of them is not known where it decides. */
type Power = { scope: number; able: boolean } | { unknown: Finding };

function powerOf(facts: MachineFacts, topic: Topic): Power {
  const scope = yamaScope(facts);
  if ('errno' in scope)
    return { unknown: { topic, state: 'unknown', what: `${YAMA_PATH} cannot be read (${scope.errno})` } };
  if (![0, 1, 2, 3].includes(scope.value)) {
    return { unknown: { topic, state: 'unknown', what: `${YAMA_PATH} says ${scope.value}; known are 0 to 3` } };
  }
  const { self } = facts;
  if ('errno' in self)
    return { unknown: { topic, state: 'unknown', what: `${STATUS_PATH} cannot be read (${self.errno})` } };
  return { scope: scope.value, able: hasPtraceCapability(self.value) };
}

function nobody(topic: Topic, what: string): Finding {
  return {
    topic,
    state: 'missing',
    what,
    rule: `${YAMA} is 3: nobody may look into a process, and it stays so until the machine starts anew`,
    todo: 'start the machine with another scope (see /etc/sysctl.d)',
  };
}

function needsCapability(topic: Topic, what: string): Finding {
  return {
    topic,
    state: 'missing',
    what,
    rule: `${YAMA} is 2: only who has CAP_SYS_PTRACE may look into a process, even into one that it started`,
    todo: `${lowered(1)}; or ${GIVE_CAPABILITY}`,
  };
}

/** Programs that the recorder starts itself. */
function childFinding(facts: MachineFacts): Finding {
  const topic = 'record -- COMMAND';
  const power = powerOf(facts, topic);
  if ('unknown' in power) return power.unknown;
  const { scope, able } = power;
  if (scope === 3) return nobody(topic, 'programs that uvmlab starts cannot be recorded');
  if (scope === 2 && !able) return needsCapability(topic, 'programs that uvmlab starts cannot be recorded');
  return { topic, state: 'ok', what: 'programs that uvmlab starts can be recorded' };
}

/** Programs that run already. */
function otherFinding(facts: MachineFacts): Finding {
  const topic = 'record --pid';
  const power = powerOf(facts, topic);
  if ('unknown' in power) return power.unknown;
  const { scope, able } = power;
  if (scope === 3) return nobody(topic, 'running programs cannot be recorded');
  if (able) {
    const apart = inUserNamespace(facts) !== false;
    const whose = apart ? 'of this user namespace' : 'of all users';
    return { topic, state: apart ? 'limited' : 'ok', what: `running programs ${whose} can be recorded` };
  }
  if (scope === 2) return needsCapability(topic, 'running programs cannot be recorded');
  if (scope === 0) return { topic, state: 'ok', what: 'running programs of the same user can be recorded' };
  return {
    topic,
    state: 'limited',
    what: 'running programs can be recorded only where they have allowed it (PR_SET_PTRACER)',
    rule: `${YAMA} is 1: a process may look into its descendants, others need CAP_SYS_PTRACE`,
    todo: `start the program with uvmlab record -- COMMAND; or ${lowered(0)}; or ${GIVE_CAPABILITY}`,
  };
}

export function rightsFindings(facts: MachineFacts): Finding[] {
  return [rightsFinding(facts), childFinding(facts), otherFinding(facts)];
}

function same(status: ProcessStatus, other: ProcessStatus): boolean {
  const equal = (mine: number, ids: ProcessStatus['uid']) =>
    mine === ids.real && mine === ids.effective && mine === ids.saved;
  return equal(status.uid.real, other.uid) && equal(status.gid.real, other.gid);
}

/** Whether the capability of this process counts for another one; null where that cannot be told. */
function counts(facts: MachineFacts, target: ProcessFacts): boolean | null {
  if (inUserNamespace(facts) === false) return true;
  const [mine, its] = [known(facts.userNamespace), known(target.userNamespace)];
  if (mine === null || its === null) return null;
  // Another namespace may lie below this one, where the capability counts too; /proc does not tell.
  return mine === its ? true : null;
}

/**
 * Whether a process is dumpable; null where that cannot be told: its files belong to root then, as those of root's
 * own processes always do. A process whose links can be read is.
 */
function dumpable(target: ProcessFacts, status: ProcessStatus): boolean | null {
  if ((known(target.uvmFds) ?? []).length > 0) return true;
  const owner = known(target.fdOwner);
  if (owner === null) return null;
  if (owner !== status.uid.effective) return false;
  return owner === 0 ? null : true;
}

const START_IT = 'start the program with uvmlab record -- COMMAND';
const ROOT_MAY = `${GIVE_CAPABILITY}; or ${START_IT}`;

/** Why a process without the capability may not look into the target under scope 0; null when it may. */
function idsProblem(
  facts: MachineFacts,
  target: ProcessFacts,
  self: ProcessStatus,
  its: ProcessStatus,
): Finding | null {
  const topic = 'process';
  const what = `this user may not take the descriptors of process ${target.pid}`;
  const missing = (rule: string, todo = ROOT_MAY): Finding => ({ topic, state: 'missing', what, rule, todo });
  if (!same(self, its)) {
    const of = (status: ProcessStatus) => `user ${status.uid.effective} and group ${status.gid.effective}`;
    return missing(
      `it runs as ${of(its)}, this is user ${self.uid.real} and group ${self.gid.real}: without CAP_SYS_PTRACE all ` +
        'ids have to be the same',
      `run uvmlab as the same user and group; or ${GIVE_CAPABILITY}`,
    );
  }
  const dumps = dumpable(target, its);
  if (dumps === false) {
    return missing('it is not dumpable (a set-uid program, or one that asked for it): that needs CAP_SYS_PTRACE');
  }
  if (!coversCapabilities(self, its)) return missing('it has capabilities that this process has not');
  const [mine, other] = [known(facts.userNamespace), known(target.userNamespace)];
  if (mine !== null && other !== null && mine !== other) return missing('it runs in another user namespace');
  if (dumps === null) {
    const rule = 'a process that is not dumpable needs CAP_SYS_PTRACE; whether it is cannot be seen';
    return { topic, state: 'unknown', what: `whether the descriptors of process ${target.pid} may be taken`, rule };
  }
  return null;
}

/**
 * Whether its descriptors may be taken, by the rules that can be seen. Reading its links needs less than that: where
 * the kernel refuses it although these rules allow more, another rule is at work.
 */
function attachFinding(facts: MachineFacts, target: ProcessFacts): Finding {
  const finding = rulesFinding(facts, target);
  const { pid, uvmFds } = target;
  const refused = 'errno' in uvmFds && (uvmFds.errno === 'EACCES' || uvmFds.errno === 'EPERM');
  if (finding.state !== 'ok' || !refused) return finding;
  const what = `this user may not take the descriptors of process ${pid}`;
  return {
    topic: 'process',
    state: 'missing',
    what: `${what}: the kernel refuses already to show /proc/${pid}/fd (${uvmFds.errno})`,
    rule: 'not ids, capabilities or Yama, which would allow it: a security module (AppArmor, SELinux) or the like',
    todo: `see what the kernel log says of it (dmesg, ausearch -m avc); or ${START_IT}`,
  };
}

function rulesFinding(facts: MachineFacts, target: ProcessFacts): Finding {
  const topic = 'process';
  const { pid } = target;
  const power = powerOf(facts, topic);
  if ('unknown' in power) return power.unknown;
  const what = `this user may not take the descriptors of process ${pid}`;
  const { scope, able } = power;
  if (scope === 3) return nobody(topic, what);
  const self = known(facts.self);
  const its = known(target.status);
  if (self === null || its === null) {
    const unread = unreadable(topic, `/proc/${pid}/status`, target.status);
    return unread ?? { topic, state: 'unknown', what: `${STATUS_PATH} cannot be read` };
  }
  const ok: Finding = {
    topic,
    state: 'ok',
    what: `its descriptors may be taken${able ? ', with CAP_SYS_PTRACE' : ''}`,
  };
  if (able) {
    if (counts(facts, target) === true) return ok;
    const rule = 'CAP_SYS_PTRACE counts in its own user namespace and those below it';
    return { topic, state: 'unknown', what: `whether process ${pid} runs in such a user namespace`, rule };
  }
  if (scope === 2) return needsCapability(topic, what);
  const problem = idsProblem(facts, target, self, its);
  if (problem !== null) return problem;
  if (scope === 0) return ok;
  return {
    topic,
    state: 'missing',
    what: `${what}, unless it has allowed that (PR_SET_PTRACER), which cannot be seen`,
    rule: `${YAMA} is 1: a process may look into its descendants, others need CAP_SYS_PTRACE`,
    todo: `${lowered(0)}; or ${ROOT_MAY}`,
  };
}

function descriptorFinding({ pid, uvmFds }: ProcessFacts): Finding {
  const topic = 'process';
  if ('errno' in uvmFds) {
    const denied = uvmFds.errno === 'EACCES' || uvmFds.errno === 'EPERM';
    const what = `/proc/${pid}/fd cannot be read (${uvmFds.errno}): whether it uses the driver is not known`;
    return denied
      ? { topic, state: 'unknown', what, rule: 'only who may look into a process may read its list of descriptors' }
      : { topic, state: 'unknown', what };
  }
  const count = uvmFds.value.length;
  if (count === 0) {
    return {
      topic,
      state: 'missing',
      what: 'it has no open /dev/nvidia-uvm: it is no CUDA program, or has not started CUDA yet',
      todo: 'give the process that uses the GPU (a script may have started it), or wait until it does',
    };
  }
  return { topic, state: 'ok', what: `it has /dev/nvidia-uvm open: descriptors ${uvmFds.value.join(', ')}` };
}

/** What is said of the process that --pid names. */
export function processFindings(facts: MachineFacts, target: ProcessFacts): Finding[] {
  const topic = 'process';
  const { pid, program, alive, status } = target;
  if (!alive) {
    return [
      {
        topic,
        state: 'missing',
        what: `there is no process ${pid}, or it has ended, or /proc hides it`,
        todo: 'look for it with ps: a container has its own numbers, and /proc mounted with hidepid hides other users',
      },
    ];
  }
  const its = known(status);
  if (its !== null && its.group !== null && its.group !== pid) {
    return [
      {
        topic,
        state: 'missing',
        what: `${pid} is a thread of process ${its.group}`,
        rule: 'descriptors are taken from a process by its own number',
        todo: `give the process: --pid ${its.group}`,
      },
    ];
  }
  const whose = its === null ? '' : `, of user ${its.uid.effective}`;
  const named: Finding = {
    topic,
    state: 'ok',
    what: `process ${pid}${program === null ? '' : ` (${program})`}${whose}`,
  };
  const out = [named, attachFinding(facts, target), descriptorFinding(target)];
  if (its !== null && its.tracer !== 0) {
    out.push({ topic, state: 'ok', what: `process ${its.tracer} traces it: that hinders nothing, but may stop it` });
  }
  return out;
}
