// From a drawing or a stored image to the network's input. Images of bytes are stored as [row, column, channel]; float
// images as [channel, row, column], as the network takes them. The same in Python: vitlab/training/preprocess.py.

import { centerDrawing, plainDrawing, resample } from "./drawing.js";
import { luma } from "./numbers.js";

/** @import { Config } from "./config.js" */
/** @import { Normalised } from "./drawing.js" */
/** @import { Picture } from "./paper.js" */
/**
 * How a drawing was prepared; `placed` is the result [side, side, channels].
 * @typedef {Normalised & { side: number, channels: 1 | 3 }} Steps
 */

/**
 * Turns a drawing into an image like those that the model was trained on, whose side is `native`.
 * @param {Picture} drawing @param {Config} config @param {boolean} center @param {number} native
 * @returns {Steps}
 */
export function drawingSteps(drawing, config, center, native) {
  const { channels } = config;
  if (config.drawing !== null) {
    const steps = (center ? centerDrawing : plainDrawing)(drawing);
    const pixels = config.drawing === "mnist-drawing-dark" ? steps.placed.map((value) => 255 - value) : steps.placed;
    return { ...steps, placed: inChannels({ channels: 1, pixels }, channels), side: 28, channels };
  }
  return { inverted: false, box: null, scaled: null, reason: null, ...wholeImage(drawing, channels, native), channels };
}

/**
 * The bytes of an image in 1 channel or 3.
 * @param {Pick<Picture, "channels" | "pixels">} image @param {1 | 3} wanted
 */
function inChannels({ channels, pixels }, wanted) {
  if (channels === wanted) {
    return pixels;
  }
  const count = pixels.length / channels;
  if (wanted === 3) {
    return Uint8Array.from({ length: 3 * count }, (_, i) => pixels[Math.floor(i / 3)]);
  }
  return Uint8Array.from({ length: count }, (_, i) => luma(pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2]));
}

/**
 * An image for a model that does not normalise drawings. A square of at most the native side stays as it is. Others are
 * resized to that side with a filter that covers every pixel; `resizeBilinear` would see only a few of a large canvas.
 * @param {Picture} drawing @param {1 | 3} channels @param {number} side
 */
function wholeImage(drawing, channels, side) {
  const { width, height } = drawing;
  const pixels = inChannels(drawing, channels);
  if (width === height && width <= side) {
    return { placed: pixels, side: width };
  }
  const placed = new Uint8Array(side * side * channels);
  for (let c = 0; c < channels; c++) {
    const plane = pixels.filter((_, i) => i % channels === c);
    resample(plane, width, [0, 0, width, height], side, side).forEach((value, i) => {
      placed[i * channels + c] = Math.floor(value + 0.5);
    });
  }
  return { placed, side };
}

/**
 * Bytes [height, width, C] -> float [C, S, S] in 0..1 at the model's image_size: disturbances apply here, before a crop.
 * @param {Uint8Array} pixels @param {number} width @param {number} height @param {Config} config
 */
export function toUnit(pixels, width, height, config) {
  const { channels, model } = config;
  const image = new Float32Array(pixels.length);
  const count = width * height;
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < channels; c++) {
      image[c * count + i] = pixels[i * channels + c] / 255;
    }
  }
  return resizeBilinear(image, channels, width, height, model.image_size);
}

/**
 * [C, height, width] -> [C, size, size]: bilinear between pixel centres, without antialiasing, as torch's interpolate.
 * @param {Float32Array} image @param {number} channels @param {number} width @param {number} height
 * @param {number} size
 */
export function resizeBilinear(image, channels, width, height, size) {
  if (width === size && height === size) {
    return image;
  }
  const columns = between(width, size);
  const rows = between(height, size);
  const out = new Float32Array(channels * size * size);
  let at = 0;
  for (let c = 0; c < channels; c++) {
    for (const row of rows) {
      const above = (c * height + row.low) * width;
      const below = (c * height + row.high) * width;
      for (const { low, high, share } of columns) {
        const first = (1 - share) * image[above + low] + share * image[above + high];
        const second = (1 - share) * image[below + low] + share * image[below + high];
        out[at++] = (1 - row.share) * first + row.share * second;
      }
    }
  }
  return out;
}

/**
 * For each of `to` places, the two of `from` that it lies between, and how far it is on its way to the second.
 * @param {number} from @param {number} to
 */
function between(from, to) {
  return Array.from({ length: to }, (_, i) => {
    const place = Math.max(0, ((i + 0.5) * from) / to - 0.5);
    const low = Math.min(from - 1, Math.floor(place));
    return { low, high: Math.min(from - 1, low + 1), share: place - low };
  });
}

/**
 * The central square that the network takes, [C, S, S]; if the rest is odd, one more is cut at the right and bottom.
 * @param {Float32Array} image @param {Config} config
 */
export function cropped(image, config) {
  const { channels, model, preprocess } = config;
  const from = model.image_size;
  const to = preprocess.crop ?? from;
  if (to === from) {
    return image.slice();
  }
  const first = Math.floor((from - to) / 2);
  const out = new Float32Array(channels * to * to);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < to; y++) {
      const start = (c * from + first + y) * from + first;
      out.set(image.subarray(start, start + to), (c * to + y) * to);
    }
  }
  return out;
}

/**
 * Subtracts the mean and divides by the standard deviation of each channel, in place: [C, S, S].
 * @param {Float32Array} image @param {Config} config
 */
export function normalised(image, config) {
  const { mean, std } = config.preprocess;
  const count = image.length / config.channels;
  for (let i = 0; i < image.length; i++) {
    const c = Math.floor(i / count);
    image[i] = (image[i] - mean[c]) / std[c];
  }
  return image;
}

/**
 * A stored image -> the network's input, as `Preprocess` does in Python.
 * @param {Pick<Picture, "width" | "height" | "pixels">} picture @param {Config} config
 */
export function toInput({ width, height, pixels }, config) {
  return normalised(cropped(toUnit(pixels, width, height, config), config), config);
}
