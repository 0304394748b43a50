"""The console in a real browser, against a real kernel; without a Chromium on this machine only what is served."""

import json

import httpx
import pytest
from browser import browsing, needs_chromium
from kernel_process import until, until_ready

MODELS = {"endless": {"tokens": -1, "rate": 50}, "other": {"tokens": -1, "rate": 50}}
SCRIPTS = ("console", "api", "charts", "chat", "slots", "tales", "view", "words")
FILES = ("/", "/console/console.css", *(f"/console/{name}.js" for name in SCRIPTS))
SWAP = """(() => {
    const [model, how] = document.querySelectorAll("[aria-label^='default:']");
    [model.value, how.value] = ["other", "immediate"];
    model.form.requestSubmit();
})()"""

CHOOSE = """(() => {
    const model = document.querySelector("[aria-label^='default:']");
    model.focus();
    model.value = "other";
    model.dispatchEvent(new Event("change"));
})()"""


@pytest.fixture
def keeping(home):
    """Rules by which the old model is kept after a swap."""
    home.policies.mkdir(parents=True)
    (home.policies / "swap.toml").write_text("[swap]\nkeep_old_s = 600\n")


@pytest.fixture
def console(start_kernel):
    """A kernel whose slot ``default`` counts without end, and the address of its front."""
    kernel = start_kernel(models=MODELS, default="endless", fronts={"http": {"listen": "127.0.0.1:0"}})

    async def address():
        async with kernel.client() as client:
            await until_ready(client, "default")
            return f"http://{(await until(client, lambda status: status.fronts[0].ready)).fronts[0].address}"

    return address


async def test_the_page_brings_nothing_from_elsewhere_and_may_run_nothing_else(console):
    async with httpx.AsyncClient(base_url=await console(), trust_env=False) as http:
        for path in FILES:
            answer = await http.get(path)
            assert answer.status_code == 200, path
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "//" not in answer.text.replace("// ", ""), path
            assert "innerHTML" not in answer.text, path


@needs_chromium
async def test_a_person_talks_to_a_slot_and_swaps_it_in_the_middle_of_an_answer(console, tmp_path):
    async with browsing(tmp_path / "browser", await console()) as page:
        await page.until("document.querySelector('#slots .good')")
        await page.evaluate("document.getElementById('prompt').focus()")
        await page.write("<img src=x onerror=alert(1)>")
        await page.press("Enter", "\r")
        await page.until("document.querySelectorAll('.turn span')[1]?.textContent.includes('9 10 ')")
        assert await page.evaluate("document.querySelectorAll('.turn b')[1].textContent") == "endless"
        await page.until("document.querySelector('#chart-tokens .line').getAttribute('d').includes('L')")
        await page.until("parseFloat(document.querySelector('#chart-tokens output').textContent) > 10")
        await page.until("document.querySelector('#chart-latency output').textContent.endsWith(' ms')")
        assert await page.evaluate("document.querySelector('#chart-streams output').textContent") == "1"
        await page.evaluate("document.querySelector('#chart-memory svg').focus()")
        await page.press("ArrowLeft")
        label = "document.querySelector('#chart-memory svg').getAttribute('aria-label')"
        assert (await page.evaluate(label)).startswith("kernel memory: ")
        assert " · " in await page.evaluate(label)
        await page.press("Escape")
        assert " · " not in await page.evaluate(label)
        await page.evaluate(SWAP)
        await page.until("document.querySelector('.moved')?.textContent.includes('from endless to other')")
        await page.until("document.querySelector('[data-slot=default]').textContent.includes('retired')")
        summary = "document.querySelector('#slots summary').textContent"
        await page.until(f"{summary}.startsWith('1 as text · longest pause ')")
        await page.until("document.querySelectorAll('.turn span')[2].textContent.length > 50")
        words = "[...document.querySelectorAll('.turn span')].slice(1).map((one) => one.textContent).join('')"
        numbers = [int(number) for number in (await page.evaluate(words)).split()[:-1]]
        assert numbers == list(range(len(numbers)))
        assert await page.evaluate("document.querySelector('.turn span').textContent") == "<img src=x onerror=alert(1)>"
        assert await page.evaluate("document.querySelectorAll('img').length") == 0
        await page.evaluate("document.getElementById('stop').click()")
        await page.until("!document.getElementById('send').disabled")
        await page.until("document.querySelectorAll('#sessions li').length === 1")
        await page.until("document.querySelector('#events').textContent.includes('switched')")
        await page.evaluate("document.getElementById('language').click()")
        assert await page.evaluate("document.documentElement.lang") == "zh"
        assert await page.evaluate("document.getElementById('slots-title').textContent") == "插槽"
        assert page.complaints == []


