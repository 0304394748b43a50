"""What every plugin that ships for a vendor is tested for, in its own folder: a class of its own, with what is its own.

The vendor's answers are the wire cases; what the driver asks is written down beside each plugin.
"""

import inspect
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from tests.sdk.formats import cases

from byenatos_sdk.formats.wire import WireResponse
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import InferenceRequest, Sampling, TextDelta, system, user
from byenatos_sdk.testing import PlayedVendor

__all__ = ["ListingVendorContract", "VendorContract", "listed_as_openai_does"]

ASKED = InferenceRequest((system("Be brief."), user("hello")), sampling=Sampling(temperature=0.5, max_tokens=50))
FEATURES = {"tools", "images", "audio", "files", "json_schema", "reasoning", "embeddings"}


class VendorContract:
    """Subclass it as ``Test…`` beside the plugin.

    ``stream`` and ``error`` name wire cases, by their file and id.
    """

    model: ClassVar[str]
    """A model of the manifest."""
    settings: ClassVar[dict[str, Any]] = {}
    path: ClassVar[str]
    """Where the question goes, as the vendor sees it."""
    headers: ClassVar[dict[str, str]] = {}
    """What must be among its headers."""
    says: ClassVar[dict[str, Any]]
    """What must be in its body."""
    leaves_out: ClassVar[frozenset[str]] = frozenset()
    """What must not."""
    stream: ClassVar[str]
    error: ClassVar[str]

    @pytest.fixture
    def vendor(self) -> PlayedVendor:
        """The plugin's vendor."""
        return PlayedVendor(Path(inspect.getfile(type(self))).parents[1], self.model, self.settings)

    def test_its_manifest_says_what_its_models_can_do_and_where_each_price_is_from(self, vendor):
        assert any(one.id == self.model for one in vendor.manifest.models)
        for model in vendor.manifest.models:
            assert set(model.features) <= FEATURES, model.id
            assert model.price is None or model.price.source, model.id
        assert all(one.key is None or one.scheme == "https" for one in vendor.manifest.egress)

    def test_it_asks_as_its_vendor_wants_to_be_asked(self, vendor):
        vendor.answer(ASKED, _answer(self.stream))
        (request,) = vendor.requests
        assert (request.method, request.path) == ("POST", self.path)
        assert self.headers.items() <= request.headers.items()
        body = msgspec.json.decode(request.body)
        assert {name: body.get(name) for name in self.says} == self.says
        assert not self.leaves_out & body.keys()

    def test_it_reads_a_stream(self, vendor):
        deltas = vendor.answer(ASKED, _answer(self.stream))
        heard = [TextDelta(one) if isinstance(one, str) else one for one in deltas]
        cases.assert_deltas(heard, _case(self.stream).meaning)

    def test_it_tells_what_its_vendor_refuses_by_the_one_taxonomy(self, vendor):
        with pytest.raises(ByenatosError) as caught:
            vendor.answer(ASKED, _answer(self.error))
        assert caught.value.code == cases.error_code(_case(self.error).meaning)


class ListingVendorContract(VendorContract):
    """The same for a vendor that lists its models. ``listed`` is a wire case, or a list with the ids in it."""

    listed: ClassVar[str | tuple[Any, list[str]]]

    def test_it_lists_its_vendors_models(self, vendor):
        if isinstance(self.listed, str):
            answer, expected = _answer(self.listed), _case(self.listed).meaning["models"]
        else:
            answer, expected = WireResponse(msgspec.json.encode(self.listed[0])), self.listed[1]
        found = vendor.run(lambda driver: driver.models(), answer)
        assert [one.id for one in found] == [name.removeprefix("models/") for name in expected]
        assert vendor.requests[0].method == "GET"


def listed_as_openai_does(*names):
    """Return a list of models in the shape that most vendors share, and the ids in it."""
    return {"object": "list", "data": [{"id": name, "object": "model", "created": 1} for name in names]}, list(names)


def _case(name):
    file, _, _ = name.partition("/")
    return next(case for case in cases.load(file) if case.id == name)


def _answer(name):
    case = _case(name)
    if case.kind != "stream":
        return cases.wire_response(case)
    headers = {key.lower(): value for key, value in (case.wire.get("headers") or {}).items()}
    headers.setdefault("content-type", case.wire["content_type"])
    return WireResponse(b"".join(cases.pieces(case)), case.wire["status"], headers)
