import pytest

from byenatos_sandbox import Grant, GrantError


def test_a_grant_of_a_name_alone_gives_nothing_but_bounds():
    grant = Grant("echo/one")
    assert grant.files == ()
    assert grant.environment == {}
    assert grant.output_lines == 40


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"plugin": "plugins/echo"}, "plugin: expected an absolute path, found 'plugins/echo'"),
        ({"files": ("/models/a.gguf", "b.gguf")}, "files: expected an absolute path, found 'b.gguf'"),
        ({"files": ("/models/\udcff.gguf",)}, "files: expected a path in UTF-8, found "),
        ({"scratch_root": "run"}, "scratch_root: expected an absolute path, found 'run'"),
        ({"memory_mib": 3}, r"memory_mib: expected 0 \(no bound\) or at least 64, found 3"),
        ({"memory_mib": -1}, "memory_mib: expected"),
        ({"threads": 0}, "threads: expected at least 1, found 0"),
        ({"open_files": 3}, "open_files: expected at least 16, found 3"),
        ({"open_files": 16, "files": ("/a", "/b")}, "open_files: expected at least 18, found 16"),
        ({"file_size_mib": 0}, "file_size_mib: expected at least 1, found 0"),
        ({"output_lines": 0}, "output_lines: expected at least 1, found 0"),
        ({"output_kib_per_s": 0}, "output_kib_per_s: expected at least 1, found 0"),
        ({"stop_grace_s": float("nan")}, "stop_grace_s: expected 0 or more seconds, found nan"),
        ({"stop_grace_s": -1.0}, "stop_grace_s: expected 0 or more seconds, found -1.0"),
        ({"environment": {"A=B": "1"}}, "environment: expected names of letters, digits and _, found 'A=B'"),
        ({"environment": {"PATH": "/"}}, "environment: expected none of .* found 'PATH'"),
        ({"environment": {"LD_PRELOAD": "/x.so"}}, "environment: expected no variable of the dynamic loader"),
        ({"environment": {"A": "1\0"}}, "environment: expected a value without NUL for A"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected_and_found(fields, message):
    with pytest.raises(GrantError, match=f"grant 'echo/one': {message}"):
        Grant("echo/one", **fields)


def test_a_grant_without_a_name_is_refused():
    with pytest.raises(GrantError, match="name: expected"):
        Grant("")
