from pathlib import Path

import pytest

from byenatos_kernel.access import Access, DriverRules, Isolation
from byenatos_kernel.grants import Grants
from byenatos_kernel.model_files import ModelFile
from byenatos_kernel.models import ModelEntry, PluginEntry
from byenatos_kernel.profiles import Profiles
from byenatos_kernel.shipped import shipped
from byenatos_sdk.manifest import Egress, Manifest, Permissions, Plugin
from byenatos_sdk.protocol.errors import InvalidRequest

MODEL = Path("/models/one.gguf")


def grant(rules=None, isolation=None, **permissions):
    access = Access(isolation or Isolation(), drivers={"acme": rules} if rules else {})
    grants = Grants(access, Profiles([shipped("policies") / "sandbox"]), Path("/scratch"))
    manifest = Manifest(Plugin("acme", "1", "a:B"), permissions=Permissions(**permissions))
    return grants.for_model(PluginEntry("acme", Path("/plugins/acme"), manifest), ModelEntry("one", "acme", MODEL))


def test_a_driver_that_nobody_names_gets_its_model_file_and_a_template_of_its_own():
    granted = grant()
    assert granted.name == "acme/one"
    assert granted.files == (str(MODEL),)
    assert granted.template == "one-shot"
    assert granted.devices == ()
    assert granted.memory_mib > 0
    assert granted.required == {"filesystem", "network", "system-calls"}


def test_code_is_written_only_if_both_the_manifest_and_the_profile_say_so():
    assert grant(writable_code=True).writable_code
    assert not grant().writable_code
    assert not grant(DriverRules(profile="cloud-api"), writable_code=True).writable_code


def test_the_egress_socket_is_there_only_if_both_the_manifest_and_the_profile_say_so():
    assert grant(DriverRules(profile="cloud-api"), egress_socket=True).egress_socket
    assert not grant(DriverRules(profile="cloud-api")).egress_socket
    assert not grant(DriverRules(profile="local-model"), egress_socket=True).egress_socket


def test_a_profile_without_the_network_closes_it_whatever_the_manifest_asks_for():
    asked = Manifest(Plugin("acme", "1", "a:B"), egress=[Egress("api.acme.test")])
    plugin = PluginEntry("acme", Path("/plugins/acme"), asked)
    profiles = Profiles([shipped("policies") / "sandbox"])
    closed = {
        profile: Grants(Access(drivers={"acme": DriverRules(profile=profile)}), profiles, Path("/scratch"))
        for profile in ("", "cloud-api", "local-model")
    }
    assert closed[""].closed_network(plugin) == closed["cloud-api"].closed_network(plugin) == ""
    found = closed["local-model"].closed_network(plugin)
    assert found == "the profile local-model of the driver acme has network = false"


def test_a_profile_without_model_files_hides_them():
    assert grant(DriverRules(profile="cloud-api")).files == ()


def test_devices_are_what_the_operator_names_where_the_profile_allows_them():
    assert grant(DriverRules(devices=("/dev/nvidia0",))).devices == ("/dev/nvidia0",)
    assert grant(DriverRules(profile="front", devices=("/dev/nvidia0",))).devices == ()


def test_an_operator_who_says_so_requires_nothing():
    assert grant(isolation=Isolation(uncontained=True)).required == frozenset()


def test_a_profile_that_there_is_not_is_named():
    with pytest.raises(InvalidRequest, match="found 'moat'"):
        grant(DriverRules(profile="moat"))


def test_what_belongs_to_a_models_file_is_granted_with_it(tmp_path):
    for name in ("model", "adapter"):
        (tmp_path / name).write_bytes(b"x")
    entry = ModelEntry("one", "acme", tmp_path / "model")
    entry.file = ModelFile(tmp_path / "model")
    entry.file.further = (ModelFile(tmp_path / "adapter"),)
    plugin = PluginEntry("acme", Path("/plugins/acme"), Manifest(Plugin("acme", "1", "a:B")))
    grants = Grants(Access(), Profiles([shipped("policies") / "sandbox"]), Path("/scratch"))
    assert grants.for_model(plugin, entry).files == (str(tmp_path / "model"), str(tmp_path / "adapter"))
