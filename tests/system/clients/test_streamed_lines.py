"""Streams of every API as text libraries cut them, which many clients read them with: at more than CR and LF."""

import json
from urllib.request import Request, urlopen

import pytest

TEXT = "a\u2028b\u2029c\u0085d"
MODEL = "default"
SAID = [{"role": "user", "content": TEXT}]
ASKED = {
    "/v1/chat/completions": {"model": MODEL, "messages": SAID, "stream": True},
    "/v1/completions": {"model": MODEL, "prompt": TEXT, "stream": True},
    "/v1/responses": {"model": MODEL, "input": TEXT, "stream": True},
    "/v1/messages": {"model": MODEL, "max_tokens": 50, "messages": SAID, "stream": True},
    "/v1beta/models/default:streamGenerateContent?alt=sse": {"contents": [{"parts": [{"text": TEXT}]}]},
    "/api/chat": {"model": MODEL, "messages": SAID},
    "/api/generate": {"model": MODEL, "prompt": TEXT},
    "/generate_stream": {"inputs": TEXT},
    "/completion": {"prompt": TEXT, "stream": True},
}


@pytest.mark.parametrize("path", ASKED)
def test_no_line_ends_in_the_middle_of_a_text(url, path):
    asked = Request(f"{url}{path}", json.dumps(ASKED[path]).encode(), {"content-type": "application/json"})
    with urlopen(asked) as answer:
        lines = answer.read().decode().splitlines()
    bodies = [line.removeprefix("data:").strip() for line in lines if line and not line.startswith("event: ")]
    whole = [json.loads(body) for body in bodies if body != "[DONE]"]
    assert TEXT in "".join(str(value) for value in _texts(whole))


def _texts(value):
    """Yield every text in JSON, in its order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
