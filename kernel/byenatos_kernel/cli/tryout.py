"""``byenatos driver run``: try a plugin folder out, unsigned as it is, without a kernel that anybody else uses.

A kernel of its own is started in a temporary home, with the operator's rules, and stopped again. To that kernel the
folder is one that its operator has signed: verifying, granting, isolating and asking are what they are everywhere. Only
the operator's word on the signature is given beforehand, for this one folder, by whoever runs the command.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from byenatos_kernel.access import read_access
from byenatos_kernel.cli.answer import show_answer, show_note
from byenatos_kernel.cli.driver import Subject, find_folder
from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.power import start_detached, stop
from byenatos_kernel.cli.screen import say, show_json, show_table
from byenatos_kernel.shipped import access_file, shipped
from byenatos_sdk.home import Home
from byenatos_sdk.manifest import Manifest, read_manifest
from byenatos_sdk.protocol.control import InstanceInfo
from byenatos_sdk.protocol.errors import ByenatosError, DeadlineExceeded, InvalidRequest, PermissionDenied
from byenatos_sdk.protocol.messages import Value

if TYPE_CHECKING:
    from byenatos_sdk.client import Client

__all__ = ["Asked", "run"]

_START_WITHIN_S, _STOP_WITHIN_S, _JUDGE_WITHIN_S = 60.0, 15.0, 120.0
_LOOK_EVERY_S = 0.05
_LEVEL_WITHIN = 40
"""Characters of a line of the log in which its level stands."""
_RULES = ("access.toml", "sandbox", "trust/revoked.toml")


class Asked(Value, frozen=True):
    """One thing that a manifest asks for, and what becomes of it."""

    what: str
    asked: str
    granted: str


class Tried(Value, frozen=True):
    """What came of a driver: what it asked for, the process that served, and its answer, if it was asked."""

    id: str
    asked: tuple[Asked, ...]
    instance: InstanceInfo
    answer: str | None = None


def run(
    context: typer.Context,
    subject: Subject,
    *,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", metavar="TEXT", help="Ask it this.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="ID", help="One of its models. Default: the first.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="A model file to load, for a driver of model files.")
    ] = None,
    find_links: Annotated[
        Path | None,
        typer.Option("--find-links", metavar="FOLDER", help="Take its packages from here, not from an index."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try out a plugin folder that nobody signed: start it in its sandbox, show what it gets, ask it something.

    It has a kernel of its own for that, by the rules of this home.
    """
    from byenatos_sdk.client import Client

    home = home_of(context)
    folder = find_folder(home, subject)
    manifest = read_manifest(folder)
    if manifest.plugin.kind == "front":
        raise InvalidRequest(
            f"{folder / 'plugin.toml'}: it is a front, and answers nothing by itself; sign it, name it under "
            "`fronts` in config.json, and look at byenatos status"
        )
    if not manifest.models and file is None:
        raise InvalidRequest(f"{folder / 'plugin.toml'}: it declares no [[models]]; name a model file: --file FILE")
    with _temporary_home() as trial:
        _prepare(trial, home, folder, file, find_links)
        asked = requests(trial, folder, manifest)
        if not as_json:
            _show(manifest, asked)
        with _kernel(trial), Client(trial) as client:
            chosen = _choose(client, manifest, model, file)
            instance = client.load(chosen)
            if as_json:
                answer = client.infer(prompt, model=chosen).text if prompt is not None else None
                show_json(Tried(manifest.plugin.id, asked, instance, answer))
                return
            _show_instance(instance)
            try:
                if prompt is not None:
                    with client.stream(prompt, model=chosen) as deltas:
                        show_answer(deltas)
            finally:
                _show_printed(client)


def requests(home: Home, folder: Path, manifest: Manifest) -> tuple[Asked, ...]:
    """Return what a manifest asks for with what the rules of ``home`` make of it.

    Raises:
        InvalidRequest: the operator's files or the manifest ask for what cannot be.
    """
    from byenatos_kernel.egress_rules import granted_rules
    from byenatos_kernel.grants import Grants
    from byenatos_kernel.models import ModelEntry, PluginEntry
    from byenatos_kernel.profiles import Profiles, usual_profile

    access = read_access(access_file(home))
    plugin = PluginEntry(manifest.plugin.id, folder, manifest)
    grants = Grants(access, Profiles([home.policies / "sandbox", shipped("policies") / "sandbox"]), home.scratch)
    grant = grants.for_model(plugin, ModelEntry("any", plugin.id, folder / "any"))
    wanted = manifest.permissions
    profile = access.rules(plugin.id).profile
    usual = usual_profile(manifest)
    found = [
        Asked(
            "profile", "-", f"{profile}, by access.toml" if profile else f"{usual}, as is usual for what it asks for"
        ),
        Asked("memory", f"{wanted.memory_mib} MiB" if wanted.memory_mib else "any", f"{grant.memory_mib} MiB"),
        Asked("threads", str(wanted.threads), str(grant.threads)),
    ]
    for what, asked, granted in (
        ("model files", " ".join(wanted.model_files), bool(grant.files)),
        ("files that settings name", " ".join(wanted.file_settings), bool(grant.files)),
        ("writable code", "yes" if wanted.writable_code else "", grant.writable_code),
        ("egress socket", "yes" if wanted.egress_socket else "", grant.egress_socket),
    ):
        if asked:
            found.append(Asked(what, asked, "granted" if granted else "refused by its profile"))
    rules = granted_rules(manifest, access.rules(plugin.id), grants.closed_network(plugin))
    for egress, rule in zip(manifest.egress, rules, strict=True):
        key = f", key {egress.key.secret}" if egress.key is not None else ""
        text = f"{','.join(egress.methods)} {' '.join(egress.paths)}{key}"
        found.append(Asked(f"{egress.scheme}://{egress.place}", text, rule.refused or "granted"))
    return tuple(found)


