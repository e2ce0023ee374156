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
import zlib
from pathlib import Path

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
    blotches = drawn_images((3, 32, 32))
    made = []
    for name in ("mnist/AT-0.1", "mnist/Natural"):
        made += [case(name, mnist.pixels[k:k + 1], int(mnist.y[k]), Linf(.3)) for k in (0, 2)]
    made.append(case("mnist/AT-0.3", mnist.pixels[5:6], int(mnist.y[5]), Linf(.3), target=3))
    made.append(case("mnist/AT-0.1", mnist.pixels[7:8], int(mnist.y[7]), L2(2), steps=7))
    for name in ("svhn/AT-2", "svhn/Natural"):
        made.append(case(name, streets.pixels[2:3], int(streets.y[2]), Linf("8/255")))
    made.append(case("svhn/AT-8", streets.pixels[6:7], int(streets.y[6]), Linf("8/255"), start=True))
    made += [case("cifar10/AT-2", blotches[k:k + 1], 3, Linf("8/255")) for k in (0, 1)]
    made.append(case("cifar10/AT-8", blotches[2:3], 5, Linf("8/255"), target=6))
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
        self.socket, self.count, self.errors = socket.create_connection(("127.0.0.1", port), timeout=120), 0, []
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET /{address.split('/', 3)[3]} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
                             f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        self.stream = self.socket.makefile("rb")
        while self.stream.readline().strip():
            pass
        for domain in ("Runtime", "Page", "Log", "DOM"):
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
    answers = page.js(COMPUTE % json.dumps([job for job, _ in compared]))
    check(answers, compared)
    for answer, (job, _) in zip(answers, compared):
        print(f"{job['model']}: gradient {answer['seconds']:.2f} s, PGD-{job['attack']['steps']} {answer['attack']:.2f} s")
