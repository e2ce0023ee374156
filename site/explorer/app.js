/* The page: a choice, its address, the controls that hold it, and the view that follows. */
"use strict";

const engine = pagEngine();
const MODELS = new Map(pagCatalog.models.map((model) => [model.name, model]));
const SETS = new Map(pagCatalog.images.map((images) => [images.name, images]));
const SOURCES = { mnist: ["mnist_sample", "file"], cifar10: ["file"],
                  svhn: ["street_glyphs", "mnist_sample", "file"] };
const TITLES = { mnist: "MNIST", svhn: "SVHN (street numbers)", cifar10: "CIFAR-10",
                 mnist_sample: "MNIST, test digits", street_glyphs: "synthetic street numbers",
                 file: "a file of yours" };
const NOTES = { mnist_sample: "of MNIST's test images",
                street_glyphs: "drawn by this project in the place of SVHN" };
const USUAL = { mnist: "mnist/AT-0.2", svhn: "svhn/AT-8", cifar10: "cifar10/AT-8" };
const SEVEN = { source: "mnist_sample", index: 0, eps: "0.3", target: "3" };
const TRIES = [["a seven becomes a three", { model: "mnist/AT-0.1", ...SEVEN }],
               ["the same attack on Natural", { model: "mnist/Natural", ...SEVEN }],
               ["a street number", { model: "svhn/AT-8", index: 2, eps: "32/255", steps: 20 }],
               ["an image of yours, CIFAR-10", { model: "cifar10/AT-8", source: "file" }]];
const MOST_STEPS = 200;
const DELAY = 150; // milliseconds without a change before it is computed
const NEWER = "take Chrome or Edge 80, Firefox 113, Safari 16.4 or newer, or the notebook " +
  "80_explorer";

// ---- what a reader chooses: the fields of Choice in explorer.py -----------------------------

const ladderOf = (name) => name.split("/")[0];
const isColor = (model) => MODELS.get(model).shape[0] === 3;

function radii(model, norm) { // of the slider; the middle one is the default
  const numbers = (count, f) => Array.from({ length: count }, (_, k) => f(k));
  if (norm === "l2") return numbers(33, (k) => String(k / 4));
  return isColor(model) ? numbers(65, (k) => (k ? `${k}/255` : "0"))
    : numbers(31, (k) => String(Number((k / 50).toFixed(2))));
}

function evaluators(model) { // the default first, then robust ones
  const usual = USUAL[ladderOf(model)];
  const others = [...MODELS.keys()].filter((n) => n !== model && ladderOf(n) === ladderOf(model));
  return others.sort((a, b) => (b === usual) - (a === usual)
    || MODELS.get(b).eps - MODELS.get(a).eps);
}

function readEps(text, model, norm) { // numbers.py, parse_eps
  const given = `ε = ${text}`, parts = String(text).trim().match(/^([\d.]+)(?:\/([\d.]+))?$/);
  const eps = parts ? Number(parts[1]) / Number(parts[2] || 1) : NaN;
  if (!Number.isFinite(eps)) refuse(`${given} is no radius: give a number, or k/255, as 8/255.`);
  if (norm === "linf" && eps >= 1) {
    refuse(`${given} leaves the image range [0, 1]: ` + (parts[2]
      ? "a radius of 1 reaches every image; give less." : `did you mean ${text}/255?`));
  }
  if (norm === "linf" && isColor(model) && eps >= 0.25 && parts[2] !== "255") {
    refuse(`${given} is a very large radius for color images: write it as k/255 if you mean it.`);
  }
  const diagonal = Math.sqrt(MODELS.get(model).shape.reduce((p, q) => p * q));
  if (eps >= diagonal) {
    refuse(`${given} reaches every image: in L2 give less than ${diagonal.toFixed(0)}, as 2.`);
  }
  return eps;
}

function wholeNumber(value, name, least, most) {
  const number = Number(value);
  if (!Number.isInteger(number) || number < least || number > most) {
    refuse(`${name} = ${value} should be a whole number, ${least} to ${most}.`);
  }
  return number;
}

function among(name, value, allowed) {
  if (!allowed.includes(value)) {
    refuse(`${name} = ${value} is not offered here: choose one of ` +
           `${allowed.map((each) => each || "any").join(", ")}.`);
  }
  return value;
}

