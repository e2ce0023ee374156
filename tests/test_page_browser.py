"""The explorer's page in headless Chromium, opened as a file: it computes what the library computes, and takes what readers do.

Both sides compute in float64. In float32 two things decide signs of gradients: a loss that is rounded to 0 where a model is
sure, and the order of sums. One more is left in float64: where windows of a max-pool are equal, PyTorch's sums differ in their
last digit from place to place and so choose any of them, while the page takes the first, as PyTorch does on numbers that are
equal. So the reference rounds what goes into a max-pool to 2^-40. With PAG_SCREENSHOTS=folder screenshots are left there.
"""
import base64
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
import urllib.request
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from torch.nn import functional as F

from pag_companion.alignment import edge_correlation
from pag_companion.attacks import L2, Linf, pgd
from pag_companion.data import load, match_domain
from pag_companion.gradients import alignment, input_gradient
from pag_companion.lab.page import write_page
from pag_companion.models import FastStage, MadryCNN
from pag_companion.weights import pretrained

ROOT = Path(__file__).resolve().parents[1]
NODE = shutil.which("node")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_node = pytest.mark.skipif(NODE is None, reason="needs Node.js")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "The page, as `make site` writes it."
    target = tmp_path_factory.mktemp("a page")
    write_page(ROOT, target)
    return target


# What the library computes


def rounded(x):
    "Make numbers equal that differ in their last digits; the gradient passes."
    return x + (torch.round(x.detach() * 2 ** 40) / 2 ** 40 - x.detach())


def reference(name):
    "Load a model in float64, with equal numbers where windows of a max-pool are equal."
    model = pretrained(name).double()
    for module in model.modules():
        pooled = {FastStage: ("conv1",), MadryCNN: ("conv1", "conv2")}.get(type(module), ())
        for layer in pooled:
            getattr(module, layer).register_forward_hook(lambda _, __, out: rounded(out))
    return model


IMAGES = {"mnist_sample": lambda: load("mnist_sample", "test", limit=1000),
          "street_glyphs": lambda: load("street_glyphs", "test", limit=1000)}


def drawn_images(shape):
    "Draw what may stand for CIFAR-10: smooth blotches, and a white field whose windows are all equal."
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 5, 5, generator=generator)
    x = F.interpolate(coarse, size=shape[1:], mode="bicubic").clamp(0, 1)
    x[:, :, :14] = 1
    return (x * 255).round().byte()


def case(name, pixels, label, ball, *, steps=10, target=None, start=False):
    "State a job for the page, and what the library answers."
    model, x, y = reference(name), (pixels.float() / 255).double(), torch.tensor([label])
    goal = y if target is None else torch.tensor([target])
    draw = [torch.Generator().manual_seed(3) for _ in range(2)]
    g = input_gradient(model, x, y)
    attacked = pgd(model, x, goal, ball, steps=steps, targeted=target is not None, random_start=start, generator=draw[0])
    noise = ball.random_start(x, draw[1]).flatten().tolist() if start else None
    norm = "linf" if isinstance(ball, Linf) else "l2"
    job = {"model": name, "evaluator": name, "bytes": pixels.flatten().tolist(), "label": label, "start": noise,
           "attack": {"norm": norm, "eps": ball.eps, "steps": steps, "target": target}}
    return job, {"gradient": g.flatten(), "attacked": attacked.flatten(), "probabilities": model(x).softmax(1)[0].detach(),
                 "cosine": alignment(x, g)[0], "edges": edge_correlation(x, g)[0]}


def cases():
    "One of each kind of network, ball, goal and start; two images with equal windows."
    mnist, streets = IMAGES["mnist_sample"](), IMAGES["street_glyphs"]()
    blotches, ball = drawn_images((3, 32, 32)), Linf("8/255")
    made = []
    for name in ("mnist/AT-0.1", "mnist/Natural"):
        made += [case(name, mnist.pixels[k:k + 1], int(mnist.y[k]), Linf(.3)) for k in (0, 2)]
    made.append(case("mnist/AT-0.3", mnist.pixels[5:6], int(mnist.y[5]), Linf(.3), target=3))
    made.append(case("mnist/AT-0.1", mnist.pixels[7:8], int(mnist.y[7]), L2(2), steps=7))
    for name in ("svhn/AT-2", "svhn/Natural"):
        made.append(case(name, streets.pixels[2:3], int(streets.y[2]), ball, steps=5))
    made.append(case("svhn/AT-8", streets.pixels[6:7], int(streets.y[6]), ball, steps=5, start=True))
    made += [case("cifar10/AT-2", blotches[k:k + 1], 3, ball, steps=5) for k in (0, 1)]
    made.append(case("cifar10/AT-8", blotches[2:3], 5, ball, steps=5, target=6))
    return made


