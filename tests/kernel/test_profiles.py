import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byenatos_kernel.profiles import ProfileError, Profiles, usual_profile
from byenatos_kernel.shipped import shipped
from byenatos_sdk.manifest import Egress, Manifest, Plugin

SHIPPED = shipped("policies") / "sandbox"
NAMES = ("local-model", "cloud-api", "front", "development")


def manifest(kind="driver", *, egress=()):
    return Manifest(Plugin("acme", "1", "a:B", kind=kind), egress=list(egress))


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_profiles_are_whole(name):
    profile = Profiles([SHIPPED]).find(name)
    assert profile.thread_count(1) == 1
    assert 0 < profile.memory(1) <= profile.memory(0)


def test_only_local_models_may_write_code_and_only_cloud_drivers_use_the_network():
    local, cloud, front, _ = (Profiles([SHIPPED]).find(name) for name in NAMES)
    assert (local.writable_code, local.network, local.model_files) == (True, False, True)
    assert (cloud.writable_code, cloud.network, cloud.model_files, cloud.devices) == (False, True, False, False)
    assert (front.writable_code, front.network, front.devices) == (False, False, False)


def test_a_plugin_gets_the_profile_of_what_it_asks_for():
    assert usual_profile(manifest()) == "local-model"
    assert usual_profile(manifest(egress=[Egress("a.example")])) == "cloud-api"
    assert usual_profile(manifest("front")) == "front"


def test_the_operators_profile_takes_the_place_of_the_shipped_one(tmp_path):
    text = (SHIPPED / "front.toml").read_text()
    (tmp_path / "front.toml").write_text(text.replace("memory_mib = 512", "memory_mib = 99"))
    assert Profiles([tmp_path, SHIPPED]).find("front").memory_mib == 99
    assert Profiles([tmp_path, SHIPPED]).find("cloud-api").memory_mib == 512


def test_a_name_that_there_is_not_is_answered_with_what_there_is():
    with pytest.raises(ProfileError, match="cloud-api, development, front, local-model, found 'moat'"):
        Profiles([SHIPPED]).find("moat")


@pytest.mark.parametrize(
    ("line", "instead", "words"),
    [
        ("tasks = 32", "tasks = 1", "tasks"),
        ("tasks = 32", "", "missing required field `tasks`"),
        ("network = false", "network = 'yes'", "network"),
        ("network = false", "network = false\nwings = true", "unknown field `wings`"),
        ("network = false", "network =", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path, line, instead, words):
    path = tmp_path / "front.toml"
    path.write_text((SHIPPED / "front.toml").read_text().replace(line, instead))
    with pytest.raises(ProfileError, match=re.escape(str(path))) as refused:
        Profiles([tmp_path]).find("front")
    assert words in refused.value.message


def test_a_driver_gets_what_it_asks_for_as_far_as_its_profile_goes():
    cloud = Profiles([SHIPPED]).find("cloud-api")
    assert (cloud.memory(128), cloud.memory(0), cloud.memory(9999)) == (128, 512, 512)
    assert (cloud.thread_count(2), cloud.thread_count(99)) == (2, 4)
    local = Profiles([SHIPPED]).find("local-model")
    assert local.thread_count(9999) == len(os.sched_getaffinity(0))
    assert 0 < local.memory(0) < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20


@given(st.binary(max_size=300))
def test_no_bytes_become_a_profile_by_chance(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "any.toml").write_bytes(data)
    with pytest.raises(ProfileError, match=re.escape(str(folder / "any.toml"))):
        Profiles([folder]).find("any")
