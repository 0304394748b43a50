"""What it costs to verify a signed plugin and to load it from the store, against a plain read of the same files.

Verifying (read, hash, compare, one Ed25519 signature) is done once for each change of a folder, by the verifier;
loading (read, hash, compare) before each start of a driver, by the kernel, which hashes without OpenSSL because it does
not load it. Both are timed in a process that is what the kernel's or the verifier's is.
"""

import datetime as dt
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.figures import Figure, Section, Table

from byenatos_kernel.operator_key import sign_folder
from byenatos_kernel.store import Store
from byenatos_kernel.verification import read_policy, verify
from byenatos_sdk.home import Home
from byenatos_sdk.signing import format_public_key, make_keys

__all__ = ["measure"]

FILES = 50
BYTES = 8 << 10
MANIFEST = '[plugin]\nid = "big"\nversion = "1"\nentry = "driver:Big"\n'

_TIMED = """
import sys, time, statistics
from pathlib import Path
if sys.argv[1] != "verify":
    sys.modules["ssl"] = sys.modules["_hashlib"] = None
home, argument, rounds = sys.argv[2], sys.argv[3], int(sys.argv[4])
if sys.argv[1] == "verify":
    from byenatos_kernel.verification import read_policy, verify
    from byenatos_sdk.home import Home
    policy = read_policy(Home(home))
    def once():
        assert not verify(Path(argument), policy).verdict.reason
elif sys.argv[1] == "load":
    from byenatos_kernel.store import Store
    store = Store(Path(home) / "store")
    def once():
        store.load(argument)
else:
    paths = [path for path in Path(argument).rglob("*") if path.is_file()]
    def once():
        for path in paths:
            path.read_bytes()
times = []
for _ in range(rounds):
    begin = time.perf_counter_ns()
    once()
    times.append(time.perf_counter_ns() - begin)
print(statistics.median(times) / 1e6)
"""


def measure(*, quick: bool) -> Section:
    """Make a signed plugin of 50 files, and time what is done with it."""
    rounds = 100 if quick else 400
    with tempfile.TemporaryDirectory(prefix="byenatos-bench-") as scratch:
        home = Home(Path(scratch) / "home")
        home.create()
        folder = _signed_folder(home)
        found = verify(folder, read_policy(home))
        digest = Store(home.store).ingest(found.payload, found.envelope, found.files)
        plain, verified, loaded = (
            _timed(*arguments, str(rounds))
            for arguments in (
                ("read", str(home.path), str(folder)),
                ("verify", str(home.path), str(folder)),
                ("load", str(home.path), digest),
            )
        )
    return Section(
        [
            Table(
                f"A signed plugin of {FILES} files, {FILES * BYTES >> 10} KiB: median of {rounds}",
                ("", "ms", "against a plain read"),
                [
                    ("plain read", plain, 1.0),
                    ("verify: read, hash, compare, signature", verified, verified / plain),
                    ("load from the store: read, hash, compare", loaded, loaded / plain),
                ],
            )
        ],
        [Figure(f"verify + load a signed plugin of {FILES} files", verified + loaded, "ms", 3)],
    )


def _signed_folder(home: Home) -> Path:
    keys = make_keys(home.path / "bench.key", "bench", dt.date(2090, 1, 1))
    (home.trust / "bench.pub").write_text(format_public_key(keys.public), "utf-8")
    folder = home.plugins / "big"
    folder.mkdir()
    (folder / "plugin.toml").write_text(MANIFEST, "utf-8")
    for number in range(FILES - 1):
        path = folder / f"part{number % 7}" / f"module{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(BYTES))
    (folder / "plugin.sig").write_bytes(sign_folder(folder, keys)[1])
    return folder


def _timed(*arguments: str) -> float:
    command = [sys.executable, "-c", _TIMED, *arguments]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