@pytest.fixture(scope="module")
def compared():
    return cases()


def far(given, expected):
    "Measure the largest difference."
    return (torch.tensor(given, dtype=torch.double).flatten() - expected.detach().flatten()).abs().max().item()


def check(answers, expected):
    "Compare each answer with the library's."
    assert len(answers) == len(expected)
    for answer, (job, theirs) in zip(answers, expected):
        scale = theirs["gradient"].abs().max().item()
        distances = {name: far(answer[name], theirs[name]) for name in theirs} | {
            "gradient": far(answer["gradient"], theirs["gradient"]) / scale}
        assert max(distances.values()) < TOLERANCE, (job["model"], job["attack"], distances)


# The engine by itself, in Node.js

ENGINE = """
const fs = require("fs"), path = require("path"), vm = require("vm"), folder = process.argv[2];
const engine = require(path.join(folder, "engine.js")), files = {};
globalThis.pagFile = (name, head, text) => { files[name] = [head, text]; };
const run = (file) => vm.runInThisContext(fs.readFileSync(path.join(folder, file), "utf8"));
"""


def in_node(script, folder, **given):
    "Run a script that prints JSON."
    words = [NODE, "-e", ENGINE.replace("process.argv[2]", "process.argv[1]") + script, str(folder)]
    done = subprocess.run(words, input=json.dumps(given), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
def test_the_engine_computes_what_the_library_does(folder, compared):
    script = """
const given = JSON.parse(fs.readFileSync(0)), models = {};
(async () => {
  const out = [];
  for (const { model, bytes, label, start, attack } of given.jobs) {
    run(`models/${model.replace("/", "-")}.js`);
    models[model] ??= engine.model(await engine.readModel(...files[model]));
    const net = models[model], x = engine.fromBytes(bytes), targeted = attack.target !== null;
    const seen = net.gradient(x, label), g = Array.from(seen.gradient);
    const goal = { ...attack, targeted, label: targeted ? attack.target : label };
    out.push({ gradient: g, probabilities: Array.from(seen.probabilities),
               attacked: Array.from(engine.pgd(net, x, goal, start)),
               cosine: engine.signedCosine(x, seen.gradient, net.shape),
               edges: engine.edgeCorrelation(x, seen.gradient, net.shape) });
  }
  process.stdout.write(JSON.stringify(out));
})();"""
    check(in_node(script, folder, jobs=[job for job, _ in compared]), compared)


@needs_node
def test_layers_are_those_of_torch(folder):
    "Equal numbers, odd sizes, strides: what the shipped networks hardly show."
    script = """
const given = JSON.parse(fs.readFileSync(0)), L = engine.layers;
const both = (layer, x, g) => {
  const out = layer.forward(x);
  return [Array.from(out.data), Array.from(layer.backward(L.map(out.c, out.h, out.w, Float64Array.from(g))).data)];
};
const x = L.map(3, 6, 10, Float64Array.from(given.x)), w = { rows: 5, cols: 27, data: given.w };
process.stdout.write(JSON.stringify([
  both(L.maxPool(), x, given.g1), both(L.globalPool("max"), x, given.g2), both(L.globalPool("mean"), x, given.g2),
  both(L.conv(w, { data: given.b }, 3, 2, 1), x, given.g3), both(L.conv(w, null, 3, 1, 0), x, given.g4)]));"""
    draw = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=draw, dtype=torch.double)
    x = torch.randint(3, (1, 3, 6, 10), generator=draw).double().requires_grad_()
    w, b = random(5, 3, 3, 3), random(5)
    layers = [lambda: F.max_pool2d(x, 2), lambda: x.amax((2, 3)), lambda: x.mean((2, 3)),
              lambda: F.conv2d(x, w, b, stride=2, padding=1), lambda: F.conv2d(x, w)]
    expected, given = [], {"x": x.flatten().tolist(), "w": w.flatten().tolist(), "b": b.tolist()}
    for name, layer in zip(("g1", "g2", "g2", "g3", "g4"), layers):
        out = layer()
        g = torch.tensor(given[name], dtype=torch.double).view_as(out) if name in given else random(*out.shape)
        given[name] = g.flatten().tolist()
        expected.append((out, torch.autograd.grad(out, x, g)[0]))
    for k, (ours, theirs) in enumerate(zip(in_node(script, folder, **given), expected)):
        assert far(ours[0], theirs[0]) < 1e-12 and far(ours[1], theirs[1]) < 1e-12, k