def _prepare(trial: Home, home: Home, folder: Path, file: Path | None, find_links: Path | None) -> None:
    """Make the temporary home: the operator's rules, the folder with a signature, its packages, a model file."""
    from byenatos_kernel.environments import LOCK, build_environment
    from byenatos_kernel.operator_key import HISTORIES, initialise, sign_for_home

    try:
        trial.create()
        for name in _RULES:
            source = home.policies / name
            if source.is_dir():
                shutil.copytree(source, trial.policies / name)
            elif source.exists():
                shutil.copy(source, trial.policies / name)
        place = folder
        if folder.parent != shipped("plugins"):
            place = trial.plugins / folder.name
            shutil.copytree(folder, place, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", *HISTORIES))
            (place / "plugin.sig").unlink(missing_ok=True)
        keys, _ = initialise(trial)
        sign_for_home(trial, place, keys)
        if (place / LOCK).exists():
            pip = ("--no-index", "--find-links", str(find_links.resolve())) if find_links is not None else ()
            build_environment(trial, (place / LOCK).read_bytes(), pip=pip)
        if file is not None:
            (trial.models / file.name).symlink_to(file.resolve(strict=True))
    except (OSError, shutil.Error) as error:
        raise InvalidRequest(f"{folder} cannot be tried out: {error}") from None
    config = {"model_config": [], "slots": {}, "llm_driver_config": {"health_check_interval": 0}}
    trial.config.write_text(json.dumps(config))


@contextmanager
def _temporary_home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="byenatos-run-") as folder:
        trial = Home(folder)
        try:
            yield trial
        finally:
            shutil.rmtree(trial.run, ignore_errors=True)  # which lies elsewhere if the path is long


@contextmanager
def _kernel(trial: Home) -> Iterator[None]:
    start_detached(trial, wait_s=_START_WITHIN_S, attached=True)
    try:
        yield
    except ByenatosError:
        for line in _troubles(trial.log.read_text(errors="replace").splitlines())[-15:]:
            show_note(line)
        raise
    finally:
        stop(trial, wait_s=_STOP_WITHIN_S)


def _troubles(lines: list[str]) -> list[str]:
    """Leave out what a kernel's log says of what went well."""
    found = []
    told = True
    for line in lines:
        if not line.startswith("  "):  # else it belongs to the one before
            told = " INFO " not in line[:_LEVEL_WITHIN]
        if told:
            found.append(line)
    return found


def _show_printed(client: "Client") -> None:
    """Show what the driver printed, if its kernel is still there to ask."""
    try:
        instances = client.status().instances
    except ByenatosError:
        return
    for line in next((one.last_output for one in instances), ()):
        show_note(f"it printed: {line}")


def _choose(client: "Client", manifest: Manifest, model: str | None, file: Path | None) -> str:
    """Return the model to load, once it is known; raises for a plugin or a file that was refused."""
    plugin = next(one for one in client.status().plugins if one.id == manifest.plugin.id)
    if plugin.state == "refused":
        raise PermissionDenied(f"{plugin.id} is refused: {plugin.reason}")
    if file is None:
        return model or manifest.models[0].id
    deadline = time.monotonic() + _JUDGE_WITHIN_S
    while time.monotonic() < deadline:
        for one in client.models():
            if one.id in {file.stem, file.name} and one.state not in {"copying", "checking"}:
                return one.id
        time.sleep(_LOOK_EVERY_S)
    raise DeadlineExceeded(f"{file} was not judged within {_JUDGE_WITHIN_S:g} s")


def _show(manifest: Manifest, asked: tuple[Asked, ...]) -> None:
    say(f"{manifest.plugin.id} {manifest.plugin.version} asks for, and gets:")
    show_table(("what", "asked", "granted"), ((one.what, one.asked, one.granted) for one in asked))
    say()


def _show_instance(instance: InstanceInfo) -> None:
    from byenatos_sandbox import isolation_level

    level = isolation_level(dict(instance.layers), dict(instance.open))
    show_note(f"{instance.driver}/{instance.model} is {instance.state.value}: pid {instance.pid}, isolation {level}")
