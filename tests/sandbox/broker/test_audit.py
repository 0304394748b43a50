"""The audit's lines, their bounds, and files that have grown."""

import json

from byenatos_sandbox.broker import audit as module
from byenatos_sandbox.broker.audit import Audit, Entry


def test_a_line_is_json_and_bounded_whatever_a_driver_put_in(tmp_path):
    audit = Audit(tmp_path)
    audit.write(Entry("acme", "GET", "host\n\x00\xff", "/" + "x" * 5000, status=200))
    audit.close()
    (line,) = (tmp_path / "egress.jsonl").read_text().splitlines()
    known = json.loads(line)
    assert known["host"] == "host\n\x00\xff"
    assert len(line) < 1000
    assert known["at"].endswith("Z")
    assert (tmp_path / "egress.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_file_that_has_grown_is_moved_aside_and_the_oldest_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_SIZE", 2000)
    audit = Audit(tmp_path)
    for number in range(200):
        audit.write(Entry("acme", path=f"/{number}"))
    audit.close()
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["egress.jsonl", "egress.jsonl.1", "egress.jsonl.2", "egress.jsonl.3"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    assert json.loads((tmp_path / "egress.jsonl").read_text().splitlines()[-1])["path"] == "/199"


def test_a_disk_that_takes_nothing_is_said_once_and_stops_nothing(tmp_path, capfd):
    audit = Audit(tmp_path / "absent")
    for _ in range(3):
        audit.write(Entry("acme"))
    assert capfd.readouterr().err.count("audit lines lost") == 1