@needs_node
def test_images_are_resampled_as_the_library_does(folder):
    script = """
const given = JSON.parse(fs.readFileSync(0));
process.stdout.write(JSON.stringify(given.jobs.map(({ bytes, from, to }) =>
  Array.from(engine.resampled(Uint8Array.from(bytes), from, to)))));"""
    streets, mnist = IMAGES["street_glyphs"]()[:3], IMAGES["mnist_sample"]()[:3]
    pairs = [(streets, (1, 28, 28)), (mnist, (3, 32, 32)), (streets, (3, 13, 7)), (mnist, (1, 64, 64))]
    jobs = [{"bytes": images.pixels[k].flatten().tolist(), "from": images.shape, "to": to}
            for images, to in pairs for k in range(3)]
    matched = [match_domain(images, to).pixels[k] for images, to in pairs for k in range(3)]
    differ = total = 0
    for ours, theirs in zip(in_node(script, folder, jobs=jobs), matched):
        distance = (torch.tensor(ours) - theirs.flatten().int()).abs()
        assert distance.max() <= 1
        differ, total = differ + int((distance > 0).sum()), total + distance.numel()
    assert differ < .001 * total     # float32 rounds halves either way
    assert in_node(script, folder, jobs=[{"bytes": [0, 255, 7, 9], "from": [1, 2, 2], "to": [1, 2, 2]}]) == [[0, 255, 7, 9]]


@needs_node
def test_a_damaged_model_is_an_error(folder):
    script = """
run("models/svhn-AT-8.js");
const [head, text] = files["svhn/AT-8"], broken = [
  [head, text.slice(0, 200000)], [head, text.slice(0, 5000) + "aaaa" + text.slice(5004)],
  [{ ...head, tensors: head.tensors.slice(1) }, text], [{ ...head, arch: "vit" }, text]];
(async () => {
  const errors = [];
  for (const [h, t] of broken) {
    errors.push(await engine.readModel(h, t).then(engine.model).then(() => "", (error) => String(error)));
  }
  process.stdout.write(JSON.stringify(errors));
})();"""
    errors = in_node(script, folder)
    assert all(errors) and "ends too early" in errors[0] and "vit" in errors[3], errors


# The page in Chromium


