// THE resize and the steps after it, as preprocess.json says them: Pillow's antialiased bilinear filter on the picture's
// own pixels. The scaling that a browser's canvas does is another one, and a model that learnt from the first reads the
// second worse.

const BAND = 256; // rows that are read at once: a phone's picture as a whole is larger than some canvases may be
const BITS = 22; // of a weight's fraction; in whole numbers a half is rounded as Pillow rounds it
const HALF = 1 << (BITS - 1);

const LUMA = [19595, 38470, 7471]; // of red, green and blue, in 65536ths
const BINOMIAL = { 3: [1, 2, 1], 5: [1, 4, 6, 4, 1] }; // by a kernel's side

/**
 * A picture as the model takes it.
 * @param {ImageBitmap} bitmap upright, in its own size
 * @param {object} contract preprocess.json
 * @returns {{bytes: Uint8Array, frame: object}} RGB [S, S, 3], and where the picture lies on it: canvas = picture * scale
 *   + offset, all as shares (0 to 1)
 */
export function prepare(bitmap, contract) {
  const { bytes, frame } = resized(bitmap, contract);
  return { bytes: stepped(bytes, contract.input.shape[1], contract.preprocess), frame };
}

function resized(bitmap, contract) {
  const size = contract.input.shape[1];
  const { width, height } = bitmap;
  if (contract.resize === "stretch") {
    const bytes = resample(bitmap, [0, 0, width, height], size, size);
    return { bytes, frame: { scaleX: 1, scaleY: 1, offsetX: 0, offsetY: 0 } };
  }
  if (contract.resize === "crop") {
    const side = Math.min(width, height);
    const left = Math.floor((width - side) / 2);
    const top = Math.floor((height - side) / 2);
    const bytes = resample(bitmap, [left, top, left + side, top + side], size, size);
    return { bytes, frame: { scaleX: width / side, scaleY: height / side, offsetX: -left / side, offsetY: -top / side } };
  }
  if (contract.resize !== "letterbox") {
    throw new Error(`preprocess.json: resize is "${contract.resize}"; expected stretch, letterbox or crop`);
  }
  const ratio = size / Math.max(width, height);
  const innerWidth = Math.max(1, roundToEven(width * ratio));
  const innerHeight = Math.max(1, roundToEven(height * ratio));
  const left = Math.floor((size - innerWidth) / 2);
  const top = Math.floor((size - innerHeight) / 2);
  const inner = resample(bitmap, [0, 0, width, height], innerWidth, innerHeight);
  const bytes = new Uint8Array(size * size * 3);
  for (let i = 0; i < bytes.length; i++) bytes[i] = contract.fill[i % 3];
  for (let row = 0; row < innerHeight; row++) {
    const line = inner.subarray(row * innerWidth * 3, (row + 1) * innerWidth * 3);
    bytes.set(line, ((top + row) * size + left) * 3);
  }
  const frame = { scaleX: innerWidth / size, scaleY: innerHeight / size, offsetX: left / size, offsetY: top / size };
  return { bytes, frame };
}

/** RGB bytes of a canvas of `size` pixels a side after `steps`; beyond the canvas the pixels of its edge are repeated. */
function stepped(bytes, size, steps) {
  for (const { step, side } of steps) {
    if (step === "gray") bytes = grayed(bytes);
    else if (step === "gaussian") bytes = blurred(bytes, size, BINOMIAL[side]);
    else if (step === "median") bytes = medians(bytes, size);
    else throw new Error(`preprocess.json: step "${step}"; this page knows gray, gaussian and median`);
  }
  return bytes;
}

function grayed(bytes) {
  const gray = new Uint8Array(bytes.length);
  for (let i = 0; i < bytes.length; i += 3) {
    const luma = LUMA[0] * bytes[i] + LUMA[1] * bytes[i + 1] + LUMA[2] * bytes[i + 2];
    gray.fill((luma + 32768) >> 16, i, i + 3);
  }
  return gray;
}

function blurred(bytes, size, weights) {
  const reach = weights.length >> 1;
  const bits = 4 * reach; // the weights of a square add up to 16 or 256
  return around(bytes, size, reach, (square) => {
    let sum = 1 << (bits - 1);
    square.forEach((value, i) => {
      sum += weights[Math.trunc(i / weights.length)] * weights[i % weights.length] * value;
    });
    return sum >> bits;
  });
}