@needs_chromium
async def test_a_person_swaps_by_keyboard_and_goes_back_to_what_is_kept(keeping, console, tmp_path):
    buttons = "[...document.querySelectorAll('#slots button')]"
    async with browsing(tmp_path / "browser", await console()) as page:
        await page.until("document.querySelector('#slots .good')")
        await page.evaluate(CHOOSE)
        await page.press("Tab")
        await page.press("ArrowDown")
        chosen = await page.evaluate("[document.activeElement.value, document.activeElement.title]")
        assert chosen == ["immediate", "Running answers move in mid-sentence and go on at the new model."]
        assert await page.evaluate(f"{buttons}.filter((one) => !one.hidden).length") == 1
        await page.press("Tab")
        await page.press("Enter", "\r")
        await page.until("document.querySelector('[data-slot=default]').textContent.includes('endless is kept')")
        await page.until(f"{buttons}.some((one) => !one.hidden && one.textContent === 'Back to endless')")
        await page.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Back to endless"
        await page.press("Enter", "\r")
        await page.until("document.querySelector('[data-slot=default]').textContent.includes('rolled back')")
        await page.until("document.activeElement === document.querySelector('#slots select')")
        assert await page.evaluate("document.activeElement.value") == "endless"
        assert await page.evaluate(f"{buttons}.filter((one) => !one.hidden).length") == 1
        assert page.complaints == []


@needs_chromium
async def test_a_swap_that_waits_for_its_slot_to_be_idle_can_be_given_up(console, tmp_path):
    async with browsing(tmp_path / "browser", await console()) as page:
        await page.until("document.querySelector('#slots .good')")
        await page.evaluate("document.getElementById('prompt').focus()")
        await page.write("count")
        await page.press("Enter", "\r")
        await page.until("document.querySelectorAll('.turn span')[1]?.textContent.includes('9 10 ')")
        await page.evaluate(SWAP.replace("immediate", "background"))
        step = "document.querySelector('[data-slot=default]').textContent"
        await page.until(f"{step}.includes('prepared')")
        await page.evaluate("document.querySelector('#slots button:not([hidden]) ~ button:not([hidden])').click()")
        await page.until(f"{step}.includes('given up by the operator')")
        assert await page.evaluate("document.querySelector('#slots .good + div').textContent") == "endless"
        assert await page.evaluate("document.getElementById('stop').hidden") is False
        assert page.complaints == []


@needs_chromium
async def test_triggers_and_moves_are_told_in_both_languages(console, tmp_path):
    fired = {"trigger": "slow", "slot": "default", "model": "small", "measure": "p95_latency_s", "reading": 9.5}
    events = [
        fired | {"bound": 8},
        fired | {"bound": 8, "dry_run": True, "returning": True},
        fired | {"problem": "no room"},
        {"trigger": "night", "slot": "default", "model": "small"},
    ]
    moves = [{"level": "kv", "pause_s": 0.005}, {"level": "text", "pause_s": 0.04}, {"level": "kv"}]
    script = """Promise.all(["/console/tales.js", "/console/words.js"].map((one) => import(one))).then(
        ([{ eventText, movesText }, { speaker }]) => ["en", "zh"].map((language) => [
            ...EVENTS.map((one) => eventText("trigger_fired", one, speaker(language))),
            movesText(MOVES, speaker(language)),
        ]))"""
    async with browsing(tmp_path / "browser", await console()) as page:
        told = await page.evaluate(script.replace("EVENTS", json.dumps(events)).replace("MOVES", json.dumps(moves)))
    assert told[0] == [
        "trigger slow swaps default to small: p95_latency_s = 9.5 (bound 8)",
        "trigger slow would swap default back to small: p95_latency_s = 9.5 (bound 8)",
        "trigger slow could not swap default to small: no room",
        "trigger night swaps default to small",
        "2 with their state · 1 as text · longest pause 40 ms",
    ]
    assert told[1][1].startswith("触发器 slow 本会将 default 换回 small: p95_latency_s = 9.5")
    assert told[1][4] == "2 带状态 · 1 按文本 · 最长停顿 40 ms"


@needs_chromium
async def test_the_pages_parts_do_what_they_say(console, tmp_path):
    async with browsing(tmp_path / "browser", await console()) as page:
        await page.until("document.querySelector('#slots .good')")
        events = await page.evaluate(
            """import("/console/api.js").then(({ EventReader }) => {
                const text = "event: a\\r\\ndata: 1\\r\\ndata:2\\r\\n\\r\\n: comment\\n\\ndata: {\\"x\\": 3}\\n\\n";
                return [...Array(text.length).keys()].map((at) => {
                    const reader = new EventReader();
                    return [...reader.feed(text.slice(0, at)), ...reader.feed(text.slice(at))];
                });
            })"""
        )
        expected = [{"name": "a", "data": "1\n2"}, {"name": "message", "data": '{"x": 3}'}]
        assert events == [expected] * len(events)
        drawn = await page.evaluate(
            """import("/console/charts.js").then(({ ceiling, path }) => [
                [0, 0.3, 1, 1.1, 49, 51, 2000, 2001].map(ceiling),
                path([1, null, 2, 4], 4, false), path([1, null, 2, 4], 4, true),
            ])"""
        )
        assert drawn == [
            [1, 0.5, 1, 2, 50, 100, 2000, 5000],
            "M235.2 46.0M238.4 32.0L240.0 4.0",
            "M235.2 60L235.2 46.0L235.2 60ZM238.4 60L238.4 32.0L240.0 4.0L240.0 60Z",
        ]
        words = await page.evaluate(
            """import("/console/words.js").then(({ WORDS }) => Object.values(WORDS).map((one) => Object.keys(one)))"""
        )
        assert words[0] == words[1]
        assert set(
            await page.evaluate("[...document.querySelectorAll('[data-word]')].map((one) => one.dataset.word)")
        ) <= {*words[0]}
