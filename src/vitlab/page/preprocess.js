// From a drawing or a stored image to the network's input. Images of bytes lie as [row, column, channel], as they are
// stored; float images as [channel, row, column], as the network takes them. The Python: vitlab/preprocess.py.

import { centerDrawing, plainDrawing, resample } from "./drawing.js";
import { geometry } from "./geometry.js";

export { centerDrawing, plainDrawing } from "./drawing.js";
export { disturbed, mapped, noisy, STRENGTHS } from "./disturb.js";

/**
 * What becomes of a drawing {width, height, channels, pixels} before it is an image like those that the model learned
 * from: {inverted, box, scaled, placed, side, channels}; `placed` is a Uint8Array [side, side, channels]. `native` is
 * the side of those images.
 */
export function drawingSteps(drawing, config, center, native) {
  const { width, height } = drawing;
  if (config.drawing === "mnist-drawing") {
    const steps = (center ? centerDrawing : plainDrawing)(inChannels(drawing, 1), width, height);
    const placed = inChannels({ channels: 1, pixels: steps.placed }, config.channels);
    return { ...steps, placed, side: 28, channels: config.channels };
  }
  return { inverted: false, box: null, scaled: null, ...wholeImage(drawing, config.channels, native) };
}

/** The bytes of an image in 1 channel or 3. Brightness of a colour: ITU-R 601-2, as Pillow's. */
export function inChannels({ channels, pixels }, wanted) {
  if (channels === wanted) {
    return pixels;
  }
  const count = pixels.length / channels;
  if (wanted === 3) {
    return Uint8Array.from({ length: 3 * count }, (_, i) => pixels[Math.floor(i / 3)]);
  }
  const grey = (i) => (19595 * pixels[3 * i] + 38470 * pixels[3 * i + 1] + 7471 * pixels[3 * i + 2] + 32768) >> 16;
  return Uint8Array.from({ length: count }, (_, i) => grey(i));
}

/** An image for a model that wants no normalisation of drawings. One of the size that the model learned from, or
 * smaller, stays as it is; others are brought to it, with a filter that misses nothing: of a large canvas
 * `resizeBilinear` would look at few pixels only. */
function wholeImage(drawing, channels, side) {
  const { width, height } = drawing;
  const pixels = inChannels(drawing, channels);
  if (width === height && width <= side) {
    return { placed: pixels, side: width, channels };
  }
  const placed = new Uint8Array(side * side * channels);
  for (let c = 0; c < channels; c++) {
    const plane = pixels.filter((_, i) => i % channels === c);
    resample(plane, width, [0, 0, width, height], side, side).forEach((value, i) => {
      placed[i * channels + c] = Math.floor(value + 0.5);
    });
  }
  return { placed, side, channels };
}

/** Bytes [height, width, C] -> float [C, S, S] in 0..1 at the model's image_size: what is disturbed, before a crop. */
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

/** [C, height, width] -> [C, size, size]: bilinear between pixel centres, without antialiasing: torch's interpolate. */
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

/** For each of `to` places the two of `from` that it lies between, and how near it is to the second. */
function between(from, to) {
  return Array.from({ length: to }, (_, i) => {
    const place = Math.max(0, ((i + 0.5) * from) / to - 0.5);
    const low = Math.min(from - 1, Math.floor(place));
    return { low, high: Math.min(from - 1, low + 1), share: place - low };
  });
}

/** The centre square that the network is given, [C, S, S]; of an odd number right and bottom lose one more. */
export function cropped(image, config) {
  const { channels, model } = config;
  const from = model.image_size;
  const { input } = geometry(model);
  if (input === from) {
    return image.slice();
  }
  const first = Math.floor((from - input) / 2);
  const out = new Float32Array(channels * input * input);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < input; y++) {
      const start = (c * from + first + y) * from + first;
      out.set(image.subarray(start, start + input), (c * input + y) * input);
    }
  }
  return out;
}

/** Subtract the mean, divide by the standard deviation, per channel, in place: [C, S, S]. */
export function normalised(image, config) {
  const { mean, std } = config.preprocess;
  const count = image.length / config.channels;
  for (let i = 0; i < image.length; i++) {
    const c = Math.floor(i / count);
    image[i] = (image[i] - mean[c]) / std[c];
  }
  return image;
}

/** Bytes [height, width, C] -> the network's input: the whole of `Preprocess.__call__`. */
export function toInput({ width, height, pixels }, config) {
  return normalised(cropped(toUnit(pixels, width, height, config), config), config);
}
