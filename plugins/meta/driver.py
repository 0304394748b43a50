"""Meta's models."""

from byenatos_sdk.formats import meta, openai_responses
from byenatos_sdk.http import HTTPDriver


class Meta(HTTPDriver):
    """Muse, by the Meta Model API, which speaks Chat Completions with restrictions, or Responses."""

    format = meta.model_api
    formats = (openai_responses,)
    base_url = "https://api.meta.ai/v1"
