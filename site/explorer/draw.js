/* What is drawn: images, gradients, frames, tables. Nothing here knows how it was computed. */
"use strict";

const byId = (id) => document.getElementById(id);
const percent = (p) => `${Math.round(100 * p)}\u00a0%`;
const decimal = (value, digits) => value.toFixed(digits).replace("-", "−");

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function paint(canvas, x, [c, h, w]) { // x in [0, 1], channel by channel
  [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d"), pixels = context.createImageData(w, h), area = h * w;
  for (let i = 0; i < area; i++) {
    for (let k = 0; k < 3; k++) pixels.data[4 * i + k] = 255 * x[(c === 3 ? k * area : 0) + i];
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

// gradients.py, gradient_picture: cut at three standard deviations; gray images get blue for
// positive, red for negative, white for zero.
const POSITIVE = [0, 114, 178], NEGATIVE = [213, 94, 0];

function gradientImage(g, [c, h, w]) { // -> [x, shape] for `paint`
  const mean = g.reduce((p, q) => p + q, 0) / g.length;
  const spread = Math.sqrt(g.reduce((p, q) => p + (q - mean) ** 2, 0) / g.length) || 1e-300;
  const depth = Float64Array.from(g, (v) => Math.min(Math.max(v / (3 * spread), -1), 1));
  if (c === 3) return [depth.map((v) => (1 + v) / 2), [c, h, w]];
  const color = (v, k) => 1 + Math.abs(v) * ((v > 0 ? POSITIVE : NEGATIVE)[k] / 255 - 1);
  const x = new Float64Array(3 * h * w);
  for (let k = 0; k < 3; k++) depth.forEach((v, i) => { x[k * h * w + i] = color(v, k); });
  return [x, [3, h, w]];
}

function figure(title, lines, [x, shape]) { // lines: [text, class] each
  const words = [title, ...lines.map(([text]) => text).filter(Boolean)].join(", ");
  const canvas = element("canvas", { role: "img", "aria-label": words });
  paint(canvas, x, shape);
  const below = lines.map(([text, kind]) => element("div", kind ? { class: kind } : {}, text));
  return element("figure", {}, canvas,
                 element("figcaption", { "aria-hidden": "true" },
                         element("b", {}, title), ...below));
}

const best = (probabilities) => probabilities.indexOf(Math.max(...probabilities));

function sure(probabilities, classes) { // "3 (98 %)"
  const k = best(probabilities);
  return `${classes[k]}\u00a0(${percent(probabilities[k])})`;
}

function agreement(seen, label) { // class and words for what the evaluator sees
  const [ours, theirs] = [best(seen.model), best(seen.evaluator)];
  if (theirs === label) return ["unchanged", "still the label"];
  return theirs === ours ? ["agrees", "agrees"] : ["differs", "sees another class"];
}

function frame(k, view) { // a step of the path, and what the two models see
  const seen = view.seen[k], [kind, words] = agreement(seen, view.label);
  const lines = [[`model: ${sure(seen.model, view.classes)}`, ""],
                 [`evaluator: ${sure(seen.evaluator, view.classes)}`, kind], [words, kind]];
  return figure(`step ${k}`, lines, [view.path[k], view.shape]);
}

function stops(last, most = 6) { // steps that are shown as frames
  const all = Array.from({ length: most }, (_, k) => Math.round(last * k / (most - 1)));
  return [...new Set(all)];
}

function labelled({ classes, label, called }) { // called: by the model, for want of a label
  return called ? `taken for ${classes[label]}` : `label: ${classes[label]}`;
}

function tiles(view, k) {
  const { shape, classes, label, attack } = view, sees = (who) => sure(view.seen[k][who], classes);
  const change = view.path[k].map((value, i) => value - view.path[0][i]);
  const goal = attack.target === null ? `away from ${classes[label]}`
    : `towards ${classes[attack.target]}`;
  const still = change.every((value) => value === 0);
  const colors = shape[0] === 3 ? "" : "blue brighter, orange darker";
  const gradient = view.gradient.map((v) => -v);
  return [
    figure("Image", [[labelled(view), ""]], [view.path[0], shape]),
    figure("−Input gradient", [[`of ${view.model}`, ""],
      [`what would make ${classes[label]} more likely`, "more"], [colors, "more"]],
           gradientImage(gradient, shape)),
    figure(`Attacked, step ${k}`, [[`model: ${sees("model")}`, ""],
      [`evaluator: ${sees("evaluator")}`, ""]], [view.path[k], shape]),
    figure("Change", [[still ? "none" : goal, ""], [still ? "" : colors, "more"]],
           gradientImage(change, shape))];
}

function bar(p, kind) {
  return element("td", { class: `bar ${kind}`, style: `--share: ${(100 * p).toFixed(1)}%` },
                 percent(p));
}

function probabilityTable(view, k) {
  const head = (text, span, scope) => element("th", { colspan: span, scope }, text);
  const top = element("tr", {}, element("td"), head(view.model, 2, "colgroup"),
                      head(`evaluator ${view.evaluator}`, 2, "colgroup"));
  const names = ["class", "image", `step ${k}`, "image", `step ${k}`];
  const second = element("tr", {}, ...names.map((name) => head(name, 1, "col")));
  const rows = view.classes.map((name, c) => element(
    "tr", {}, element("th", { scope: "row" }, name),
    ...["model", "evaluator"].flatMap((who) => [bar(view.seen[0][who][c], "before"),
                                               bar(view.seen[k][who][c], "after")])));
  return [element("thead", {}, top, second), element("tbody", {}, ...rows)];
}

function measureTable(view) {
  const lines = [["signed cosine of image and −gradient", view.cosine],
                 ["edge correlation of |gradient| and outlines", view.edges]];
  const head = ["measure", "value", "chance", "ceiling"].map((name) =>
    element("th", { scope: "col" }, name));
  const rows = lines.map(([name, value]) => element(
    "tr", {}, element("th", { scope: "row" }, name),
    ...[decimal(value, 3), "0", "1"].map((text) => element("td", {}, text))));
  return [element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)];
}

function summary(view) { // for those who do not see the images
  const last = view.path.length - 1, { classes, seen } = view;
  return `${labelled(view).replace(/^./, (first) => first.toUpperCase())}. ${view.model} sees ` +
    `${sure(seen[0].model, classes)}, and after the attack ${sure(seen[last].model, classes)}; ` +
    `the evaluator ${view.evaluator} sees ` +
    `${sure(seen[0].evaluator, classes)}, and then ${sure(seen[last].evaluator, classes)}. ` +
    `Signed cosine ${decimal(view.cosine, 2)}, edge correlation ${decimal(view.edges, 2)}.`;
}