function settled(fields) { // what is left out or empty gets its default; or UserError
  const model = among("model", fields.model || "mnist/AT-0.1", [...MODELS.keys()]);
  const sources = SOURCES[ladderOf(model)];
  const source = among("source", fields.source || sources[0], sources);
  const norm = among("norm", fields.norm || "linf", ["linf", "l2"]), offered = radii(model, norm);
  const eps = String(fields.eps || offered[offered.length >> 1]).trim();
  readEps(eps, model, norm);
  const count = source === "file" ? (own ? own.count : Infinity) : SETS.get(source).count;
  return {
    model, source, norm, eps,
    index: wholeNumber(fields.index || 0, "index", 0, count - 1),
    steps: wholeNumber(fields.steps || 10, "steps", 1, MOST_STEPS),
    target: among("target", fields.target || "", ["", ...MODELS.get(model).classes]),
    evaluator: among("evaluator", fields.evaluator || evaluators(model)[0], evaluators(model)),
  };
}

// ---- the address ----------------------------------------------------------------------------

const FIELDS = ["model", "source", "index", "norm", "eps", "steps", "target", "evaluator"];

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(FIELDS.filter((name) => given.has(name))
    .map((name) => [name, given.get(name)]));
}

function address(from) {
  const words = FIELDS.filter((name) => (from[name] ?? "") !== "")
    .map((name) => `${name}=${encodeURIComponent(from[name]).replaceAll("%2F", "/")}`);
  return `#${words.join("&")}`;
}

function python(from) { // the line that repeats a view in the library
  const quoted = (value) => (typeof value === "number" ? value : `"${value}"`);
  const source = from.source === "file" ? own.name : from.source;
  const words = FIELDS.map((name) => `${name}=${quoted(name === "source" ? source : from[name])}`);
  return "from pag_companion.explorer import Choice, explore\n" +
    `explored = explore(Choice(${words.join(", ")}))`;
}

// ---- what is loaded when it is chosen: scripts that call pagFile ----------------------------

const arrived = new Map(), loading = new Map();

function pagFile(name, head, text) { arrived.set(name, { head, text }); }

function loadScript(about) {
  return new Promise((resolve, reject) => {
    const script = element("script", { src: about.file });
    script.onload = () => {
      script.remove();
      const file = arrived.get(about.name);
      const fits = file && file.head.sha256 === about.sha256;
      if (fits) return resolve(file);
      return reject(new UserError(`${about.file} is not the file that this page lists; it is of ` +
        "another version. Load the page anew, or build it again by make site."));
    };
    script.onerror = () => {
      script.remove();
      reject(new UserError(`${about.file} cannot be loaded: it should lie in the page's folder, ` +
        "beside index.html. Load the page anew, or choose another model or image."));
    };
    document.head.append(script);
  });
}

function once(name, make) { // remembers a promise, unless it fails
  if (!loading.has(name)) {
    loading.set(name, make());
    loading.get(name).catch(() => loading.delete(name));
  }
  return loading.get(name);
}

function loadModel(name) {
  return once(name, async () => {
    const { head, text } = await loadScript(MODELS.get(name));
    arrived.delete(name);
    await send({ kind: "model", head, text }).catch((error) =>
      refuse(`${MODELS.get(name).file} is damaged (${error.message}): load the page anew, or ` +
             "build it again by make site."));
  });
}

function loadImages(name) { // -> { labels, shape, pixels: bytes of each }
  return once(name, async () => {
    const { head, text } = await loadScript(SETS.get(name));
    const all = await engine.inflated(text, head.packed);
    const size = head.shape.reduce((p, q) => p * q);
    const pixels = head.labels.map((_, k) => all.subarray(k * size, (k + 1) * size));
    return { ...head, pixels };
  });
}

// ---- the worker -----------------------------------------------------------------------------

const answers = new Map(); // id -> what to do with a message
let count = 0, toWorker;

function receive(message) { const answer = answers.get(message.id); if (answer) answer(message); }

function startWorker() {
  const here = () => { toWorker = pagWorker(engine, receive); };
  let waiting = []; // for a first answer; null: the worker works, or it has been replaced
  const text = `const handle = (${pagWorker})((${pagEngine})(), (m) => postMessage(m));
    onmessage = (event) => handle(event.data);`;
  try {
    const worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
    worker.onmessage = ({ data }) => { waiting = null; receive(data); };
    worker.onerror = () => {
      if (!waiting) return;
      here();
      waiting.forEach((message) => toWorker(message));
      waiting = null;
    };
    toWorker = (message) => {
      if (waiting) waiting.push(message);
      worker.postMessage(message);
    };
  } catch {
    here();
  }
}

