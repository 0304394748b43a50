"""Refusing to die, and leaving something behind."""

import json
import os
import resource
import signal
import threading

from attacks.registry import answer_for_ever, attack, call, check, libc


@attack("process", lasting=True)
def ignores_the_request_to_end(prey):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    return "ignored"


@attack("process", lasting=True)
def blocks_every_signal(prey):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return "blocked"


@attack("process", lasting=True)
def goes_on_without_its_first_thread(prey):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    says = json.dumps({"worked": "goes on"}).encode()

    def another():
        os.write(prey["wire"], b"\n" + says + b"\n")
        answer_for_ever(prey["wire"])

    threading.Thread(target=another, daemon=True).start()
    return call("exit", 0)  # of this thread alone


@attack("seccomp", "namespaces", lasting=True)
def leaves_a_daemon_behind(prey):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            answer_for_ever(prey["wire"])
        os._exit(0)
    os.wait()
    return "left"


@attack("seccomp", "namespaces", "process", lasting=True)
def leaves_a_child_behind(prey):
    ours, its = os.pipe()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(its, b"ready")
        answer_for_ever(prey["wire"])
    return os.read(ours, 5)


@attack("seccomp")
def outlives_its_parent(prey):
    return check(libc().prctl(1, 0, 0, 0, 0))  # PR_SET_PDEATHSIG


@attack("seccomp")
def adopts_orphans(prey):
    return check(libc().prctl(36, 1, 0, 0, 0))  # PR_SET_CHILD_SUBREAPER


@attack("seccomp")
def leaves_its_group(prey):
    if os.fork() == 0:  # a leader of a session can leave by its child only
        os.setpgid(0, 0)
        os._exit(42)
    return os.waitstatus_to_exitcode(os.wait()[1]) == 42 and "left"


@attack("seccomp")
def becomes_dumpable(prey):
    return check(libc().prctl(4, 1, 0, 0, 0))


@attack("limits", needs="a system whose hard limit for core files is above 0")
def asks_for_a_core_file(prey):
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        raise PermissionError("the hard limit is 0")
    return resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


@attack("seccomp")
def forks_by_the_oldest_call(prey):
    if call("fork") == 0:
        os._exit(0)
    return os.wait()


@attack("seccomp")
def has_the_kernel_be_the_parent_of_its_child(prey):
    pid = call("clone", 0x00008000 | int(signal.SIGCHLD), 0, 0, 0, 0)  # CLONE_PARENT
    if pid == 0:
        os._exit(0)
    return pid
