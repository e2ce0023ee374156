/* Images: those that come with the page, a reader's own file, and CIFAR-10's binary version. */
"use strict";

const MOST_BYTES = 64e6, MOST_PIXELS = 16e6; // of a reader's image
const RECORD = 3073; // bytes of a label and an image in CIFAR-10's binary version

class UserError extends Error {} // a sentence for the reader: what is wrong, and a way on

function refuse(sentence) { throw new UserError(sentence); }

async function openFile(file) { // -> { name, count, read(index) -> { bytes, shape, label, notes } }
  const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  if (file.size === 0) refuse(`${file.name} is empty: choose another file.`);
  if (/\.bin$/i.test(file.name)) return openBatch(file);
  if (head[0] === 0x80 || /^(data|test)_batch/.test(file.name)) {
    refuse(`${file.name} is CIFAR-10's Python version, or no image: take a PNG or JPEG, or ` +
           "data_batch_1.bin … test_batch.bin of cifar-10-binary.tar.gz.");
  }
  if (file.size > MOST_BYTES) {
    refuse(`${file.name} has ${Math.round(file.size / 1e6)} MB, ${MOST_BYTES / 1e6} are the ` +
           "most: save it smaller.");
  }
  const image = await decoded(file);
  return { name: file.name, count: 1, read: async () => image };
}

function openBatch(file) {
  if (file.size % RECORD) {
    refuse(`${file.name} is no file of CIFAR-10's binary version: its ${file.size} bytes are no ` +
           `multiple of ${RECORD}. Take data_batch_1.bin … test_batch.bin, or a PNG or JPEG.`);
  }
  const read = async (index) => {
    const part = file.slice(index * RECORD, (index + 1) * RECORD);
    const bytes = new Uint8Array(await part.arrayBuffer());
    if (bytes[0] > 9) refuse(`${file.name} has the label ${bytes[0]}: CIFAR-10 has 0 to 9.`);
    return { bytes: bytes.subarray(1), shape: [3, 32, 32], label: bytes[0], notes: [] };
  };
  return { name: file.name, count: file.size / RECORD, read };
}

async function decoded(file) { // the middle square, in full resolution
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    refuse(`${file.name} cannot be read as an image: choose a PNG or JPEG file.`);
  }
  const { width, height } = bitmap, side = Math.min(width, height);
  if (width * height > MOST_PIXELS) {
    refuse(`${file.name} has ${width}×${height} pixels, ${MOST_PIXELS / 1e6} million are the ` +
           "most: save it smaller.");
  }
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  canvas.width = canvas.height = side;
  context.drawImage(bitmap, (side - width) >> 1, (side - height) >> 1);
  const pixels = context.getImageData(0, 0, side, side).data;
  if (pixels.some((value, i) => i % 4 === 3 && value < 255)) {
    refuse(`${file.name} has transparent pixels, whose color is not known: put it on a ` +
           "background first.");
  }
  const notes = width === height ? []
    : [`the middle ${side}×${side} of ${width}×${height} pixels`];
  return { bytes: planes(pixels, side * side), shape: [3, side, side], label: null, notes };
}

function planes(pixels, area) { // RGBA, pixel by pixel -> RGB, channel by channel
  const bytes = new Uint8Array(3 * area);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) bytes[c * area + i] = pixels[4 * i + c];
  }
  return bytes;
}

function fitted(engine, image, shape) { // to a model's size and channels -> { x, bytes, notes }
  const same = image.shape.every((side, k) => side === shape[k]);
  const bytes = same ? image.bytes : engine.resampled(image.bytes, image.shape, shape);
  const change = `${image.shape.join("×")} to ${shape.join("×")}, bilinear`;
  return { x: engine.fromBytes(bytes), bytes, label: image.label,
           notes: same ? image.notes : [...image.notes, change] };
}