class Chromium:
    "Steer a page by the devtools protocol, over a socket that speaks just enough WebSocket."

    def __init__(self, port):
        pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10))
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.count, self.errors, self.loaded = 0, [], []
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET /{address.split('/', 3)[3]} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
                             f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        self.stream = self.socket.makefile("rb")
        while self.stream.readline().strip():
            pass
        for domain in ("Runtime", "Page", "Log", "DOM", "Network"):
            self.call(f"{domain}.enable")

    def write(self, text):
        data, mask = text.encode(), os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else (
            struct.pack(">BH", 0xfe, len(data)) if len(data) < 65536 else struct.pack(">BQ", 0xff, len(data)))
        masked = bytes(b ^ mask[k % 4] for k, b in enumerate(data))
        self.socket.sendall(b"\x81" + size + mask + masked)

    def read(self):
        text, last = b"", False
        while not last:
            first, size = self.stream.read(2)
            last = bool(first & 0x80)
            if size > 125:
                size = int.from_bytes(self.stream.read({126: 2, 127: 8}[size]), "big")
            text += self.stream.read(size)
        return json.loads(text)

    def call(self, method, **given):
        self.count += 1
        self.write(json.dumps({"id": self.count, "method": method, "params": given}))
        while (answer := self.read()).get("id") != self.count:
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(answer["params"])
            elif answer.get("method") == "Network.requestWillBeSent":
                self.loaded.append(unquote(answer["params"]["request"]["url"]))
        assert "error" not in answer, answer
        return answer["result"]

    def js(self, code):
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, code, seconds=90):
        end = time.monotonic() + seconds
        while not (value := self.js(code)):
            assert time.monotonic() < end, f"{code}: not within {seconds} s; {self.js('document.body.innerText')[:600]}"
            time.sleep(.1)
        return value

    def open(self, address):
        self.call("Page.navigate", url="about:blank")
        self.loaded.clear()
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")
        self.errors.clear()

    def done(self):
        "Wait for the results of the last choice."
        return self.wait("/attack [0-9.]+ s/.test(byId('status').textContent) && byId('status').textContent")

    def key(self, name, code):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def size(self, width, height=900):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, name):
        if folder := os.environ.get("PAG_SCREENSHOTS"):
            shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip={
                "x": 0, "y": 0, "width": self.js("document.documentElement.clientWidth"),
                "height": self.js("document.documentElement.scrollHeight"), "scale": 1})
            Path(folder, name).write_bytes(base64.b64decode(shot["data"]))

    def upload(self, path):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    "Start Chromium; end it, with what it started, afterwards."
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             f"--remote-debugging-port={port}", f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "about:blank"]
    process = subprocess.Popen(words, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        yield started(port)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def started(port):
    end = time.monotonic() + 60
    while True:
        try:
            page = Chromium(port)
            page.size(1280)
            return page
        except (OSError, StopIteration):
            assert time.monotonic() < end, "Chromium did not start"
            time.sleep(.2)


@pytest.fixture
def page(chromium, folder):
    "Open the page from its folder."
    chromium.folder = folder
    chromium.address = (folder / "index.html").as_uri()
    yield chromium
    assert not chromium.errors, chromium.errors


COMPUTE = """(async () => {
  const given = %s, out = [];
  for (const job of given) {
    await loadModel(job.model);
    const answer = { attacked: null };
    await send({ kind: "explore", job: { ...job, x: engine.fromBytes(job.bytes) } }, (message) => {
      if (message.kind === "start") {
        answer.gradient = Array.from(message.gradient);
        answer.probabilities = Array.from(message.seen.model);
        [answer.cosine, answer.edges, answer.seconds] = [message.cosine, message.edges, message.seconds];
      } else {
        answer.attacked = Array.from(message.x);
      }
    }).then((done) => { answer.attack = done.seconds; });
    out.push(answer);
  }
  return out;
})()"""


@needs_chromium
def test_the_page_computes_what_the_library_does(page, compared):
    page.open(page.address)
    page.done()
    chosen = [compared[k] for k in (0, 1, 4, 6, 8, 9, 10)]     # MNIST, SVHN, CIFAR-10; Node.js has them all
    answers = page.js(COMPUTE % json.dumps([job for job, _ in chosen]))
    check(answers, chosen)
    for answer, (job, _) in zip(answers, chosen):
        print(f"{job['model']}: gradient {answer['seconds']:.2f} s, PGD-{job['attack']['steps']} {answer['attack']:.2f} s")


VIEW = "[view.model, view.eps, view.target, view.index, view.evaluator].join()"
MESSAGE = "(byId('message').hidden ? '' : byId('message').textContent)"


@needs_chromium
def test_a_view_can_be_linked(page):
    page.open(page.address + "#model=svhn/AT-8&source=street_glyphs&index=2&eps=16/255&target=7&steps=3")
    page.done()
    assert page.js(VIEW) == "svhn/AT-8,16/255,7,2,svhn/AT-4"
    assert "steps=3" in page.js("byId('link').href") and page.js("view.path.length") == 4
    line = page.js("byId('python').textContent")
    assert 'model="svhn/AT-8", source="street_glyphs", index=2, norm="linf", eps="16/255", steps=3, target="7"' in line
    page.open(page.js("byId('link').href"))
    page.done()
    assert page.js(VIEW) == "svhn/AT-8,16/255,7,2,svhn/AT-4"


@needs_chromium
def test_the_line_in_python_makes_the_same_view(page):
    page.open(page.address + "#model=mnist/AT-0.1&eps=0.3&target=3")
    page.done()
    given = {}
    exec(page.js("byId('python').textContent"), given)
    theirs = given["explored"]
    assert far(page.js("Array.from(view.path.at(-1))"), theirs.path[-1].double()) < TOLERANCE
    assert far(page.js("Array.from(view.seen.at(-1).evaluator)"), theirs.evaluator[-1].double()) < 1e-4
    for ours, name in (("cosine", "alignment"), ("edges", "edge_correlation")):     # the model is sure: float32 is coarse
        assert page.js(f"view.{ours}") == pytest.approx(theirs.measures[name], abs=2e-3)


WRONG = [
    ("model=mnist/AT-9", "model = mnist/AT-9 is not offered here: choose one of mnist/Natural"),
    ("eps=2", "ε = 2 leaves the image range [0, 1]: did you mean 2/255?"),
    ("eps=nan", "is no radius"), ("eps=-1", "is no radius"), ("steps=1e9", "a whole number, 1 to 200"),
    ("index=100", "index = 100 should be a whole number, 0 to 99"), ("target=frog", "target = frog"),
    ("model=svhn/AT-8&eps=0.5", "write it as k/255"), ("norm=l2&eps=99", "reaches every image"),
    ("evaluator=svhn/AT-8", "evaluator = svhn/AT-8"), ("source=<img src=x>", "source = <img src=x> is not offered")]


@needs_chromium
@pytest.mark.parametrize("words, sentence", WRONG)
def test_a_wrong_address_is_a_sentence_beside_the_first_view(page, words, sentence):
    page.open(f"{page.address}#{words}")
    page.done()
    assert sentence in page.js(MESSAGE) and page.js(VIEW) == "mnist/AT-0.1,0.3,,0,mnist/AT-0.2"
    assert page.js("document.querySelectorAll('img').length") == 0


@needs_chromium
def test_a_wrong_address_of_an_open_page_leaves_the_view(page):
    page.open(page.address + "#model=mnist/AT-0.1&index=3&steps=2")
    page.done()
    before = page.js(VIEW)
    for words, sentence in WRONG:
        page.js(f"location.hash = {json.dumps(words)}")
        page.wait(f"{MESSAGE}.includes({json.dumps(sentence)})", 10)
        assert page.js(VIEW) == before and page.js("document.querySelectorAll('img').length") == 0
    page.js("location.hash = 'index=4&steps=2'")
    page.wait("view.index === 4 && view.seconds")
    assert page.js(MESSAGE) == ""


@needs_chromium
def test_a_wrong_radius_leaves_the_view(page):
    page.open(page.address)
    page.done()
    page.js("byId('eps-text').value = '8'; byId('eps-text').dispatchEvent(new Event('change'))")
    assert "did you mean 8/255?" in page.js(MESSAGE) and page.js("byId('results').hidden") is False
    page.js("byId('eps-text').value = '0.25'; byId('eps-text').dispatchEvent(new Event('change'))")
    page.wait("view.eps === '0.25' && view.seconds")
    assert page.js(MESSAGE) == ""


@needs_chromium
def test_keys_are_enough(page):
    page.open(page.address)
    page.done()
    page.js("byId('eps').focus()")
    page.key("ArrowRight", 39)
    page.wait("view.eps === '0.32' && view.seconds")
    assert page.js("byId('eps').getAttribute('aria-valuetext')") == "0.32"
    page.js("document.querySelector('#thumbs input:checked').focus()")
    page.key("ArrowRight", 39)
    page.wait("view.index === 1 && view.seconds")
    page.js("byId('step').focus()")
    page.key("ArrowLeft", 37)
    assert "step 9" in page.js("byId('tiles').innerText")
    page.js("document.body.focus(); document.activeElement.blur()")
    reached = []
    for _ in range(40):
        page.key("Tab", 9)
        reached.append(page.js("document.activeElement.id || document.activeElement.name"))
    assert {"model", "evaluator", "source", "index", "file", "eps", "eps-text", "steps", "norm", "target", "play", "step",
            "link", "copy"} <= set(reached), reached


@needs_chromium
def test_everything_has_a_name(page):
    "What a screen reader meets: images, controls, tables."
    page.open(page.address)
    page.done()
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"image", "img", "slider", "combobox", "MenuListPopup", "textbox", "button", "link", "radio", "table", "radiogroup"}
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes
             if not node["ignored"] and node["role"]["value"] in roles - {"MenuListPopup"}]
    assert [role for role, name in named if not name.strip()] == []
    images = [name for role, name in named if role in ("image", "img")]
    assert any("−Input gradient, of mnist/AT-0.1" in name for name in images) and len(images) == 4 + 6, images
    assert page.js("byId('status').getAttribute('aria-live')") == "polite"
    assert "mnist/AT-0.1 sees 7" in page.js("byId('status').textContent").replace("\u00a0", " ")


