"""Whether warm state moves as the kernel moves it: between two real processes of a driver, without a kernel.

::

    check_warm_state(folder, InferenceRequest((user("count to 100"),)), "acme-1")

The request's answer must be the same each time, and long enough to be caught in its middle: some tenths of a second.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from byenatos_sdk.protocol.errors import ByenatosError, NotFound
from byenatos_sdk.protocol.frames import Resume
from byenatos_sdk.protocol.messages import Failure, Finish, InferenceRequest, TextDelta
from byenatos_sdk.protocol.warm import (
    Export,
    Fingerprint,
    Holding,
    Piece,
    Placed,
    Reach,
    Reached,
    Restore,
    Subject,
    SubjectId,
)
from byenatos_sdk.testing.driver_process import DriverProcess, Heard, Silence

__all__ = ["check_warm_state"]

SESSION = "checked"
NOBODY = 1_000_000
"""The number of an answer that does not run."""


def check_warm_state(folder: Path, request: InferenceRequest, model: str = "model", **order: Any) -> None:
    """Move an answer and a conversation of the plugin in ``folder`` to a second process, and look at what comes of it.

    ``order`` are further fields of ``LoadOrder``, for example ``settings``.

    Raises:
        AssertionError: something is not as ``byenatos_sdk.warm`` says; the message tells what was expected and found.
        ByenatosError: the driver could not load, or refused what it must be able to do.
    """
    with DriverProcess(folder) as source, DriverProcess(folder) as target:
        for driver in (source, target):
            specification = driver.load(model, **order)
            assert "warm" in specification.features, (
                "expected a driver that inherits from WarmState, and [permissions] arena_mib in plugin.toml, "
                f"found the features {sorted(specification.features)}"
            )
        prints = [driver.call("fingerprint", result=Fingerprint) for driver in (source, target)]
        assert prints[0] == prints[1], f"expected two processes of one model to have one fingerprint, found {prints}"
        whole = _text(source.answer(request))
        _refuses_strangers(source)
        _moves_an_answer(source, target, request, whole)
        _thaws(source, request, whole)
        _moves_a_session(source, target, request)


def _refuses_strangers(driver: DriverProcess) -> None:
    """What nobody has is not found, whoever asks."""
    limit = len(driver.arena)
    for method, order in (
        ("reach", Reach(NOBODY, 1)),
        ("export", Export(NOBODY, 0, 0, limit)),
        ("export", Export("nobody", 0, 0, limit)),
        ("freeze", Export(NOBODY, 0, 0, limit)),
        ("thaw", Subject(NOBODY)),
    ):
        try:
            driver.call(method, order, Piece)
        except NotFound:
            continue
        except ByenatosError as error:
            raise AssertionError(
                f"{method}: expected NotFound for a subject that is not there, found {error.code}: {error.message}"
            ) from None
        raise AssertionError(f"{method}: expected NotFound for a subject that is not there, found an answer")


def _moves_an_answer(source: DriverProcess, target: DriverProcess, request: InferenceRequest, whole: str) -> None:
    """Copy an answer's state while it goes on, hold it, and let it go on at the other process."""
    number = source.start(request)
    reached = _held(source, "reach", Reach(number, 1), Reached)
    assert reached.position >= 1, f"reach: expected to return at position 1, found {reached}"
    piece = _export(source, "export", number, 0)
    target.call("restore", Restore(number, _carry(source, target, [piece])))
    last = _export(source, "freeze", number, piece.stop)
    heard = source.waiting(number)
    assert not any(isinstance(one, Finish | Failure) for one in heard), (
        f"freeze: expected an answer that is held in its middle, found that it had ended: {heard[-1]}"
    )
    said = _text(heard)
    assert whole.startswith(said), f"freeze: expected the beginning of {whole!r}, found {said!r}"
    pieces = _carry(source, target, [last] if last.stop > last.start else [])
    target.send(Resume(number, "", said, last.progress, pieces), request)
    rest = _text(_rest(target, number, "resume"))
    assert said + rest == whole, f"resume: expected {whole[len(said) :]!r} after {said!r}, found {rest!r}"
    source.call("fingerprint", result=Fingerprint)  # what it says before it answers that has been heard then
    more = source.waiting(number)
    assert not more, f"freeze: expected an answer that says nothing more, found {more}"
    source.call("release", Subject(number))


