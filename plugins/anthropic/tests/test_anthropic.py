"""Anthropic's driver against what the Messages API answers."""

from tests.vendor_contract import ListingVendorContract, VendorContract


class TestClaude(ListingVendorContract):
    model = "claude-haiku-4-5"
    path = "/v1/messages"
    headers = {"anthropic-version": "2023-06-01"}
    says = {
        "model": "claude-haiku-4-5",
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 50,
        "temperature": 0.5,
        "stream": True,
    }
    stream = "anthropic/stream-text"
    error = "anthropic/err-529"
    listed = (
        {
            "data": [{"type": "model", "id": "claude-x", "display_name": "X", "created_at": "2026-01-01T00:00:00Z"}],
            "has_more": False,
            "first_id": "claude-x",
            "last_id": "claude-x",
        },
        ["claude-x"],
    )


class TestANewerClaude(VendorContract):
    model = "claude-opus-5-5"
    path = "/v1/messages"
    says = {"model": "claude-opus-5-5", "max_tokens": 50}
    leaves_out = frozenset({"temperature"})
    stream = "anthropic/stream-text"
    error = "anthropic/err-413"