function send(message, progress = () => {}) { // resolves with the last answer
  const id = ++count;
  return new Promise((resolve, reject) => {
    answers.set(id, (answer) => {
      if (answer.kind === "start" || answer.kind === "step") return progress(answer);
      answers.delete(id);
      return answer.kind === "error" ? reject(new Error(answer.message)) : resolve(answer);
    });
    toWorker({ ...message, id });
  });
}

// ---- computing a choice ---------------------------------------------------------------------

let choice, own = null, view = null, shown = 0, timer, run = 0;

async function chosenImage(from) { // -> { x, label, notes }, or null
  const { shape } = MODELS.get(from.model);
  if (from.source === "file") return own && fitted(engine, await own.read(from.index), shape);
  const images = await loadImages(from.source);
  const image = { bytes: images.pixels[from.index], shape: images.shape,
                  label: images.labels[from.index],
                  notes: [`image ${from.index}, ${NOTES[images.name]}`] };
  return fitted(engine, image, shape);
}

function jobOf(from, image, start = null) {
  const eps = readEps(from.eps, from.model, from.norm), { classes } = MODELS.get(from.model);
  const target = from.target === "" ? null : classes.indexOf(from.target);
  return { model: from.model, evaluator: from.evaluator, x: image.x, label: image.label, start,
           attack: { norm: from.norm, eps, steps: from.steps, target } };
}

function notesOf(image, gradient) { // what a reader should know
  return [...image.notes,
          ...(image.label === null ? ["without a label: taken for what the model sees"] : []),
          ...(gradient.some((value) => value) ? [] : ["the gradient is exactly 0"])];
}

async function compute(from, progress) { // from: settled -> view; null: an image is missing
  const image = await chosenImage(from);
  if (!image) return null;
  await Promise.all([loadModel(from.model), loadModel(from.evaluator)]);
  const job = jobOf(from, image), { shape, classes } = MODELS.get(from.model);
  const made = { ...from, shape, classes, attack: job.attack, path: [job.x], seen: [], notes: [] };
  const done = await send({ kind: "explore", job }, (message) => {
    if (message.kind === "start") {
      const { label, gradient, cosine, edges, seconds } = message;
      Object.assign(made, { label, gradient, cosine, edges, gradientSeconds: seconds,
                            called: image.label === null, notes: notesOf(image, gradient) });
    } else {
      made.path.push(message.x);
    }
    made.seen.push(message.seen);
    progress(made);
  });
  return Object.assign(made, { seconds: done.seconds });
}

// ---- showing it -----------------------------------------------------------------------------

function setStatus(status) { byId("status").textContent = status; }

function setMessage(sentence) {
  byId("message").textContent = sentence;
  byId("message").hidden = !sentence;
}

function showWrong(error) {
  if (!(error instanceof UserError)) console.error(error);
  setMessage(error instanceof UserError ? error.message
    : `Something went wrong (${error.message}). Load the page anew; if it stays, ${NEWER}.`);
  setStatus(view ? "The results are those of the choice before." : "");
}

function showResults(there) {
  document.querySelectorAll(".result").forEach((part) => { part.hidden = !there; });
  byId("drop").classList.toggle("needed", !there && choice.source === "file");
}

function showStep(k) { // everything that depends on the step
  shown = Math.min(k, view.path.length - 1);
  byId("step").max = view.path.length - 1;
  byId("step").value = shown;
  byId("step-text").textContent = `${shown} of ${view.attack.eps ? view.attack.steps : 0}`;
  byId("tiles").replaceChildren(...tiles(view, shown));
  byId("probabilities").replaceChildren(...probabilityTable(view, shown));
}

function showView() { // once an attack is done
  byId("frames").replaceChildren(...stops(view.path.length - 1).map((k) => frame(k, view)));
  byId("measures").replaceChildren(...measureTable(view));
  byId("legend").textContent = `What the attacked model ${view.model} sees at each step, and ` +
    `what the evaluator ${view.evaluator} sees.`;
  byId("about-image").textContent = view.notes.join("; ");
  byId("link").href = address(choice);
  byId("python").textContent = python(choice);
}

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

function progressOf(mine) { // shows steps while they are computed
  return (made) => {
    if (mine !== run) return;
    view = made;
    showResults(true);
    if (!reducedMotion.matches || made.path.length === 1) showStep(made.path.length - 1);
  };
}

function bytesOf(from) { // what has yet to be loaded
  return [from.model, from.evaluator].filter((name) => !loading.has(name))
    .reduce((sum, name) => sum + MODELS.get(name).bytes, 0);
}

