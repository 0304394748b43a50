"""Pictures of the console for the README, of two real models: what a person sees in the middle of a swap.

The one in Chinese needs a font for it (Debian, Ubuntu: fonts-wqy-microhei).
"""

import base64
import os
from pathlib import Path

import pytest
from browser import browsing, needs_chromium
from kernel_process import until, until_ready

PICTURES = os.environ.get("BYENATOS_PICTURES")
"""The folder that they are put into; `make pictures` names it."""
QUESTION = "Write a long story about a robot who learns to paint."
SWAP = """(() => {
    const [model, how] = document.querySelectorAll("[aria-label^='default:']");
    [model.value, how.value] = ["gemma-3-270m", "immediate"];
    model.form.requestSubmit();
})()"""
WIDTH, HEIGHT = 1180, 1280


@pytest.mark.model
@pytest.mark.skipif(not PICTURES, reason="taken by `make pictures`")
@needs_chromium
@pytest.mark.parametrize(("scheme", "language"), [("light", "en"), ("dark", "zh")])
async def test_the_console_has_its_picture_taken(start_kernel, home, smollm2, tmp_path, scheme, language):
    home.create()
    for name in ("smollm2", "gemma-3-270m"):
        (home.models / f"{name}.gguf").symlink_to(smollm2.with_name(f"{name}.gguf"))
    kernel = start_kernel(default="smollm2", fronts={"http": {"listen": "127.0.0.1:0"}})
    async with kernel.client() as client:
        await until_ready(client, "default")
        address = (await until(client, lambda status: status.fronts[0].ready)).fronts[0].address
    async with browsing(tmp_path / "browser", f"http://{address}") as page:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await page.call("Emulation.setEmulatedMedia", features=features)
        await page.call(
            "Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False
        )
        await page.until("document.querySelector('#slots .good')")
        if await page.evaluate("document.documentElement.lang") != language:
            await page.evaluate("document.getElementById('language').click()")
        await page.evaluate("document.getElementById('prompt').focus()")
        await page.write(QUESTION)
        await page.press("Enter", "\r")
        await page.until("document.querySelectorAll('.turn span')[1]?.textContent.length > 200")
        await page.evaluate(SWAP)
        await page.until("document.querySelector('.moved')")
        said = "document.querySelectorAll('.turn span')[2]?.textContent.length > 100"
        await page.until(f"{said} || document.getElementById('stop').hidden")
        await page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
        taken = await page.call("Page.captureScreenshot", format="png")
    (Path(str(PICTURES)) / f"console-{scheme}.png").write_bytes(base64.b64decode(taken["data"]))
