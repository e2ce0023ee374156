"""The explorer in a real JupyterLab in headless Chromium: its cell runs, a slider moves, the attacked image changes.

Slow: make test-slow. With PAG_SCREENSHOTS=folder it leaves screenshots at two widths there.
"""
import base64
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MODULES = ("jupyterlab", "ipywidgets", "websocket")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    CHROMIUM is None or not all(map(importlib.util.find_spec, MODULES)), reason="needs Chromium, JupyterLab and ipywidgets")]
ROOT = Path(__file__).resolve().parents[1]
WIDTHS = (1280, 420)
ATTACKED = "document.querySelector('.jupyter-widgets img[alt^=attacked]')?.src || ''"
MESSAGE = "[...document.querySelectorAll('.jupyter-widgets')].map(e => e.innerText).join(' ')"
READY = """(() => {
  const panel = [...jupyterapp.shell.widgets('main')][0];
  jupyterapp.shell.activateById(panel.id);
  return panel.sessionContext.session.kernel.status == 'idle' && panel.content.model.cells.length > 9 })()"""
RUN = """(() => {
  const notebook = [...jupyterapp.shell.widgets('main')][0].content, cells = notebook.model.cells;
  for (let k = 0; k < cells.length; k++)
    if (cells.get(k).type == 'code' && cells.get(k).sharedModel.source.includes('\\nExplorer(')) notebook.activeCellIndex = k;
  jupyterapp.commands.execute('notebook:run-cell');
  return notebook.activeCellIndex })()"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def eventually(look, seconds, what):
    "Look again and again until there is something."
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if value := look():
                return value
        except (OSError, RuntimeError) as error:
            last = error
        time.sleep(.3)
    raise AssertionError(f"{what}: not within {seconds} s ({last})")


@pytest.fixture
def started():
    "Start programs; end each, with what it started, afterwards."
    running = []

    def start(words, **environment):
        running.append(subprocess.Popen(
            words, env={**os.environ, **environment}, start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    yield start
    for process in reversed(running):
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, sign)
                process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


class Page:
    "Steer a page of Chromium by its devtools protocol."

    def __init__(self, port):
        import websocket
        pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        self.socket, self.count = websocket.create_connection(address, timeout=60, suppress_origin=True), 0

    def call(self, method, **given):
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": given}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.count:
            pass
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def js(self, code):
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def key(self, name, code):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def resize(self, width, height=1500):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, name):
        if folder := os.environ.get("PAG_SCREENSHOTS"):
            Path(folder, name).write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@pytest.fixture
def page(started, tmp_path):
    "Open a copy of the chapter in JupyterLab."
    shutil.copy(ROOT / "nbs" / "80_explorer.ipynb", tmp_path)
    news = tmp_path / ".settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')
    lab, tools = free_port(), free_port()
    started([sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={lab}", "--port-retries=0",
             "--ip=127.0.0.1", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True",
             f"--ServerApp.root_dir={tmp_path}"],
            PYTHONPATH=str(ROOT), JUPYTER_CONFIG_DIR=str(tmp_path / ".config"), OMP_NUM_THREADS="2",
            JUPYTERLAB_SETTINGS_DIR=str(tmp_path / ".settings"), JUPYTERLAB_WORKSPACES_DIR=str(tmp_path / ".workspaces"))
    eventually(lambda: urllib.request.urlopen(f"http://127.0.0.1:{lab}/api"), 60, "JupyterLab's server")
    started([CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             f"--remote-debugging-port={tools}", f"--user-data-dir={tmp_path / '.chromium'}", "about:blank"])
    page = eventually(lambda: Page(tools), 60, "Chromium")
    page.resize(WIDTHS[0])
    page.call("Emulation.setFocusEmulationEnabled", enabled=True)
    page.call("Page.navigate", url=f"http://127.0.0.1:{lab}/lab/tree/80_explorer.ipynb?reset")
    eventually(lambda: page.js(READY), 120, "a kernel")
    yield page
    page.screenshot("last.png")


@pytest.mark.parametrize("words", [("mnist/AT-0.1", "mnist_sample"), ("svhn/AT-8", "street_glyphs")])
def test_a_change_is_computed_in_half_a_second(words):
    "In seconds of one core, so that other programs do not count; the first time loads models and fits Gaussians."
    from pag_companion.explorer import Choice, explore
    from pag_companion.explorer_page import page_of
    seconds = []
    for eps in ("8/255", "16/255", "24/255", "32/255"):
        start = time.process_time()
        page_of(explore(Choice(*words, eps=eps)))
        seconds.append(time.process_time() - start)
    assert min(seconds) < .5, seconds


def test_a_slider_moves_the_image(page):
    page.js(RUN)
    before = eventually(lambda: page.js(ATTACKED), 240, "the widget")
    page.js("jupyterapp.commands.execute('application:toggle-left-area')")
    time.sleep(1)
    page.screenshot("before.png")
    steps = page.js("document.querySelectorAll('.jupyter-widgets .noUi-handle, .jupyter-widgets .ui-slider-handle').length")
    assert steps == 2, "the sliders of ε and of the steps"
    page.js("document.querySelector('.jupyter-widgets .noUi-handle, .jupyter-widgets .ui-slider-handle').focus()")
    page.key("ArrowRight", 39)
    after = eventually(lambda: page.js(ATTACKED) != before and page.js(ATTACKED), 60, "another attacked image")
    assert after.startswith("data:image/png;base64,")
    line = page.js(MESSAGE)
    assert "computed in" in line and "eps='0.32'" in line, line[-400:]
    page.key("ArrowLeft", 37)
    eventually(lambda: page.js(ATTACKED) == before, 60, "the first image again")
    for width in WIDTHS:
        page.resize(width)
        time.sleep(1.5)
        page.js("document.querySelector('.jupyter-widgets').scrollIntoView()")
        time.sleep(.5)
        page.screenshot(f"explorer-{width}.png")
        fits = page.js("(() => { const out = document.querySelector('.jp-OutputArea-output.jupyter-widgets, .jupyter-widgets').parentElement;"
                       " return [out.scrollWidth, out.clientWidth] })()")
        assert fits[0] <= fits[1] + 1, f"at {width} pixels the widget is {fits[0]} wide in {fits[1]}"