async function refresh() {
  const mine = ++run, from = choice, bytes = bytesOf(from);
  stopPlaying();
  setStatus(bytes ? `Loading ${from.model} and its evaluator, ${(bytes / 1e6).toFixed(1)} MB …`
    : "Computing …");
  try {
    const made = await compute(from, progressOf(mine));
    if (mine !== run) return;
    if (!made) return showMissing();
    view = made;
    showStep(view.path.length - 1);
    showView();
    setStatus(`${summary(view)} (gradient ${view.gradientSeconds.toFixed(2)} s, attack ` +
        `${view.seconds.toFixed(2)} s)`);
  } catch (error) {
    if (mine === run) showWrong(error);
  }
}

function showMissing() { // no image yet
  view = null;
  showResults(false);
  setStatus("Now choose an image of yours, or drop it on the page. CIFAR-10's own images may " +
    "not be passed on; its binary version (data_batch_1.bin … test_batch.bin) can be opened, too.");
}

// ---- controls -------------------------------------------------------------------------------

function options(id, values, names = (value) => value) {
  const list = byId(id), same = [...list.options].map((o) => o.value).join() === values.join();
  if (!same) {
    list.replaceChildren(...values.map((value) => element("option", { value }, names(value))));
  }
}

function modelOptions() {
  const groups = Object.keys(SOURCES).map((ladder) => element(
    "optgroup", { label: TITLES[ladder] }, ...[...MODELS.keys()]
      .filter((name) => ladderOf(name) === ladder)
      .map((name) => element("option", { value: name }, name))));
  byId("model").replaceChildren(...groups);
}

function aboutModel(name) {
  const { accuracy: [correct, total], arch } = MODELS.get(name);
  const kind = name.endsWith("/Natural") ? "trained on clean images"
    : `trained on images attacked within ε = ${name.split("AT-")[1]}` +
      (isColor(name) ? "/255 (FGSM)" : " (FGSM)");
  return `${kind}; ${arch}; accuracy ${(100 * correct / total).toFixed(1)} % of ` +
    `${total.toLocaleString("en")} clean test images`;
}

async function showThumbs(from) { // radio buttons that are images
  const box = byId("thumbs");
  box.hidden = from.source === "file";
  byId("number").hidden = !(from.source === "file" && own && own.count > 1);
  byId("index").value = from.index;
  if (own) byId("index").max = own.count - 1;
  if (box.hidden) return;
  if (box.dataset.source !== from.source) {
    box.dataset.source = from.source;
    const images = await loadImages(from.source);
    if (box.dataset.source !== from.source) return;
    box.replaceChildren(...images.pixels.map((bytes, k) => thumb(images, bytes, k)));
  }
  const picked = box.querySelector(`input[value="${choice.index}"]`);
  if (picked) picked.checked = true;
}

function thumb(images, bytes, k) {
  const canvas = element("canvas", { "aria-hidden": "true" });
  paint(canvas, engine.fromBytes(bytes), images.shape);
  const radio = element("input", { type: "radio", name: "index", value: k,
                                   "aria-label": `image ${k}, a ${images.labels[k]}` });
  return element("label", {}, radio, canvas);
}

function fill(from) { // let the controls say a choice
  options("evaluator", evaluators(from.model));
  options("source", SOURCES[ladderOf(from.model)], (name) => TITLES[name]);
  options("target", ["", ...MODELS.get(from.model).classes],
          (name) => (name ? `to class ${name}` : "away from the label"));
  for (const name of ["model", "evaluator", "source", "norm", "target"]) {
    byId(name).value = from[name];
  }
  const offered = radii(from.model, from.norm), at = offered.indexOf(from.eps);
  byId("eps").max = offered.length - 1;
  byId("eps").value = at >= 0 ? at : nearest(offered, from);
  byId("eps").setAttribute("aria-valuetext", from.eps);
  byId("eps-text").value = from.eps;
  byId("steps").max = Math.max(50, from.steps);
  byId("steps").value = from.steps;
  byId("steps-text").textContent = from.steps;
  byId("about-model").textContent = aboutModel(from.model);
  showThumbs(from).catch(showWrong);
}

function nearest(offered, { eps, model, norm }) {
  const away = (text) => Math.abs(readEps(text, model, norm) - readEps(eps, model, norm));
  return offered.reduce((best, text, k) => (away(text) < away(offered[best]) ? k : best), 0);
}