@needs_chromium
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(page, theme):
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    try:
        page.open(page.address)
        page.done()
        for width in (1280, 420, 320):
            page.size(width)
            time.sleep(.3)
            page.screenshot(f"page-{theme}-{width}.png")
            assert page.js("document.documentElement.scrollWidth <= innerWidth"), width
        bright = page.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert bright == (theme == "light")
    finally:
        page.size(1280)
        page.call("Emulation.setEmulatedMedia", features=[])


# Images of a reader's own


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    "Files as readers may bring them."
    from PIL import Image
    folder = tmp_path_factory.mktemp("files")
    pixels = drawn_images((3, 32, 32))[3].permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(folder / "small.png")
    Image.fromarray(pixels).resize((90, 60)).save(folder / "wide.jpg")
    Image.new("1", (5000, 4000)).save(folder / "huge.png")
    Image.new("RGBA", (32, 32), (9, 9, 9, 99)).save(folder / "clear.png")
    (folder / "text.png").write_text("no image")
    (folder / "empty.png").touch()
    (folder / "test_batch").write_bytes(b"\x80\x02}q\x00.")
    (folder / "odd.bin").write_bytes(bytes(3000))
    planes = drawn_images((3, 32, 32))[3].numpy().tobytes()
    (folder / "two.bin").write_bytes(b"\x06" + bytes(3072) + b"\x08" + planes)
    (folder / "label.bin").write_bytes(b"\xff" + bytes(3072))
    return folder


