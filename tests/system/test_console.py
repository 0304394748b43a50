"""The console in a real browser, against a real kernel; without a Chromium on this machine only what is served."""

import httpx
import pytest
from browser import CHROMIUM, browsing
from kernel_process import until, until_ready

MODELS = {"endless": {"tokens": -1, "rate": 50}, "other": {"tokens": -1, "rate": 50}}
SCRIPTS = ("console", "api", "charts", "chat", "view", "words")
FILES = ("/", "/console/console.css", *(f"/console/{name}.js" for name in SCRIPTS))
SWAP = """(() => {
    const [model, how] = document.querySelectorAll("[aria-label^='default:']");
    [model.value, how.value] = ["other", "immediate"];
    model.form.requestSubmit();
})()"""


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


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
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


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
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
