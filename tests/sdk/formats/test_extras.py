from byenatos_sdk.formats.extras import extras_for, kept


def test_what_a_vendor_alone_knows_is_kept_for_it():
    extra = kept("gemini", {"tools": [1], "labels": None})
    assert extra == {"format": "gemini", "tools": [1]}
    assert extras_for("gemini", extra) is extra
    assert extras_for("anthropic_messages", extra) == {}


def test_a_request_without_such_things_has_no_extras():
    assert kept("gemini", {"labels": None}) == {}


def test_an_application_need_not_say_which_vendor_it_means():
    assert extras_for("gemini", {"labels": {}}) == {"labels": {}}
