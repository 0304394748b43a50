"""The root of a sandbox's own: what was granted is there under its own name, and nothing else is."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from byenatos_sandbox import Templates, launch
from byenatos_sandbox.layers import missing

pytestmark = pytest.mark.skipif(
    "mount-namespace" in missing(), reason=f"no mount namespace: {missing().get('mount-namespace')}"
)


def look(grant, talk, orders=None, *, entry="surroundings", code=None, **fields):
    """What a process with all layers sees."""

    async def main():
        config = json.dumps(orders or {}).encode() if entry == "surroundings" else orders
        process = launch(
            grant(without=frozenset(), **fields), entry=f"sandbox_entries:{entry}", config=config, code=code
        )
        known = await talk.answer(process)
        await talk.end(process)
        process.close()
        return known

    return asyncio.run(main())


HOST = ["/proc", "/sys", "/etc/passwd", "/etc/hosts", "/run", "/var", "/boot", "/usr/bin", "/bin/sh", "/dev/zero"]
"""Not where an interpreter may live: what leads to it is there, as empty folders."""


def test_of_the_host_nothing_is_there_but_what_runs_python(grant, talk):
    secret = str(Path(__file__))
    known = look(grant, talk, {"look": [*HOST, secret, "/dev/null", "/dev/urandom"], "paths": [*HOST, secret]})
    assert known["present"] == ["/dev/null", "/dev/urandom"]
    assert set(known["read"].values()) <= {"No such file or directory", "Permission denied"}


def test_it_is_process_1_of_a_nameless_host_and_nobodys_user(grant, talk):
    known = look(grant, talk)
    assert (known["pid"], known["parent"], known["user"], known["host"]) == (1, 0, 1000, "sandbox")


def test_threads_and_scratch_are_bounded(grant, talk, tmp_path):
    known = look(grant, talk, tasks=20, scratch_mib=3)
    assert known["threads"] == 20
    assert known["folder"] == "/scratch"
    assert known["scratch"]["mib"] == 3
    assert known["scratch"]["files"] == 1024
    assert known["scratch"]["flags"] & os.ST_NOEXEC
    assert not list(tmp_path.iterdir()), "a scratch folder was made on the disk"


def test_few_descriptors_are_enough(grant, talk):
    assert look(grant, talk, open_files=16)["pid"] == 1


def test_a_granted_file_has_no_name_and_a_granted_folder_has_its_own(grant, talk, tmp_path):
    for name in ("models", "adapters", "others"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    file, folder, other = str(tmp_path / "models" / "file"), str(tmp_path / "adapters"), str(tmp_path / "others")
    inner = f"{folder}/file"
    paths = [file, folder, inner, other]
    known = look(grant, talk, {"look": paths, "paths": paths, "write": [inner]}, files=(file, folder))
    assert known["present"] == [folder, inner]
    assert known["read"][file] == known["read"][other] == "No such file or directory"
    assert known["read"][inner] == "adapters"
    assert known["written"] == []
    assert (tmp_path / "adapters" / "file").read_text() == "adapters"


def test_a_granted_folder_is_found_through_links_too(grant, talk, tmp_path):
    (tmp_path / "real" / "folder").mkdir(parents=True)
    (tmp_path / "real" / "folder" / "file").write_text("weights")
    (tmp_path / "relative").symlink_to("real")
    (tmp_path / "absolute").symlink_to(tmp_path / "relative")
    folder = str(tmp_path / "absolute" / "folder")
    path = f"{folder}/file"
    assert look(grant, talk, {"paths": [path]}, files=(folder,))["read"][path] == "weights"


def test_there_is_nothing_in_the_place_of_a_granted_folders_descriptor(grant, talk, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("weights")
    known = look(grant, talk, {"descriptors": [5, 6]}, files=(str(tmp_path / "folder"), str(tmp_path / "file")))
    assert known["descriptors"] == {"5": "", "6": "weights"}


def test_a_granted_file_is_open_as_a_descriptor_whoever_may_read_it(grant, talk, tmp_path):
    private = tmp_path / "private"
    private.write_text("weights")
    private.chmod(0o600)
    known = look(grant, talk, {"descriptors": [5]}, files=(str(private),))
    assert known["descriptors"]["5"] == "weights"


def test_nothing_can_be_written_outside_the_scratch_folder(grant, talk):
    folders = ["/", "/dev", "/tmp", sys.base_prefix, grant().plugin, "/usr/lib", "/etc"]
    paths = [f"{folder}/made-in-a-sandbox" for folder in folders]
    known = look(grant, talk, {"write": [*paths, "/scratch/allowed"]})
    assert known["written"] == ["/scratch/allowed"]
    assert not any(Path(path).exists() for path in paths)


def test_code_comes_as_bytes_and_its_folder_is_not_looked_at(grant, talk, tmp_path):
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "speaker.py").write_text("SAYS = 'changed meanwhile'")
    (folder / "planted.py").write_text("SAYS = 'planted'")
    code = {
        "sandbox_entries.py": Path(grant().plugin, "sandbox_entries.py").read_bytes(),
        "speaker.py": b"SAYS = 'verified'",
        "package/__init__.py": b"",
    }
    known = look(grant, talk, b"speaker", entry="import_and_tell", code=code, plugin=str(folder))
    assert known == {"says": "verified", "file": f"{folder}/speaker.py"}
    paths = {"paths": [f"{folder}/planted.py", str(folder)], "write": [f"{folder}/speaker.py"]}
    known = look(grant, talk, paths, code=code, plugin=str(folder))
    assert known["read"][f"{folder}/planted.py"] == "No such file or directory"
    assert known["read"][str(folder)] == ["package", "sandbox_entries.py", "speaker.py"]
    assert known["written"] == []


def test_code_and_a_file_of_a_folder_that_is_reached_through_a_link_are_both_there(grant, talk, tmp_path):
    (tmp_path / "real" / "plugin").mkdir(parents=True)
    (tmp_path / "real" / "models").mkdir()
    (tmp_path / "real" / "models" / "weights").write_text("weights")
    (tmp_path / "home").symlink_to(tmp_path / "real")
    home = tmp_path / "home"
    weights = str(home / "models" / "weights")
    code = {"sandbox_entries.py": Path(grant().plugin, "sandbox_entries.py").read_bytes()}
    fields = {"plugin": str(home / "plugin"), "files": (str(home / "models"),)}
    known = look(grant, talk, {"paths": [weights, str(home / "plugin")]}, code=code, **fields)
    assert known["read"] == {weights: "weights", str(home / "plugin"): ["sandbox_entries.py"]}


def test_a_folder_to_import_from_whose_link_leads_to_itself_is_left_out(grant, talk, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert look(grant, talk, imports=(str(tmp_path / "loop"),))["pid"] == 1


def test_further_folders_are_imported_from(grant, talk, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "dependency.py").write_text("SAYS = 'of the site folder'")
    known = look(grant, talk, b"dependency", entry="import_and_tell", imports=(str(site),))
    assert known["says"] == "of the site folder"


def test_code_that_would_leave_its_folder_is_refused(grant, talk):
    async def main():
        process = launch(grant(without=frozenset()), entry="a:b", config=b"", code={"../outside.py": b""})
        end = await talk.end(process)
        process.close()
        return end

    assert "expected the names of files below a folder, found '../outside.py'" in asyncio.run(main()).describe()


@pytest.mark.parametrize("template", ["shared", "plain"])
def test_every_way_to_start_brings_the_same_root(grant, talk, template):
    async def main():
        templates = Templates()
        fields = {"template": template, "without": frozenset()}
        orders = json.dumps({"look": HOST}).encode()
        process = launch(grant(**fields), entry="sandbox_entries:surroundings", config=orders, templates=templates)
        known = await talk.answer(process)
        end = await talk.end(process)
        process.close()
        templates.close()
        return known, process.open, end.describe()

    known, is_open, end = asyncio.run(main())
    assert known["present"] == []
    assert (is_open, end) == ({}, "exited with status 0")
