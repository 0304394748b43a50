"""What a storm is played with: the models, what clients ask them, and what an answer must be.

``COUNTING`` is the echo driver, whose numbered tokens show each that is lost, doubled or out of order. ``REAL`` are two
small models of different families: their words cannot be known, but each answer ends once, its parts make its text, and
a transcript holds what the client got. The counting models belong to a plugin of their own, of which the storm makes
new versions; the models that a storm may not touch, to which it always can be gone, belong to the one that is shipped.
"""

import os
import random
import shutil
from pathlib import Path
from typing import Any

from kernel_process import counting, is_counted, numbers, write_config
from msgspec import Struct

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.messages import Sampling

__all__ = ["COUNTING", "REAL", "Play"]

REFUGE = "refuge"
"""The fallback: it is not touched, so that there is always somewhere to go."""
RATE = 150.0
PLUGIN = "storm"
_SHIPPED = Path(__file__).parents[3] / "plugins" / "echo"
_MANIFEST = """[plugin]
id = "storm"
version = "{version}"
entry = "driver:Echo"
protocol = [1]
"""
_MODEL = """
[[models]]
id = "{model}"
features = ["continue"]
"""


class Play(Struct, frozen=True):
    """``plugin``: whose versions are exchanged, empty: none. ``tokens``: the fewest and the most of an answer.

    ``patience_s``: how long a swap may take; in the background a model is loaded by what others leave of a processor.
    """

    models: tuple[str, ...]
    slots: dict[str, str]
    streams: int
    sessions: int
    tokens: tuple[int, int]
    plugin: str = ""
    real: bool = False
    patience_s: float = 30.0

    def prepare(self, home: Home) -> None:
        """Write the configuration and bring what the home needs."""
        first = self.models[0]
        write_config(
            home, default=first, fallback=REFUGE, slots=self.slots, models={REFUGE: {}}, max_concurrent_models=9
        )
        if self.plugin:
            self.stage(home, 1)
        if self.real:
            home.create()
            for model in self.models:
                (home.models / f"{model}.gguf").symlink_to(Path(os.environ["BYENATOS_TEST_MODELS"], f"{model}.gguf"))

    def stage(self, home: Home, version: int) -> None:
        """Put a version of the plugin into its place, all of it at once."""
        written, place = home.path / "written", home.plugins / self.plugin
        written.mkdir(parents=True)
        shutil.copy(_SHIPPED / "driver.py", written / "driver.py")
        models = "".join(_MODEL.format(model=model) for model in self.models)
        (written / "plugin.toml").write_text(_MANIFEST.format(version=version) + models)
        place.mkdir(parents=True, exist_ok=True)
        for path in written.iterdir():
            path.replace(place / path.name)
        written.rmdir()

    def length(self, chance: random.Random) -> int:
        """How many tokens to ask for."""
        return chance.randrange(*self.tokens)

    def asks(self, tokens: int) -> dict[str, Any]:
        """What a request says besides its text."""
        if self.real:
            return {"sampling": Sampling(max_tokens=tokens, temperature=0.0)}
        return {"extra": counting(tokens, RATE)}

    def whole(self, text: str, tokens: int) -> bool:
        """Whether it can be an answer that ended well."""
        return bool(text) if self.real else text == numbers(tokens)

    def begun(self, text: str) -> bool:
        """Whether it can be the beginning of an answer."""
        return self.real or is_counted(text)


COUNTING = Play(("one", "two", "three"), {"side": "two"}, 64, 16, (5, 90), PLUGIN)
REAL = Play(("smollm2", "gemma-3-270m"), {"side": "gemma-3-270m"}, 6, 4, (5, 40), real=True, patience_s=180.0)
