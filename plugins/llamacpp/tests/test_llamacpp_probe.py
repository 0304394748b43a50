"""Tests of the probe and of the GGUF reader under it: foreign bytes, every one of them chosen by someone else."""

import ctypes
import importlib.util
import io
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_sdk.protocol.control import ProbeResult
from byenatos_sdk.protocol.messages import ModelSpecification
from llamacpp_gguf import MAX_ITEMS, TENSOR_TYPES
from llamacpp_probe import FEATURES, probe, probe_file
from llamacpp_settings import Settings

U8, U32, F32, BOOL, STRING, ARRAY, U64 = 0, 4, 6, 7, 8, 9, 10
WORDS = ["<s>", "</s>", "a", "b"]


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def array(kind: int, items: list[bytes]) -> bytes:
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


MODEL: dict[str, tuple[int, bytes]] = {
    "general.architecture": (STRING, string("llama")),
    "general.name": (STRING, string("Tiny")),
    "general.license": (STRING, string("mit")),
    "general.file_type": (U32, struct.pack("<I", 7)),
    "llama.context_length": (U32, struct.pack("<I", 512)),
    "tokenizer.ggml.model": (STRING, string("gpt2")),
    "tokenizer.ggml.tokens": (ARRAY, array(STRING, [string(word) for word in WORDS])),
    "tokenizer.ggml.scores": (ARRAY, array(F32, [struct.pack("<f", 0.5)] * 4)),
    "tokenizer.chat_template": (STRING, string("{{ messages }}")),
}


def gguf(changes: dict[str, tuple[int, bytes] | None] | None = None, version: int = 3, tensors: int = 2) -> bytes:
    """Build a small GGUF file: ``MODEL`` with ``changes`` and tensors of 64 Q8_0 weights."""
    values = {key: value for key, value in {**MODEL, **(changes or {})}.items() if value is not None}
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, len(values))
    for key, (kind, data) in values.items():
        head += string(key) + struct.pack("<I", kind) + data
    for number in range(tensors):
        head += string(f"blk.{number}") + struct.pack("<IQIQ", 1, 64, 8, number * 96)
    head += b"\0" * (-len(head) % 32)
    return head + b"\0" * (96 * tensors)


def judge(data: bytes) -> ProbeResult:
    return probe("tiny", io.BytesIO(data))


def test_a_model_is_described() -> None:
    data = gguf()
    found = judge(data).specification
    assert found is not None
    assert found == ModelSpecification(
        id="tiny",
        driver="llamacpp",
        name="Tiny",
        architecture="llama",
        quantization="Q8_0",
        parameters=128,
        context_length=512,
        size_bytes=len(data),
        tokenizer=found.tokenizer,
        features=FEATURES | {"chat_template", "tools"},
        memory_bytes=136 + 840,
        metadata={
            "license": "mit",
            "trained_context_length": "512",
            "kv_bytes_per_token": "0",
            "kv_bytes": "0",
            "weights_bytes": "136",
            "compute_bytes": "840",
        },
    )
    assert found.tokenizer.startswith("gpt2:")


def test_the_same_vocabulary_has_the_same_tokenizer_and_another_another() -> None:
    def tokenizer(words: list[str]) -> str:
        found = judge(gguf({"tokenizer.ggml.tokens": (ARRAY, array(STRING, [string(word) for word in words]))}))
        assert found.specification is not None
        return found.specification.tokenizer

    assert tokenizer(WORDS) == tokenizer(list(WORDS))
    assert tokenizer(WORDS) != tokenizer([*WORDS[:-1], "c"])


def test_a_model_is_described_as_it_will_be_with_the_settings_it_is_loaded_with() -> None:
    def described(**settings: Any) -> ModelSpecification:
        changes: dict[str, tuple[int, bytes] | None] = {
            "llama.block_count": (U32, struct.pack("<I", 2)),
            "llama.embedding_length": (U32, struct.pack("<I", 64)),
            "llama.attention.head_count": (U32, struct.pack("<I", 4)),
        }
        found = probe("tiny", io.BytesIO(gguf(changes)), Settings(**settings)).specification
        assert found is not None
        return found

    assert [described(n_ctx=n_ctx).context_length for n_ctx in (256, 512, 4096, 0)] == [256, 512, 512, 512]
    half, full = described(n_ctx=256), described(n_ctx=512)
    more = 256 * int(full.metadata["kv_bytes_per_token"])
    assert more > 0
    assert full.memory_bytes - half.memory_bytes >= more


def test_a_model_without_a_chat_template_does_not_claim_tools() -> None:
    found = judge(gguf({"tokenizer.chat_template": None})).specification
    assert found is not None
    assert found.features == FEATURES