CIFAR = "#model=cifar10/AT-8&source=file&eps=8/255&steps=2"


@needs_chromium
def test_an_image_from_a_file(page, files):
    page.open(page.address + CIFAR)
    page.wait("/choose an image of yours/.test(byId('status').textContent)")
    assert page.js("byId('results').hidden") is True and page.js(MESSAGE) == ""
    page.upload(files / "small.png")
    page.done()
    pixels = drawn_images((3, 32, 32))[3:4]
    assert far(page.js("Array.from(view.path[0])"), (pixels.float() / 255).double()) == 0
    label = int(pretrained("cifar10/AT-8")(pixels.float() / 255).argmax())
    assert page.js("view.label") == label and "without a label" in page.js("byId('about-image').textContent")
    page.upload(files / "wide.jpg")
    page.wait("view && view.notes.join().includes('the middle 60×60 of 90×60 pixels') && view.seconds")
    page.screenshot("own.png")


@needs_chromium
def test_cifar10_in_its_binary_version(page, files):
    page.open(page.address + CIFAR)
    page.wait("/choose an image of yours/.test(byId('status').textContent)")
    page.upload(files / "two.bin")
    page.done()
    assert page.js("view.label") == 6 and page.js("byId('number').hidden") is False
    page.js("byId('index').value = 1; byId('index').dispatchEvent(new Event('change'))")
    page.wait("view.index === 1 && view.seconds")
    pixels = drawn_images((3, 32, 32))[3:4]
    assert page.js("view.label") == 8 and far(page.js("Array.from(view.path[0])"), (pixels.float() / 255).double()) == 0
    page.js("byId('index').value = 2; byId('index').dispatchEvent(new Event('change'))")
    assert "index = 2 should be a whole number, 0 to 1" in page.js(MESSAGE)


