"""``byenatos driver run``: an author's folder, unsigned, in its sandbox, with nothing left of it afterwards."""

import json
import os
import select
import signal
import tempfile
from pathlib import Path

import psutil
import pytest

CEILING_S = 60

MANIFEST = """
[plugin]
id = "shout"
version = "1"
entry = "driver:Shout"

[permissions]
memory_mib = 4096
threads = 3
writable_code = true

[[egress]]
host = "api.acme.test"
paths = ["/v1/"]
key = {secret = "acme", header = "x-api-key"}

[[egress]]
host = "telemetry.acme.test"

[[models]]
id = "shout"
"""
DRIVER = """
import os
from byenatos_sdk import Driver

class Shout(Driver):
    async def infer(self, request):
        print("I was asked")
        yield request.messages[-1].text.upper() if os.getenv("ACME_KEY") is None else "it has the key"
"""
ACCESS = """
[drivers.shout]
network = ["api.acme.test:443"]
secrets = ["acme"]
[secrets.acme]
environment = "ACME_KEY"
"""


@pytest.fixture
def temporary(monkeypatch):
    """Where what is temporary lies: at a short path, because sockets have no room for a long one."""
    with tempfile.TemporaryDirectory(prefix="b-", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)


@pytest.fixture
def shout(temporary, tmp_path):
    """The folder of a driver that nobody signed."""
    folder = tmp_path / "shout"
    folder.mkdir()
    (folder / "plugin.toml").write_text(MANIFEST)
    (folder / "driver.py").write_text(DRIVER)
    return folder


def left(temporary: Path) -> list[str]:
    """Kernels of temporary homes, and the homes."""
    kernels = []
    for one in psutil.process_iter(["cmdline"]):
        command = " ".join(one.info["cmdline"] or ())
        kernels += [command] if f"--home {temporary}" in command else []
    return [*kernels, *(path.name for path in temporary.iterdir())]


def test_a_folder_that_nobody_signed_is_started_and_asked_and_nothing_is_left(run, home, shout, temporary, monkeypatch):
    home.policies.mkdir(parents=True)
    home.access.write_text(ACCESS)
    monkeypatch.setenv("ACME_KEY", "sk-0123456789abcdef")
    outcome = run("driver", "run", str(shout), "--prompt", "hello")
    assert outcome.code == 0, outcome.error
    lines = {line.split("  ")[0]: line for line in outcome.out.splitlines()}
    assert lines["memory"].split()[-2:] == ["512", "MiB"]
    assert lines["writable code"].endswith("refused by its profile")
    assert lines["https://api.acme.test:443"].endswith("key acme  granted")
    assert "telemetry.acme.test:443 is not granted" in lines["https://telemetry.acme.test:443"]
    assert outcome.out.endswith("HELLO\n")
    assert "shout/shout is ready" in outcome.error
    assert "it printed: I was asked" in outcome.error
    assert "sk-0123456789abcdef" not in outcome.out + outcome.error
    assert left(temporary) == []
    assert [path.name for path in home.path.iterdir()] == ["policies"]  # the operator's home is only read


def test_the_answer_is_a_value_with_json(run, shout):
    (shout / ".git").mkdir()  # an author's folder has one
    (shout / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    found = json.loads(run("driver", "run", str(shout), "--prompt", "hello", "--json").out)
    assert (found["id"], found["answer"], found["instance"]["state"]) == ("shout", "HELLO", "ready")
    assert {one["what"]: one["granted"] for one in found["asked"]}["threads"] == "3"


def test_a_driver_that_cannot_be_started_is_named_with_what_it_said(run, shout, temporary):
    (shout / "driver.py").write_text("import nothing_of_that_name\n")
    outcome = run("driver", "run", str(shout), "--prompt", "hello")
    assert outcome.code == 1
    assert "No module named 'nothing_of_that_name'" in outcome.error
    assert " INFO " not in outcome.error
    assert left(temporary) == []


def test_an_answer_that_fails_is_shown_with_the_traceback_of_the_drivers_code(run, shout, temporary):
    (shout / "driver.py").write_text(
        DRIVER.replace("yield request", "yield 'half '; raise ValueError('no more')\n        yield request")
    )
    outcome = run("driver", "run", str(shout), "--prompt", "hello")
    assert (outcome.code, outcome.out.splitlines()[-1]) == (1, "half ")
    assert "it printed: I was asked" in outcome.error
    assert "it printed: ValueError: no more" in outcome.error
    assert outcome.error.splitlines()[-1] == "byenatos: ValueError: no more"
    assert " INFO " not in outcome.error
    assert left(temporary) == []


def test_a_front_is_not_tried_out_and_the_way_to_start_it_is_named(run, shout, temporary):
    (shout / "plugin.toml").write_text(MANIFEST.replace('version = "1"', 'version = "1"\nkind = "front"'))
    outcome = run("driver", "run", str(shout))
    assert outcome.code == 1
    assert "it is a front, and answers nothing by itself" in outcome.error
    assert left(temporary) == []


def test_what_no_signature_could_cover_is_refused_by_name(run, shout, temporary):
    (shout / "more.py").symlink_to("/etc/passwd")
    outcome = run("driver", "run", str(shout))
    assert outcome.code == 1
    assert "more.py: expected a plain file, found a link" in outcome.error
    assert left(temporary) == []


def test_a_manifest_that_is_wrong_needs_no_kernel_to_be_refused(run, shout, temporary):
    (shout / "plugin.toml").write_text(MANIFEST.replace("threads = 3", "thread = 3"))
    outcome = run("driver", "run", str(shout))
    assert outcome.code == 1
    assert "permissions.thread: expected one of" in outcome.error
    (shout / "plugin.toml").write_text(MANIFEST.replace('[[models]]\nid = "shout"\n', ""))
    assert "it declares no [[models]]; name a model file: --file FILE" in run("driver", "run", str(shout)).error
    assert left(temporary) == []


def test_a_revoked_state_is_not_tried_out_either(run, home, shout):
    home.policies.mkdir(parents=True, exist_ok=True)
    home.access.write_text("[plugins]\nunsigned = true\n")
    digest = json.loads(run("driver", "verify", f"{shout}/", "--json").out)["digest"]
    assert run("driver", "revoke", digest, "it shouts").code == 0
    outcome = run("driver", "run", str(shout))
    assert outcome.code == 1
    assert "is revoked: it shouts" in outcome.error


def test_its_kernel_ends_with_a_command_that_is_killed(start, shout):
    (shout / "driver.py").write_text(DRIVER.replace("print(", "import time; time.sleep(1e6); print("))
    command = start("driver", "run", str(shout), "--prompt", "hello")
    assert command.stderr is not None
    assert "is ready" in command.stderr.readline()
    kernels = [os.pidfd_open(one.pid) for one in psutil.Process(command.pid).children(recursive=True)]
    assert kernels
    command.send_signal(signal.SIGKILL)
    command.communicate()
    for one in kernels:
        assert select.select([one], [], [], CEILING_S)[0], "a process is left"
        os.close(one)
