"""The command line ``llm`` against the front."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("llm", reason="llm is not installed (extra `clients`)")

pytestmark = pytest.mark.filterwarnings("ignore")
MODEL = "default"


@pytest.fixture
def run(url, tmp_path):
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: byenatos\n  model_name: {MODEL}\n  api_base: {url}/v1\n  supports_tools: true\n"
        f"  supports_schema: true\n"
        f"- model_id: byenatos-text\n  model_name: {MODEL}\n  api_base: {url}/v1\n  completion: true\n"
    )
    (tmp_path / "tools.py").write_text("def weather(city: str) -> str:\n    return f'rain in {city}'\n")

    def command(*words):
        done = subprocess.run(
            [sys.executable, "-m", "llm", *words],
            env={**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "any"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not done.returncode, done.stderr
        return done.stdout

    return command


def test_a_question_is_answered(run, script):
    assert run("prompt", "-m", "byenatos", "-s", "Be brief.", script(text="Hello there")).strip() == "Hello there"
    assert run("prompt", "-m", "byenatos", "--no-stream", script(text="Hello there")).strip() == "Hello there"


def test_a_text_is_completed(run, script):
    assert run("prompt", "-m", "byenatos-text", script(text="and so on")).strip().endswith("and so on")


def test_a_tool_is_called_until_the_answer_is_there(run, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    said = run("prompt", "-m", "byenatos", "--functions", "tools.py", script({"calls": [call]}, {"asked": True}))
    assert "rain in Oslo" in said


def test_a_schema_is_filled(run, script):
    said = run("prompt", "-m", "byenatos", "--schema", "name, age int", script(text='{"name": "Ada", "age": 36}'))
    assert '"Ada"' in said


def test_a_conversation_goes_on(run, script):
    run("prompt", "-m", "byenatos", script({"text": "One"}, {"text": "Two"}))
    assert run("prompt", "-m", "byenatos", "-c", "go on").strip() == "Two"