NO_IMAGES = {
    "text.png": "text.png cannot be read as an image", "empty.png": "is empty", "huge.png": "5000×4000 pixels",
    "clear.png": "transparent pixels", "test_batch": "CIFAR-10's Python version", "odd.bin": "no multiple of 3073",
    "label.bin": "the label 255"}


@needs_chromium
def test_a_file_that_is_no_image_is_a_sentence(page, files):
    page.open(page.address + CIFAR)
    page.wait("/choose an image of yours/.test(byId('status').textContent)")
    for name, sentence in NO_IMAGES.items():
        page.upload(files / name)
        page.wait(f"{MESSAGE}.includes({json.dumps(sentence)})", 10)
        page.upload(files / "small.png")
        page.wait(f"{MESSAGE} === ''", 30)
        page.done()


# Files and browsers that do not fit


@pytest.fixture
def other(folder, tmp_path):
    "A copy of the page, to be spoiled."
    return Path(shutil.copytree(folder, tmp_path / "page"))


@needs_chromium
@pytest.mark.parametrize("spoil, sentence", [
    (lambda path: path.unlink(), "svhn-AT-2.js cannot be loaded"),
    (lambda path: shutil.copy(path.with_name("svhn-AT-4.js"), path), "is not the file that this page lists"),
    (lambda path: path.write_text(path.read_text().replace('"sha256": "6', '"sha256": "7')), "of another version"),
    (lambda path: path.write_text(path.read_text()[:-9000] + '");'), "is damaged")])
def test_a_model_that_does_not_match_is_a_sentence(page, other, spoil, sentence):
    spoil(other / "models" / "svhn-AT-2.js")
    page.open((other / "index.html").as_uri() + "#model=svhn/AT-2&steps=2")
    page.wait(MESSAGE)
    assert sentence in page.js(MESSAGE)
    page.js("byId('model').value = 'svhn/AT-8'; byId('model').dispatchEvent(new Event('change'))")
    page.done()
    assert page.js(MESSAGE) == "" and page.js("view.model") == "svhn/AT-8"
    page.errors.clear()     # the browser itself reports a file that is missing


@needs_chromium
@pytest.mark.parametrize("code, sentence", [
    ("delete self.DecompressionStream", "lacks DecompressionStream: take Chrome or Edge 80"),
    ("self.Worker = function () { throw new Error('no workers') }", ""),
    ("self.Worker = class { postMessage() { setTimeout(() => this.onerror()) } }", "")])
def test_a_browser_that_lacks_something(page, code, sentence):
    "Without workers it computes all the same; without decompression it says so."
    added = page.call("Page.addScriptToEvaluateOnNewDocument", source=code)["identifier"]
    try:
        page.open(page.address + "#model=svhn/AT-8&steps=2")
        if sentence:
            assert sentence in page.js(MESSAGE)
        else:
            page.done()
    finally:
        page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added)


@needs_chromium
def test_the_newest_choice_counts(page):
    page.open(page.address + "#model=svhn/AT-8&steps=200")
    page.wait("view && view.path.length > 2")
    page.js("byId('steps').value = 2; byId('steps').dispatchEvent(new Event('input'))")
    page.done()
    assert page.js("answers.size") == 0     # the attack of 200 steps has ended, too
    assert page.js("view.path.length") == 3 and page.js("byId('step').max") == "2"


@needs_chromium
def test_first_paint_is_light(page):
    "What is loaded before a model: the page's own files, and the images to choose from."
    page.open(page.address)
    page.done()
    assert not [name for name in page.loaded if not name.startswith(("file:", "blob:", "data:"))]
    files = {Path(name[7:]).relative_to(page.folder).as_posix() for name in page.loaded if name.startswith("file:")}
    models = {name for name in files if name.startswith("models/")}
    assert models == {"models/mnist-AT-0.1.js", "models/mnist-AT-0.2.js"} and "index.html" in files
    assert sum((page.folder / name).stat().st_size for name in files - models) < 150_000
