"""What the kernel is told of a loaded model: what the driver found, and the manifest's word where it says nothing."""

import msgspec

from byenatos_sdk.driver import Driver
from byenatos_sdk.protocol.control import LoadOrder
from byenatos_sdk.protocol.messages import ModelSpecification
from byenatos_sdk.protocol.warm import WARM
from byenatos_sdk.runtime.plugin import checked

__all__ = ["described"]


def described(driver: Driver, order: LoadOrder, found: ModelSpecification | None, *, name: str, warm: bool) -> bytes:
    """Encode what a driver found of the model that it was told to load, as the kernel is to see it.

    ``name`` is the driver's, ``warm`` whether it can hand its state on.

    Raises:
        TypeError: ``found`` is no well-formed specification.
    """
    source = f"{type(driver).__name__}.start"
    if found is None:
        found = ModelSpecification(order.model)
    checked(found, ModelSpecification, source)
    found = _with_declared(found, order.declared)
    features = found.features | ({"continue"} if driver.continues else set())
    features = features | {WARM} if warm else features - {WARM}
    filled = msgspec.structs.replace(found, id=order.model, driver=name, features=features)
    return checked(filled, ModelSpecification, source)


def _with_declared(found: ModelSpecification, declared: ModelSpecification | None) -> ModelSpecification:
    """Fill in from the manifest what the driver did not say; features and metadata add up."""
    if declared is None:
        return found
    gaps = {
        name: getattr(declared, name)
        for name in (
            "name",
            "architecture",
            "quantization",
            "parameters",
            "context_length",
            "size_bytes",
            "tokenizer",
            "memory_bytes",
        )
        if not getattr(found, name)
    }
    features = found.features | declared.features
    return msgspec.structs.replace(found, **gaps, features=features, metadata={**declared.metadata, **found.metadata})
