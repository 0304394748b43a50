"""The chaos tests use the fixtures of the system tests."""

import importlib.util
from pathlib import Path

_SPECIFICATION = importlib.util.spec_from_file_location(
    "byenatos_tests_system_conftest", Path(__file__).parents[1] / "system" / "conftest.py"
)
assert _SPECIFICATION is not None
assert _SPECIFICATION.loader is not None
_system = importlib.util.module_from_spec(_SPECIFICATION)
_SPECIFICATION.loader.exec_module(_system)

home, kernel, raw, start_kernel = _system.home, _system.kernel, _system.raw, _system.start_kernel
pytest_pyfunc_call = _system.pytest_pyfunc_call
