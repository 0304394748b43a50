"""Google's driver against what the Gemini API answers."""

from tests.vendor_contract import ListingVendorContract


class TestGemini(ListingVendorContract):
    model = "gemini-2.5-flash-lite"
    path = "/v1beta/models/gemini-2.5-flash-lite:streamGenerateContent?alt=sse"
    says = {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "generationConfig": {"temperature": 0.5, "maxOutputTokens": 50},
    }
    stream = "gemini/stream-text"
    error = "gemini/err-429-retryinfo"
    listed = "gemini/models-list"