function medians(bytes, size) {
  return around(bytes, size, 1, (square) => square.sort()[4]);
}

/** Each byte of a canvas from the square of bytes around it, row by row, that reaches `reach` pixels to each side. */
function around(bytes, size, reach, made) {
  const inside = (place) => Math.min(size - 1, Math.max(0, place));
  const square = new Uint8Array((2 * reach + 1) ** 2);
  return Uint8Array.from(bytes, (_, at) => {
    const channel = at % 3;
    const column = Math.trunc(at / 3) % size;
    const row = Math.trunc(at / 3 / size);
    let i = 0;
    for (let y = -reach; y <= reach; y++) {
      const line = inside(row + y) * size;
      for (let x = -reach; x <= reach; x++) square[i++] = bytes[(line + inside(column + x)) * 3 + channel];
    }
    return made(square);
  });
}

/** The part `[left, top, right, bottom]` of a picture in `width` x `height` pixels: RGB, row by row. */
function resample(bitmap, [left, top, right, bottom], width, height) {
  const across = taps(bitmap.width, left, right, width);
  const down = taps(bitmap.height, top, bottom, height);
  const start = down[0].first;
  const end = down[height - 1].first + down[height - 1].weights.length;
  const narrow = new Uint8ClampedArray((end - start) * width * 3); // every row that counts, at its new width
  const pen = new OffscreenCanvas(bitmap.width, BAND).getContext("2d", { willReadFrequently: true });
  for (let y = start; y < end; y += BAND) {
    const rows = Math.min(BAND, end - y);
    pen.clearRect(0, 0, bitmap.width, BAND);
    pen.drawImage(bitmap, 0, y, bitmap.width, rows, 0, 0, bitmap.width, rows);
    const pixels = pen.getImageData(0, 0, bitmap.width, rows).data;
    for (let row = 0; row < rows; row++) {
      narrowed(pixels.subarray(row * bitmap.width * 4), across, narrow.subarray((y - start + row) * width * 3));
    }
  }
  const small = new Uint8ClampedArray(width * height * 3);
  const line = width * 3;
  down.forEach(({ first, weights }, row) => {
    for (let i = 0; i < line; i++) {
      let sum = HALF;
      let at = (first - start) * line + i;
      for (let k = 0; k < weights.length; k++, at += line) sum += weights[k] * narrow[at];
      small[row * line + i] = sum >> BITS;
    }
  });
  return small;
}

/** One row of RGBA pixels into one of RGB at its new width. */
function narrowed(pixels, across, out) {
  for (let column = 0; column < across.length; column++) {
    const { first, weights } = across[column];
    let red = HALF;
    let green = HALF;
    let blue = HALF;
    for (let k = 0, at = first * 4; k < weights.length; k++, at += 4) {
      red += weights[k] * pixels[at];
      green += weights[k] * pixels[at + 1];
      blue += weights[k] * pixels[at + 2];
    }
    out[column * 3] = red >> BITS;
    out[column * 3 + 1] = green >> BITS;
    out[column * 3 + 2] = blue >> BITS;
  }
}

/**
 * What each of `count` pixels takes of a line of `length`, of which `start` to `end` are wanted: a triangle around its
 * place, two pixels wide or, where the line shrinks, as wide as two new pixels. It may reach over the wanted part.
 */
function taps(length, start, end, count) {
  const scale = (end - start) / count;
  const reach = Math.max(scale, 1);
  return Array.from({ length: count }, (_, i) => {
    const centre = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(length, Math.trunc(centre + reach + 0.5));
    const weights = new Float64Array(last - first);
    let sum = 0;
    for (let k = 0; k < weights.length; k++) {
      weights[k] = Math.max(0, 1 - Math.abs(first + k + 0.5 - centre) / reach);
      sum += weights[k];
    }
    return { first, weights: Int32Array.from(weights, (weight) => Math.round((weight / sum) * (1 << BITS))) };
  });
}

/** Python's round: a half goes to the even neighbour. */
function roundToEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
