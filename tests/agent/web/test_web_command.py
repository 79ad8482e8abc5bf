"""`textlens web` itself, and its page in a browser: choose an image, ask, and the answer appears."""

from __future__ import annotations

import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from textlens.cli import app
from textlens.errors import InputError
from textlens.scenes.rendering import render
from textlens.scenes.scene import scene_at
from typer.testing import CliRunner

from ...browsers import chromium
from ..mcp_clients import ENVIRONMENT

COMMAND = [sys.executable, "-c", "from textlens.cli import main; main()", "web"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    Image.fromarray(render(scene_at(0, "test"))).save(path)
    return path


@pytest.fixture(scope="module")
def url(picture: Path) -> Iterator[str]:
    arguments = [str(picture), "--encoder", "scenes:coca", "--llm", "tiny", "--steps", "2", "--port", "0"]
    process = subprocess.Popen([*COMMAND, *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0


def test_it_prints_its_address_and_loads_nothing_yet(url: str) -> None:
    assert url.startswith("http://127.0.0.1:")
    about = httpx.get(f"{url}api/about").json()
    assert (about["encoders"], about["llm"], about["samples"]) == (["scenes:coca"], "tiny", ["scene.png"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "a token is required: set TEXTLENS_WEB_TOKEN"),
        (["--encoder", "nonsense"], "nonsense"),
        (["--llm", "nonsense"], "nonsense"),
        (["missing.png"], "missing.png"),
        (["--port", "99999"], "65535"),
    ],
)
def test_wrong_settings_are_errors_before_anything_is_served(arguments, message, monkeypatch) -> None:
    monkeypatch.delenv("TEXTLENS_WEB_TOKEN", raising=False)
    result = CliRunner().invoke(app, ["web", *arguments])
    assert result.exit_code != 0
    assert message in (str(result.exception) if isinstance(result.exception, InputError) else result.output)


def test_help_and_start_import_no_torch() -> None:
    loaded = "print('torch' in sys.modules, file=sys.stderr)"
    code = f"import sys\nfrom textlens.cli import main\ntry: main()\nfinally: {loaded}"
    command = [sys.executable, "-c", code, "web", "--help"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.strip().endswith("False")


# --- In a browser ---


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    with chromium(tmp_path_factory.mktemp("chromium"), "1200,1000") as started:
        yield started


def shown(browser, selector: str) -> str:
    """The text of the first such element, once there is one."""
    from selenium.webdriver.support.ui import WebDriverWait

    found = WebDriverWait(browser, 120).until(lambda one: one.find_elements("css selector", selector))
    return found[0].text


def test_upload_ask_and_the_answer_appears(browser, url: str, picture: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.get(url)
    assert shown(browser, "#about").startswith("Words by")
    browser.find_element("id", "question").send_keys("What colour is it?", Keys.ENTER)
    assert shown(browser, "#answers .error") == "Choose an image first."
    browser.find_element("id", "file").send_keys(str(picture))
    assert "scenes:coca" in shown(browser, "#words .result")
    browser.find_element("id", "question").send_keys(Keys.ENTER)
    assert "What colour is it?" in shown(browser, "#answers .result")
    assert browser.find_elements("css selector", "#answers .error") == []
    assert shown(browser, "#answers .answer")
    summary = browser.find_element("css selector", "#answers summary")
    browser.execute_script("arguments[0].focus()", summary)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert "Image question: What colour is it?" in browser.find_element("css selector", "#answers pre").text
    browser.find_element("id", "labels").send_keys("<b red, blue", Keys.ENTER)
    assert "<b red, blue" in shown(browser, "#classes .result")  # as text
    browser.find_element("id", "recreate").click()
    assert "Drawn from these words alone" in shown(browser, "#drawing .result")
    browser.find_element("id", "prompt").send_keys("a red star", Keys.ENTER)
    assert "red star" in shown(browser, "#upsampled .result").lower()
    assert browser.get_log("browser") == []  # no error, no request that the policy refused


def test_drop_and_paste(browser, url: str, picture: Path) -> None:
    browser.get(url)
    shown(browser, "#samples button")
    dragged = {"items": [], "files": [str(picture)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 200, "data": dragged})
    assert "scenes:coca" in shown(browser, "#words .result")

    browser.get(url)
    shown(browser, "#samples button")
    paste = """const bytes = Uint8Array.from(atob(arguments[0]), (one) => one.charCodeAt(0));
        const clipboardData = new DataTransfer();
        clipboardData.items.add(new File([bytes], "image.png", { type: "image/png" }));
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));"""
    browser.execute_script(paste, b64encode(picture.read_bytes()).decode())
    assert "scenes:coca" in shown(browser, "#words .result")

    dragged = {"items": [{"mimeType": "text/plain", "data": "words"}], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 200, "data": dragged})
    assert shown(browser, "#words .error").startswith("That is no image")
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_width_dark_and_light_and_names_for_screen_readers(browser, url: str, theme: str) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    phone = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get(url)
    shown(browser, "#samples button")
    assert browser.execute_script("return document.documentElement.scrollWidth") == 375
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (int(background.partition("(")[2].split(",")[0]) > 128) == (theme == "light")
    unnamed = """return [...document.querySelectorAll("button, input")].filter(one =>
        !(one.textContent.trim() || one.labels?.length || one.ariaLabel || one.querySelector("img[alt]"))).length"""
    assert browser.execute_script(unnamed) == 0
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
