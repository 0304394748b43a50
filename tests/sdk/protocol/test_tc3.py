"""Tencent's signature against the example that its documentation works through."""

from byenatos_sdk.protocol.tc3 import sign


def test_the_documented_example_is_signed_as_documented():
    # https://cloud.tencent.com/document/api/213/30654: the same steps, with the two headers that this broker signs
    headers = dict(
        sign(
            identity="AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE",
            key=b"Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
            service="cvm",
            host="cvm.tencentcloudapi.com",
            method="POST",
            path="/",
            query="",
            content_type="application/json; charset=utf-8",
            body=b'{"Limit": 1, "Filters": [{"Values": ["\\u672a\\u547d\\u540d"], "Name": "instance-name"}]}',
            at=1551113065,
        )
    )
    assert headers[b"x-tc-timestamp"] == b"1551113065"
    assert headers[b"authorization"] == (
        b"TC3-HMAC-SHA256 Credential=AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE/2019-02-25/cvm/tc3_request, "
        b"SignedHeaders=content-type;host, "
        b"Signature=72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"
    )
