"""What the registry makes of folders and of what drivers say of files."""

import pytest

from byenatos_kernel.config import Config, ModelConfig
from byenatos_sdk.protocol.control import ModelChanged, ProbeResult
from byenatos_sdk.protocol.errors import NotFound, Unavailable
from byenatos_sdk.protocol.frames import encode


async def test_the_models_of_a_manifest_are_there_and_the_configuration_is_laid_over_them(rig):
    configured = ModelConfig("a", "scripted", max_tokens=7, temperature=0.5, timeout=3, settings={"x": 1})
    async with rig({}, config=Config(models=[configured])) as kernel:
        assert sorted(kernel.registry.models) == ["a", "b", "c"]
        model = kernel.registry.model("a")
        assert (model.max_tokens, model.temperature, model.timeout_s, model.settings) == (7, 0.5, 3, {"x": 1})
        assert kernel.registry.model("b").max_tokens is None
        with pytest.raises(NotFound, match=r"no model 'd'; there is a, b, c"):
            kernel.registry.model("d")


async def test_a_broken_manifest_is_refused_by_name_and_the_others_stay(rig, tmp_path):
    async with rig({}) as kernel:
        broken = tmp_path / "plugins" / "broken"
        broken.mkdir()
        (broken / "plugin.toml").write_text("[plugin]\nid = 'other'\nversion = '1'\nentry = 'a:B'\n")
        kernel.registry.scan()
        await kernel.shelf.verified()
        plugin = kernel.registry.plugins["broken"]
        assert plugin.info.state == "refused"
        assert "plugin.id: expected 'broken'" in plugin.info.reason
        assert kernel.registry.plugin_for(kernel.registry.model("a")).id == "scripted"


async def test_a_model_whose_name_another_driver_has_is_not_offered_and_that_is_said(rig, tmp_path):
    async with rig({}) as kernel:
        other = tmp_path / "plugins" / "zother"
        other.mkdir()
        (other / "plugin.toml").write_text(
            "[plugin]\nid = 'zother'\nversion = '1'\nentry = 'a:B'\n[[models]]\nid = 'a'\n[[models]]\nid = 'own'\n"
        )
        (other / "a.py").write_text("")
        kernel.registry.scan()
        await kernel.shelf.verified()
        assert kernel.registry.model("a").driver == "scripted"
        assert kernel.registry.model("own").driver == "zother"
        (warning,) = kernel.registry.warnings
        assert warning.startswith("the driver zother does not offer its model 'a': scripted declares one of that name")


async def test_a_model_that_is_not_there_is_met_with_what_is_near_or_why_its_driver_is_refused(rig, tmp_path):
    async with rig({}) as kernel:
        refused = tmp_path / "plugins" / "refused"
        refused.mkdir()
        (refused / "plugin.toml").write_text("[plugin]\nid = 'other'\nversion = '1'\nentry = 'a:B'\n")
        many = tmp_path / "plugins" / "many"
        many.mkdir()
        models = "".join(f"[[models]]\nid = 'talker-{number}'\n" for number in range(20))
        (many / "plugin.toml").write_text(f"[plugin]\nid = 'many'\nversion = '1'\nentry = 'a:B'\n{models}")
        kernel.registry.scan()
        await kernel.shelf.verified()
        with pytest.raises(
            NotFound, match=r"no model 'refused': the driver of that name is refused: .*expected 'refused'"
        ):
            kernel.registry.model("refused")
        with pytest.raises(
            NotFound, match=r"no model 'talker7'; is it talker-7 or .*`byenatos models list` lists the 23"
        ):
            kernel.registry.model("talker7")
        with pytest.raises(NotFound, match=r"no model 'zzz'; `byenatos models list` lists"):
            kernel.registry.model("zzz")


async def test_a_model_whose_declaration_is_gone_is_removed_once_nothing_uses_it(rig, tmp_path):
    async with rig({"main": "a"}) as kernel:
        manifest = tmp_path / "plugins" / "scripted" / "plugin.toml"
        manifest.write_text(manifest.read_text().replace('[[models]]\nid = "a"\n', "").replace('id = "b"', 'id = "d"'))
        kernel.registry.scan()
        await kernel.shelf.verified()
        assert kernel.registry.models["a"].state == "removed"
        assert sorted(kernel.registry.models) == ["a", "c", "d"]
        with pytest.raises(NotFound):
            kernel.registry.model("a")


async def settle_file(kernel, until, name: str):
    """Drop a file in and wait for the verdict on it."""
    path = kernel.registry.folder / name
    path.write_text("a toy")
    kernel.registry.scan()
    entry = next(entry for entry in kernel.registry.models.values() if entry.path == path)
    await until(lambda: entry.state in {"available", "refused"})
    return entry


async def test_a_file_is_judged_by_the_driver_that_takes_files_of_its_name(rig, until):
    async with rig({}) as kernel:
        entry = await settle_file(kernel, until, "one.TOY")
        assert (entry.id, entry.driver, entry.state) == ("one", "scripted", "available")
        assert entry.specification.architecture == "toy"
        states = [event.model.state for event in kernel.events if isinstance(event, ModelChanged)]
        assert states[-3:] == ["copying", "checking", "available"]
        await until(lambda: not kernel.alive)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (encode(ProbeResult(reason="expected a toy")), "scripted: expected a toy"),
        (b"\xc1", "scripted: could not be checked"),
        (b"\x81\xa6reason\xa1\xff", "scripted: could not be checked"),
        (b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0", "scripted: could not be checked"),
    ],
)
async def test_a_file_that_its_driver_does_not_take_or_judges_in_rubbish_is_refused(rig, until, reply, reason):
    async with rig({}) as kernel:
        kernel.probe_reply = reply
        entry = await settle_file(kernel, until, "one.toy")
        assert entry.state == "refused"
        assert reason in entry.reason
        with pytest.raises(Unavailable, match="one is refused"):
            kernel.drivers.load(kernel.registry.model("one"))
        await until(lambda: not kernel.alive)


async def test_a_file_that_no_driver_takes_is_refused_with_what_would_be_taken(rig, until):
    async with rig({}) as kernel:
        entry = await settle_file(kernel, until, "notes.txt")
        assert entry.state == "refused"
        assert "scripted takes *.toy" in entry.reason


async def test_a_file_of_a_name_that_is_taken_is_refused_until_it_is_renamed(rig, until):
    async with rig({}) as kernel:
        entry = await settle_file(kernel, until, "a.toy")
        assert (entry.id, entry.state) == ("a.toy", "refused")
        assert "the name 'a' is taken by the driver scripted; rename the file" in entry.reason
        assert kernel.registry.model("a").state == "available"