def test_settings_that_are_wrong_are_not_held_against_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf())
    assert probe_file(path, {"n_ctx": "much"}).specification == probe_file(path).specification


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a GGUF file: expected the magic 'GGUF' at its start, found b''"),
        (b"PK\x03\x04 and so on", "found b'PK\\x03\\x04'"),
        (gguf(version=1), "expected GGUF version 2 or 3, little-endian, found version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "found version 3, big-endian"),
        (gguf(tensors=0), "without tensors"),
        (gguf({"general.architecture": None}), "without general.architecture"),
        (gguf({"general.architecture": (STRING, string("clip"))}), "found a multimodal projector"),
        (gguf({"general.type": (STRING, string("adapter"))}), "found a LoRA adapter"),
        (gguf({"split.count": (U8, b"\x03"), "split.no": (U8, b"\x01")}), "found part 2 of 3"),
        (gguf({"llama.attention.causal": (BOOL, b"\0")}), "found an embedding model"),
        (gguf({"tokenizer.ggml.tokens": None}), "without a vocabulary"),
        (gguf({"general.alignment": (U32, struct.pack("<I", 3))}), "expected a power of two"),
        (gguf({"x": (77, b"")}), "expected a value type from 0 to 12, found 77"),
        (gguf({"x": (ARRAY, struct.pack("<IQ", STRING, 1 << 60))}), "truncated or damaged"),
        (gguf({"x": (STRING, struct.pack("<Q", 1 << 60))}), "truncated or damaged"),
        (gguf({"x": (ARRAY, struct.pack("<IQ", ARRAY, 1) * 9)}), "nested at most 3 deep"),
    ],
)
def test_what_is_not_a_model_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    found = judge(data)
    assert found.specification is None
    assert reason in found.reason


def test_a_truncated_file_is_refused_with_both_sizes() -> None:
    data = gguf()
    whole = len(data) - 28  # the last tensor has 68 bytes, padded to 96
    assert judge(data[:whole]).specification is not None
    found = judge(data[: whole - 1])
    assert found.reason.endswith(f"expected at least {whole} bytes, found {whole - 1}")


def test_names_cannot_paint_the_terminal() -> None:
    found = judge(gguf({"general.name": (STRING, string("\x1b[31mred\n" + "x" * 500))})).specification
    assert found is not None
    assert found.name.isprintable()
    assert len(found.name) <= 200


def test_an_endless_vocabulary_is_refused_without_walking_it() -> None:
    count = MAX_ITEMS + 1
    data = gguf({"x": (ARRAY, struct.pack("<IQ", STRING, count))}) + bytes(8 * count)
    assert f"expected at most {MAX_ITEMS} strings" in judge(data).reason


@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_judged_and_never_crash_the_probe(data: bytes) -> None:
    for start in (b"", b"GGUF", b"GGUF" + struct.pack("<I", 3), b"GGUF" + struct.pack("<IQQ", 3, 1, 1)):
        assert judge(start + data).reason


@settings(max_examples=300)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(gguf()) - 1), st.integers(0, 255)), max_size=6),
    length=st.integers(0, len(gguf())),
)
def test_a_damaged_header_is_judged_in_bounded_memory(changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(gguf())
    for place, value in changes:
        data[place] = value
    tracemalloc.start()
    try:
        found = judge(bytes(data[:length]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert bool(found.reason) != (found.specification is not None)
    assert peak < 4 << 20


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert probe_file(tmp_path / "none.gguf").reason == "cannot be read: No such file or directory"


def test_a_probe_imports_neither_llama_cpp_nor_numpy(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf())
    folder = Path(__file__).resolve().parent.parent
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); from pathlib import Path; from driver import LlamaCpp;"
        f"assert LlamaCpp.probe(Path({str(path)!r}), {{}}).specification;"
        "print([name for name in ('llama_cpp', 'numpy', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_table_of_tensor_types_is_that_of_the_installed_library() -> None:
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed")
    from llamacpp_library import llama

    library = ctypes.CDLL(str(Path(llama.__file__).parent / "lib" / "libggml-base.so"))
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    installed = {
        number: (library.ggml_blck_size(number), library.ggml_type_size(number))
        for number in range(llama.GGML_TYPE_COUNT)
        if library.ggml_type_size(number)
    }
    assert {number: sizes for number, (_, *sizes) in TENSOR_TYPES.items()} == {
        number: list(sizes) for number, sizes in installed.items()
    }


@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "architecture", "quantization", "context_length", "template"),
    [("smollm2", "llama", "Q4_1", 4096, True), ("gemma-3-270m", "gemma3", "Q4_K_M", 4096, False)],
)
def test_a_real_model_is_described(
    models: Path, name: str, architecture: str, quantization: str, context_length: int, template: bool
) -> None:
    path = models / f"{name}.gguf"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    found = probe_file(path).specification
    assert found is not None
    assert (found.id, found.architecture, found.quantization) == (name, architecture, quantization)
    assert (found.context_length, found.size_bytes) == (context_length, path.stat().st_size)
    assert ("chat_template" in found.features) == template


@pytest.mark.model
def test_a_truncated_real_model_is_refused_wherever_it_is_cut(models: Path) -> None:
    path = models / "smollm2.gguf"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    with path.open("rb") as file:
        head = file.read(4 << 20)
    judge_cut: Callable[[int], ProbeResult] = lambda length: judge(head[:length])  # noqa: E731
    for length in range(0, len(head), len(head) // 40):
        found = judge_cut(length)
        assert found.specification is None
        assert found.reason
    assert f"found {len(head)}" in judge_cut(len(head)).reason
