/* The networks of pag_companion in the browser: forward pass, gradient with respect to the image,
   PGD, measures of alignment. No library, one image at a time.

   All numbers are float64. In float32 a gradient can vanish where a model is sure, and the order
   of a sum decides its sign; in float64 the results are PyTorch's to 1e-9 (test_page_browser.py).

   An image is a Float64Array in [0, 1], channel by channel, row by row; a feature map is
   { c, h, w, data }. A layer has forward(map) and backward(gradient of its output), which gives
   the gradient of its input and may be called after forward only.

   Everything is inside one function, so that its text can also start a worker: a page opened from
   a folder may not load a worker from a file. */
function pagEngine() {
  "use strict";

  const map = (c, h, w, data) => ({ c, h, w, data: data || new Float64Array(c * h * w) });
  const like = (x, data) => map(x.c, x.h, x.w, data);

  // ---- matrices -------------------------------------------------------------------------------
  // A matrix that is multiplied lies in panels of four rows (or columns), padded with zeros:
  // panel p holds, for each k, the four numbers 4p ... 4p+3.

  const up4 = (n) => (n + 3) & ~3;

  function pack(values, rows, cols, transposed) { // rows × cols -> panels of rows (or columns)
    const n = transposed ? cols : rows, depth = transposed ? rows : cols;
    const packed = new Float64Array(up4(n) * depth);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < cols; c++) {
        const i = transposed ? c : r, k = transposed ? r : c;
        packed[(i >> 2) * depth * 4 + k * 4 + (i & 3)] = values[r * cols + c];
      }
    }
    return packed;
  }

  function tile(A, i0, B, j0, depth, out, o, stride) { // 4 × 4 numbers of a product
    let c00 = 0, c01 = 0, c02 = 0, c03 = 0, c10 = 0, c11 = 0, c12 = 0, c13 = 0;
    let c20 = 0, c21 = 0, c22 = 0, c23 = 0, c30 = 0, c31 = 0, c32 = 0, c33 = 0;
    const end = i0 + 4 * depth;
    for (let i = i0, j = j0; i < end; i += 4, j += 4) {
      const a0 = A[i], a1 = A[i + 1], a2 = A[i + 2], a3 = A[i + 3];
      const b0 = B[j], b1 = B[j + 1], b2 = B[j + 2], b3 = B[j + 3];
      c00 += a0 * b0; c01 += a0 * b1; c02 += a0 * b2; c03 += a0 * b3;
      c10 += a1 * b0; c11 += a1 * b1; c12 += a1 * b2; c13 += a1 * b3;
      c20 += a2 * b0; c21 += a2 * b1; c22 += a2 * b2; c23 += a2 * b3;
      c30 += a3 * b0; c31 += a3 * b1; c32 += a3 * b2; c33 += a3 * b3;
    }
    out[o] = c00; out[o + 1] = c01; out[o + 2] = c02; out[o + 3] = c03; o += stride;
    out[o] = c10; out[o + 1] = c11; out[o + 2] = c12; out[o + 3] = c13; o += stride;
    out[o] = c20; out[o + 1] = c21; out[o + 2] = c22; out[o + 3] = c23; o += stride;
    out[o] = c30; out[o + 1] = c31; out[o + 2] = c32; out[o + 3] = c33;
  }

  function product(a, b, rows, depth, cols) { // of packed matrices -> rows × up4(cols)
    const wide = up4(cols), out = new Float64Array(up4(rows) * wide);
    for (let n = 0; n < wide; n += 4) {
      for (let m = 0; m < rows; m += 4) {
        tile(a, m * depth, b, n * depth, depth, out, m * wide + n, wide);
      }
    }
    return out;
  }

  // ---- layers ---------------------------------------------------------------------------------

  function windows(x, size, stride, pad) { // where a convolution looks
    const h = (x.h + 2 * pad - size) / stride + 1 | 0, w = (x.w + 2 * pad - size) / stride + 1 | 0;
    const wide = x.w + 2 * pad, area = (x.h + 2 * pad) * wide, depth = x.c * size * size;
    const offsets = new Int32Array(depth), starts = new Int32Array(h * w);
    for (let k = 0; k < depth; k++) {
      const c = k / (size * size) | 0, inside = k % (size * size);
      offsets[k] = c * area + (inside / size | 0) * wide + inside % size;
    }
    for (let n = 0; n < h * w; n++) starts[n] = (n / w | 0) * stride * wide + (n % w) * stride;
    return { h, w, wide, area, depth, offsets, starts, pad };
  }

  function padded(x, look) { // with a border of zeros
    const data = new Float64Array(x.c * look.area);
    for (let row = 0; row < x.c * x.h; row++) {
      const c = row / x.h | 0, to = c * look.area + (row % x.h + look.pad) * look.wide + look.pad;
      data.set(x.data.subarray(row * x.w, (row + 1) * x.w), to);
    }
    return data;
  }

  function cropped(data, x, look) { // without that border
    const out = like(x);
    for (let row = 0; row < x.c * x.h; row++) {
      const c = row / x.h | 0, from = c * look.area + (row % x.h + look.pad) * look.wide + look.pad;
      out.data.set(data.subarray(from, from + x.w), row * x.w);
    }
    return out;
  }

  function columns(data, look) { // every window a column, in panels
    const { depth, offsets, starts } = look, n = starts.length;
    const packed = new Float64Array(up4(n) * depth);
    for (let p = 0, i = 0; p < n; p += 4) {
      for (let k = 0; k < depth; k++, i += 4) {
        const o = offsets[k];
        for (let lane = 0; lane < 4 && p + lane < n; lane++) {
          packed[i + lane] = data[o + starts[p + lane]];
        }
      }
    }
    return packed;
  }

  function gathered(grads, look, size) { // columns added up where they came from
    const { depth, offsets, starts } = look, wide = up4(starts.length);
    const data = new Float64Array(size);
    for (let k = 0; k < depth; k++) {
      for (let n = 0; n < starts.length; n++) data[offsets[k] + starts[n]] += grads[k * wide + n];
    }
    return data;
  }

  function trimmed(data, rows, cols) { // without the padding of `product`
    const wide = up4(cols);
    if (wide === cols) return data.subarray(0, rows * cols);
    const out = new Float64Array(rows * cols);
    for (let r = 0; r < rows; r++) out.set(data.subarray(r * wide, r * wide + cols), r * cols);
    return out;
  }

  function conv(weight, bias, size, stride, pad) {
    const { rows, cols, data } = weight;
    const ahead = pack(data, rows, cols, false), back = pack(data, rows, cols, true);
    let input, look;
    return {
      forward(x) {
        if (x.c * size * size !== cols) throw new Error(`a convolution expects ${cols} inputs`);
        if (!look || input.h !== x.h || input.w !== x.w) look = windows(x, size, stride, pad);
        input = x;
        const n = look.h * look.w, b = columns(padded(x, look), look);
        const out = map(rows, look.h, look.w, trimmed(product(ahead, b, rows, cols, n), rows, n));
        if (bias) out.data.forEach((value, i) => { out.data[i] = value + bias.data[i / n | 0]; });
        return out;
      },
      backward(g) {
        const n = g.h * g.w, grads = product(back, pack(g.data, rows, n, true), cols, rows, n);
        return cropped(gathered(grads, look, input.c * look.area), input, look);
      },
    };
  }

  function affine(scale, shift) { // a number each a channel: normalization, BatchNorm
    const apply = (x, f) => {
      const out = like(x), n = x.h * x.w;
      for (let i = 0; i < out.data.length; i++) out.data[i] = f(x.data[i], i / n | 0);
      return out;
    };
    return {
      forward: (x) => apply(x, (value, c) => value * scale[c] + shift[c]),
      backward: (g) => apply(g, (value, c) => value * scale[c]),
    };
  }

  function batchNorm(t, name) { // folded into one factor and one summand a channel
    const [gamma, beta, mean, variance] = ["weight", "bias", "running_mean", "running_var"]
      .map((part) => t[`${name}.${part}`].data);
    const scale = Float64Array.from(gamma, (g, c) => g / Math.sqrt(variance[c] + 1e-5));
    return affine(scale, Float64Array.from(beta, (b, c) => b - mean[c] * scale[c]));
  }

  function relu() {
    let out;
    return {
      forward(x) { out = like(x, x.data.map((value) => (value > 0 ? value : 0))); return out; },
      backward: (g) => like(g, g.data.map((value, i) => (out.data[i] > 0 ? value : 0))),
    };
  }

  function maxPool() { // 2 × 2; of equal numbers the first in reading order counts, as in torch
    let from, input;
    return {
      forward(x) {
        const out = map(x.c, x.h >> 1, x.w >> 1);
        [input, from] = [x, new Int32Array(out.data.length)];
        for (let i = 0; i < from.length; i++) {
          const row = i / out.w | 0, c = row / out.h | 0;
          const first = c * x.h * x.w + (row % out.h) * 2 * x.w + (i % out.w) * 2;
          let best = first;
          for (const j of [first + 1, first + x.w, first + x.w + 1]) {
            if (x.data[j] > x.data[best]) best = j;
          }
          [out.data[i], from[i]] = [x.data[best], best];
        }
        return out;
      },
      backward(g) {
        const out = like(input);
        g.data.forEach((value, i) => { out.data[from[i]] += value; });
        return out;
      },
    };
  }

  function globalPool(kind) { // "max" shares the gradient among equal numbers, as torch's amax
    let input, top;
    const channel = (x, c) => x.data.subarray(c * x.h * x.w, (c + 1) * x.h * x.w);
    const reduce = { max: (a) => a.reduce((p, q) => Math.max(p, q)),
                     mean: (a) => a.reduce((p, q) => p + q) / a.length }[kind];
    return {
      forward(x) {
        input = x;
        top = Float64Array.from({ length: x.c }, (_, c) => reduce(channel(x, c)));
        return map(x.c, 1, 1, top);
      },
      backward(g) {
        const out = like(input);
        for (let c = 0; c < input.c; c++) {
          const values = channel(input, c), counts = (v) => kind === "mean" || v === top[c];
          const share = g.data[c] / values.filter(counts).length;
          values.forEach((v, i) => { if (counts(v)) out.data[c * values.length + i] = share; });
        }
        return out;
      },
    };
  }

  function linear(weight, bias) { // from a map, flattened
    const { rows, cols, data } = weight;
    let input;
    return {
      forward(x) {
        if (x.data.length !== cols) throw new Error(`a linear layer expects ${cols} inputs`);
        input = x;
        const out = map(rows, 1, 1);
        for (let r = 0; r < rows; r++) {
          let sum = 0;
          for (let c = 0, i = r * cols; c < cols; c++, i++) sum += data[i] * x.data[c];
          out.data[r] = sum + bias.data[r];
        }
        return out;
      },
      backward(g) {
        const out = like(input);
        for (let r = 0; r < rows; r++) {
          const value = g.data[r];
          for (let c = 0, i = r * cols; value && c < cols; c++, i++) out.data[c] += value * data[i];
        }
        return out;
      },
    };
  }

  function chain(layers) {
    return {
      forward: (x) => layers.reduce((value, layer) => layer.forward(value), x),
      backward: (g) => layers.reduceRight((value, layer) => layer.backward(value), g),
    };
  }

  const sum = (x, y) => like(x, x.data.map((value, i) => value + y.data[i]));

  function residual(first, body, shortcut) { // WideBlock of models.py
    return {
      forward(x) {
        const active = first.forward(x);
        return sum(body.forward(active), shortcut ? shortcut.forward(active) : x);
      },
      backward(g) {
        const inner = body.backward(g);
        if (!shortcut) return sum(first.backward(inner), g);
        return first.backward(sum(inner, shortcut.backward(g)));
      },
    };
  }

  // ---- networks: the same names and order as models.py ----------------------------------------

  function layersOf(t) { // t: name -> tensor; t[...] of a missing bias is undefined
    return {
      conv: (name, size = 3, stride = 1) =>
        conv(t[`${name}.weight`], t[`${name}.bias`], size, stride, size >> 1),
      bn: (name) => batchNorm(t, name),
      linear: (name) => linear(t[`${name}.weight`], t[`${name}.bias`]),
    };
  }

  function madryCNN(t) {
    const make = layersOf(t);
    return [make.conv("network.conv1", 5), maxPool(), relu(),
            make.conv("network.conv2", 5), maxPool(), relu(),
            make.linear("network.hidden"), relu(), make.linear("network.fc")];
  }

  function fastCNN(t) {
    const make = layersOf(t), layers = [make.conv("network.conv1"), relu()];
    for (let k = 0; t[`network.stages.${k}.conv1.weight`]; k++) {
      const stage = `network.stages.${k}`;
      layers.push(make.conv(`${stage}.conv1`), maxPool(), make.bn(`${stage}.bn1`), relu(),
                  make.conv(`${stage}.conv2`), make.bn(`${stage}.bn2`), relu());
    }
    return [...layers, globalPool("max"), make.linear("network.fc")];
  }

  function wideBlock(t, name, stride) {
    const make = layersOf(t), wide = t[`${name}.shortcut.weight`];
    const body = [make.conv(`${name}.conv1`, 3, stride), make.bn(`${name}.bn2`), relu(),
                  make.conv(`${name}.conv2`)];
    return residual(chain([make.bn(`${name}.bn1`), relu()]), chain(body),
                    wide && make.conv(`${name}.shortcut`, 1, stride));
  }

  function wideResNet(t, arch) {
    const make = layersOf(t), blocks = (Number(arch.split("-")[1]) - 4) / 6;
    const layers = [make.conv("network.conv1")];
    for (let k = 0; k < 3 * blocks; k++) {
      const halves = k >= blocks && k % blocks === 0;
      layers.push(wideBlock(t, `network.blocks.${k}`, halves ? 2 : 1));
    }
    return [...layers, make.bn("network.bn"), relu(), globalPool("mean"),
            make.linear("network.fc")];
  }

  const ARCHITECTURES = { madry_cnn: madryCNN, fast: fastCNN, wrn: wideResNet };

  function network(arch, t) { // all layers, normalization first
    const make = ARCHITECTURES[arch] || ARCHITECTURES[arch.split("-")[0]];
    if (!make) throw new Error(`the architecture ${arch} is not known to this page`);
    const mean = t["normalize.mean"], std = t["normalize.std"];
    const shifts = mean && affine(Float64Array.from(std.data, (s) => 1 / s),
                                  Float64Array.from(mean.data, (m, c) => -m / std.data[c]));
    return chain([...(mean ? [shifts] : []), ...make(t, arch)]);
  }

  // ---- models: [0, 1] -> logits ---------------------------------------------------------------

  function softmax(logits) {
    const top = logits.reduce((p, q) => Math.max(p, q));
    const rest = Math.log(logits.reduce((total, z) => total + Math.exp(z - top), 0));
    return logits.map((z) => Math.exp(z - top - rest));
  }

  function model(file) { // as `readModel` gives it
    const layers = network(file.arch, file.tensors), [c, h, w] = file.shape;
    const logits = (x) => layers.forward(map(c, h, w, x)).data;
    const gradient = (x, y) => { // of the cross-entropy at label y, with respect to the image
      const seen = softmax(logits(x)), g = seen.map((p, k) => (k === y ? p - 1 : p));
      return { probabilities: seen, gradient: layers.backward(map(g.length, 1, 1, g)).data };
    };
    return { name: file.name, shape: file.shape, logits, gradient,
             probabilities: (x) => softmax(logits(x)) };
  }

  // ---- attacks: attacks.py --------------------------------------------------------------------

  const length = (values) => Math.sqrt(values.reduce((total, v) => total + v * v, 0)) || 1e-300;

  function moved(x, g, size, norm) { // one step of this size uphill
    if (norm === "linf") return x.map((value, i) => value + size * Math.sign(g[i]));
    const most = g.reduce((p, q) => Math.max(p, Math.abs(q)), 0) || 1e-300;
    const scaled = g.map((value) => value / most), long = length(scaled);
    return x.map((value, i) => value + size * scaled[i] / long);
  }

  function projected(x, center, eps, norm) { // to the ball around the image, then to [0, 1]
    const delta = x.map((value, i) => value - center[i]);
    const factor = norm === "linf" ? 1 : Math.min(eps / length(delta), 1);
    const cut = (d) => (norm === "linf" ? Math.min(Math.max(d, -eps), eps) : d * factor);
    return delta.map((d, i) => Math.min(Math.max(center[i] + cut(d), 0), 1));
  }

  // One step of PGD. attack: { norm, eps, steps, label, targeted }; each step has 2.5 eps / steps.
  function step(net, x, center, attack) {
    const size = (attack.targeted ? -1 : 1) * 2.5 * attack.eps / attack.steps;
    const { gradient } = net.gradient(x, attack.label);
    return projected(moved(x, gradient, size, attack.norm), center, attack.eps, attack.norm);
  }

  function started(center, noise) { // where a random initialization leads
    return center.map((value, i) => Math.min(Math.max(value + noise[i], 0), 1));
  }

  function pgd(net, center, attack, noise) { // noise: to begin with, or none
    let x = noise ? started(center, noise) : center;
    for (let k = 0; k < attack.steps && attack.eps > 0; k++) x = step(net, x, center, attack);
    return x;
  }

  // ---- measures: gradients.py, alignment.py ---------------------------------------------------

  function centered(x, channels) { // each channel's mean taken out
    const n = x.length / channels, out = Float64Array.from(x);
    for (let c = 0; c < channels; c++) {
      const part = out.subarray(c * n, (c + 1) * n), mean = part.reduce((p, q) => p + q) / n;
      part.forEach((value, i) => { part[i] = value - mean; });
    }
    return out;
  }

  const dot = (a, b) => a.reduce((total, value, i) => total + value * b[i], 0);
  const cosine = (a, b) => dot(a, b) / (length(a) * length(b));

  function signedCosine(x, g, [c]) { // how far -g points where the image does
    return cosine(centered(x, c), centered(g, c).map((value) => -value));
  }

  function channelSum(x, [c, h, w], f) {
    const out = new Float64Array(h * w);
    for (let i = 0; i < c * h * w; i++) out[i % (h * w)] += f(x[i]);
    return out;
  }

  function edges(x, shape) { // Sobel magnitude of the mean over channels, border repeated
    const [c, h, w] = shape, gray = channelSum(x, shape, (value) => value / c);
    const within = (k, side) => Math.min(Math.max(k, 0), side - 1);
    const at = (y, z) => gray[within(y, h) * w + within(z, w)];
    const slope = (y, z, turn) => [-1, 0, 1].reduce((total, k) => total + (2 - Math.abs(k)) * (
      turn ? at(y + 1, z + k) - at(y - 1, z + k) : at(y + k, z + 1) - at(y + k, z - 1)), 0);
    return Float64Array.from(gray, (_, i) => {
      const y = i / w | 0, z = i % w;
      return Math.hypot(slope(y, z, false), slope(y, z, true));
    });
  }

  function standardized(values) { // mean 0; 0 where a map is flat
    const out = centered(values, 1), most = (a) => a.reduce((p, q) => Math.max(p, Math.abs(q)), 0);
    return most(out) > 1e-9 * most(values) ? out : out.fill(0);
  }

  function edgeCorrelation(x, g, shape) { // is the gradient strong at the image's outlines?
    return cosine(standardized(channelSum(g, shape, Math.abs)), standardized(edges(x, shape)));
  }

  // ---- images ---------------------------------------------------------------------------------

  const fromBytes = (bytes) => Float64Array.from(bytes, (b) => Math.fround(b / 255));

  function rounded(value) { // to a whole number, halves to the even one, as torch does
    const low = Math.floor(value), rest = value - low;
    return rest === 0.5 ? low + (low & 1) : Math.round(value);
  }

  function triangle(from, to) { // weights of bilinear resampling with antialiasing, a row a pixel
    const scale = from / to, reach = Math.max(scale, 1);
    return Array.from({ length: to }, (_, i) => {
      const middle = (i + 0.5) * scale, first = Math.max(Math.trunc(middle - reach + 0.5), 0);
      const last = Math.min(Math.trunc(middle + reach + 0.5), from);
      const raw = Array.from({ length: last - first }, (__, j) =>
        Math.max(1 - Math.abs(j + first - middle + 0.5) / reach, 0));
      const total = raw.reduce((p, q) => p + q, 0);
      return { first, weights: raw.map((value) => value / total) };
    });
  }

  function resampled(bytes, [c, h, w], [channels, height, width]) { // bytes -> bytes, data.py
    let planes = Array.from({ length: c }, (_, k) =>
      Float64Array.from(bytes.subarray(k * h * w, (k + 1) * h * w), (b) => b / 255));
    if (c > channels) {
      const [r, g, b] = planes;
      planes = [r.map((value, i) => 0.299 * value + 0.587 * g[i] + 0.114 * b[i])];
    }
    const across = triangle(w, width), down = triangle(h, height);
    const out = new Uint8Array(channels * height * width);
    planes.forEach((plane, k) => {
      const wide = new Float64Array(h * width);
      wide.forEach((_, i) => {
        const { first, weights } = across[i % width], row = (i / width | 0) * w + first;
        wide[i] = weights.reduce((total, weight, j) => total + weight * plane[row + j], 0);
      });
      for (let i = 0; i < height * width; i++) {
        const { first, weights } = down[i / width | 0];
        const value = weights.reduce((total, weight, j) =>
          total + weight * wide[(first + j) * width + i % width], 0);
        out[k * height * width + i] = rounded(Math.min(Math.max(value, 0), 1) * 255);
      }
    });
    const area = height * width;
    for (let k = planes.length; k < channels; k++) out.copyWithin(k * area, 0, area);
    return out;
  }

  // ---- files ----------------------------------------------------------------------------------
  // A page in a folder cannot read binary files, only scripts. In them bytes are text: seven bits
  // a character; five characters that a JavaScript string does not take have others instead.

  const SPARE = [0, 10, 13, 34, 92]; // are written as the characters 160 ... 164

  function textBytes(text, count) {
    const bytes = new Uint8Array(count);
    let bits = 0, held = 0, at = 0;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      held = (held << 7 | (code < 128 ? code : SPARE[code - 160])) & 0x7fff;
      bits += 7;
      if (bits >= 8) { bits -= 8; bytes[at++] = held >> bits & 255; }
    }
    if (at < count) throw new Error("the file ends too early");
    return bytes;
  }

  async function inflated(text, count) { // count: of the packed bytes
    const stream = new Blob([textBytes(text, count)]).stream();
    const plain = stream.pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(plain).arrayBuffer());
  }

  async function readModel(head, text) { // head: { name, arch, shape, packed, tensors, ... }
    const bytes = await inflated(text, head.packed), tensors = {};
    let at = 0;
    const take = (count) => { at += count; return bytes.slice(at - count, at); };
    const floats = (count) => new Float32Array(take(4 * count).buffer);
    for (const { name, rows, cols, bits } of head.tensors) {
      const data = bits === 32 ? floats(rows * cols) : unrounded(take, floats, rows, cols, bits);
      if (!data.every(Number.isFinite)) throw new Error(`${name} holds NaN or infinity`);
      tensors[name] = { rows, cols, data };
    }
    if (at !== bytes.length) throw new Error("the file holds other tensors than it lists");
    return { ...head, tensors };
  }

  // Rows of codes with a scale each, weights.py. The rows lie in an order in which they pack well.
  function unrounded(take, floats, rows, cols, bits) {
    const order = new Uint16Array(take(2 * rows).buffer), scale = floats(rows);
    const codes = take(rows * cols), data = new Float32Array(rows * cols);
    const zero = 2 ** (bits - 1) - 1;
    order.forEach((row, r) => {
      const to = row * cols, from = r * cols;
      for (let c = 0; c < cols; c++) data[to + c] = (codes[from + c] - zero) * scale[row];
    });
    return data;
  }

  return { model, readModel, inflated, textBytes, softmax, step, started, pgd,
           signedCosine, edgeCorrelation, fromBytes, resampled,
           layers: { conv, affine, relu, maxPool, globalPool, linear, map } };
}

if (typeof module !== "undefined") module.exports = pagEngine();