def _thaws(driver: DriverProcess, request: InferenceRequest, whole: str) -> None:
    """An answer whose move was given up goes on where it was."""
    number = driver.start(request)
    _held(driver, "reach", Reach(number, 1), Reached)
    _export(driver, "freeze", number, 0)
    driver.call("thaw", Subject(number))
    said = _text(_rest(driver, number, "thaw"))
    assert said == whole, f"thaw: expected {whole!r} in the end, found {said!r}"


def _moves_a_session(source: DriverProcess, target: DriverProcess, request: InferenceRequest) -> None:
    """What an answered turn leaves is held, copied, held by the other process too, and dropped."""
    source.answer(replace(request, session=SESSION))
    held = _holding(source)
    if held is None:
        return  # it keeps nothing of conversations
    pieces: list[Piece] = []
    while not pieces or pieces[-1].stop < held.positions:
        piece = _export(source, "export", SESSION, pieces[-1].stop if pieces else 0)
        assert piece.stop > piece.start, f"export: expected more up to position {held.positions}, found {piece}"
        target.call("restore", Restore(SESSION, _carry(source, target, [piece])))
        pieces.append(piece)
    there = _holding(target)
    assert there is not None and there.positions == held.positions, (  # noqa: PT018 - one thing
        f"restore: expected the other process to hold {held}, found {there}"
    )
    target.call("release", Subject(SESSION))
    assert _holding(target) is None, f"release: expected nothing to be left, found {_holding(target)}"


def _export(driver: DriverProcess, method: str, subject: SubjectId, start: int) -> Piece:
    piece: Piece = _held(driver, method, Export(subject, start, 0, len(driver.arena)), Piece)
    assert piece.start == start, f"{method}: expected a piece from {start} on, found {piece}"
    assert piece.stop >= start, f"{method}: expected a piece that ends behind its start, found {piece}"
    assert 0 <= piece.size <= len(driver.arena), f"{method}: expected at most the arena's size, found {piece}"
    return piece


def _held(driver: DriverProcess, method: str, order: Export | Reach, kind: type[Piece | Reached]) -> Any:
    """Ask for what there must be."""
    try:
        return driver.call(method, order, kind)
    except NotFound as error:
        raise AssertionError(
            f"{method}: expected the state of {order.subject!r}, found none ({error.message}); if the answer has ended "
            "already, ask for a longer one"
        ) from None


def _carry(source: DriverProcess, target: DriverProcess, pieces: Sequence[Piece]) -> tuple[Placed, ...]:
    """Copy what lies at the start of one arena to the other, as the kernel does."""
    for piece in pieces:
        target.arena[: piece.size] = source.arena[: piece.size]
    return tuple(Placed(piece.start, piece.stop, 0, piece.size) for piece in pieces)


def _holding(driver: DriverProcess) -> Holding | None:
    held = driver.call("holdings", result=tuple[Holding, ...])
    return next((one for one in held if one.session == SESSION), None)


def _rest(driver: DriverProcess, number: int, method: str) -> list[Heard]:
    try:
        return list(driver.stream(number))
    except Silence as silence:
        raise AssertionError(f"{method}: expected the answer to go on, found that {silence}") from None


def _text(heard: Sequence[Heard]) -> str:
    if heard and isinstance(heard[-1], Failure):
        raise AssertionError(f"expected an answer, found {heard[-1]}")
    return "".join(one.text for one in heard if isinstance(one, TextDelta))