function choose(fields, delay = DELAY) { // or show what is wrong with the fields
  try {
    choice = settled(fields);
  } catch (error) {
    return showWrong(error);
  }
  setMessage("");
  fill(choice);
  try { history.replaceState(null, "", address(choice)); } catch { /* not in every frame */ }
  clearTimeout(timer);
  setStatus("Computing …");
  timer = setTimeout(refresh, delay);
  return undefined;
}

function changed(name, value) { // leave open what a change makes meaningless
  const fields = { ...choice, [name]: value }, ladder = ladderOf(fields.model);
  const other = ladder !== ladderOf(choice.model);
  if (other && isColor(fields.model) !== isColor(choice.model)) fields.eps = "";
  if (!SOURCES[ladder].includes(fields.source)) [fields.source, fields.index] = ["", 0];
  if (name === "source") fields.index = 0;
  if (!evaluators(fields.model).includes(fields.evaluator)) fields.evaluator = "";
  if (!MODELS.get(fields.model).classes.includes(fields.target)) fields.target = "";
  if (name === "norm") fields.eps = "";
  choose(fields);
}

async function takeFile(file) {
  try {
    own = await openFile(file);
    const fields = { ...choice, source: "file", index: 0 };
    byId("drop").firstChild.textContent = `Your image: ${own.name} `;
    choose(fields);
  } catch (error) {
    showWrong(error);
  }
}

// ---- playing the path -----------------------------------------------------------------------

let player = null;

function stopPlaying() {
  clearInterval(player);
  player = null;
  byId("play").textContent = "Play";
}

function play() {
  if (player) return stopPlaying();
  if (!view) return undefined;
  showStep(shown === view.path.length - 1 ? 0 : shown);
  byId("play").textContent = "Pause";
  player = setInterval(() => {
    if (shown >= view.path.length - 1) return stopPlaying();
    return showStep(shown + 1);
  }, 250);
  return undefined;
}

// ---- events ---------------------------------------------------------------------------------

function listen() {
  for (const name of ["model", "evaluator", "source", "norm", "target"]) {
    byId(name).addEventListener("change", (event) => changed(name, event.target.value));
  }
  byId("eps").addEventListener("input", (event) =>
    changed("eps", radii(choice.model, choice.norm)[event.target.value]));
  byId("eps-text").addEventListener("change", (event) => changed("eps", event.target.value));
  byId("steps").addEventListener("input", (event) => changed("steps", Number(event.target.value)));
  byId("index").addEventListener("change", (event) => changed("index", event.target.value));
  byId("thumbs").addEventListener("change", (event) => changed("index", event.target.value));
  byId("step").addEventListener("input", (event) => {
    stopPlaying();
    showStep(Number(event.target.value));
  });
  byId("play").addEventListener("click", play);
  byId("file").addEventListener("change", (event) => {
    if (event.target.files[0]) takeFile(event.target.files[0]);
  });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address holds the choice
    byId("model").focus();
  });
  byId("copy").addEventListener("click", copyLink);
  addEventListener("hashchange", () => choose(readAddress(), 0));
  listenToDrops();
}

function listenToDrops() {
  for (const kind of ["dragover", "dragleave", "drop"]) {
    addEventListener(kind, (event) => {
      event.preventDefault();
      byId("drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) takeFile(event.dataTransfer.files[0]);
    });
  }
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText(byId("link").href);
    byId("copied").textContent = "Copied.";
  } catch {
    byId("copied").textContent = "The browser does not let the page copy: copy the address.";
  }
}

function start() {
  const missing = ["DecompressionStream", "createImageBitmap", "Blob", "URLSearchParams"]
    .filter((name) => typeof self[name] === "undefined");
  if (missing.length) {
    setStatus("");
    return setMessage(`This browser lacks ${missing.join(", ")}: ${NEWER}.`);
  }
  startWorker();
  modelOptions();
  byId("sources").textContent = "Images: " +
    [...SETS.values()].map((images) => `${TITLES[images.name]}: ${images.license}`).join(" · ");
  const tries = TRIES.flatMap(([words, fields]) =>
    [" · ", element("a", { href: address(fields) }, words)]);
  byId("tries").append("Try: ", ...tries.slice(1));
  listen();
  try {
    return choose(settled(readAddress()), 0);
  } catch (error) { // an address with a mistake: say so, and show what there is without it
    choose({}, 0);
    return setMessage(`${error.message} Shown is the first view instead.`);
  }
}

start();
