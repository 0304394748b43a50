"""Google's API, under both of its versions: a model and a verb are one segment of the path."""

from byenatos_sdk.formats import gemini
from http_front.routes import Routes
from http_front.verbs import Verbs

__all__ = ["enter"]


def enter(routes: Routes, verbs: Verbs) -> None:
    """Enter its paths; its lists of models are where OpenAI's are."""
    for version in ("/v1", "/v1beta"):
        model = f"{version}/models/{{model...}}"
        routes.add("POST", f"{model}:generateContent", verbs.infer(gemini, ""), gemini)
        routes.add("POST", f"{model}:streamGenerateContent", verbs.infer(gemini, ""), gemini)
        routes.add("POST", f"{model}:countTokens", verbs.count(gemini), gemini)
        routes.add("POST", f"{model}:embedContent", verbs.embed(gemini), gemini)
        routes.add("POST", f"{model}:batchEmbedContents", verbs.embed(gemini), gemini)
