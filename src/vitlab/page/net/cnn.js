// The small CNN, as vitlab/model/cnn.py defines it: in each layer a 3 x 3 convolution without padding, ReLU and 2 x 2
// max pooling; then one dense layer. Feature maps are stored as [row, column, channel]: three neighbouring pixels with
// all their channels are contiguous, so a convolution is one matrix product.

import { must } from "./config.js";
import { traitsOf } from "./novelty.js";
import { linear, softmax } from "./tensor.js";
import { shelf as shelfOf } from "./weights.js";

/** @import { Config, ModelKnobs } from "./config.js" */
/** @import { Built, Squares } from "./model.js" */
/** @import { Tensor } from "./safetensors.js" */
/** @import { Shelf } from "./weights.js" */
/** @typedef {ReturnType<typeof takeLayer>} ConvLayer */

/**
 * ModelError for values that a CNN cannot have.
 * @param {ModelKnobs} model
 */
export function checkKnobs(model) {
  must(model.cnn_channels.length > 0, "cnn_channels is empty");
}

/**
 * A CNN has no patches; the page divides the middle of its input into about 7 x 7 squares that can be hidden.
 * @param {ModelKnobs} model
 * @returns {Squares}
 */
export function squaresOf(model) {
  const size = model.crop ?? model.image_size;
  const side = Math.max(1, Math.round(size / 7));
  const grid = Math.floor(size / side);
  return { grid, side, margin: Math.floor((size - grid * side) / 2), size };
}

/**
 * ModelError if the weights do not fit.
 * @param {Config} config @param {Map<string, Tensor>} tensors
 * @returns {Built}
 */
export function build(config, tensors) {
  const shelf = shelfOf(tensors);
  const layers = takeLayers(shelf, config);
  const last = layers[layers.length - 1].pooled;
  const head = shelf.takeLinear("head.1", last.map.length, config.classes.length);
  shelf.finish();
  const image = new Float32Array(layers[0].side ** 2 * config.channels);
  const features = new Float32Array(last.map.length);
  const logits = new Float32Array(config.classes.length);

  /** @param {Float32Array} input */
  function run(input) {
    channelsLast(input, config.channels, image);
    let map = image;
    for (const layer of layers) {
      convolve(map, layer);
      poolAndRelu(layer);
      map = layer.pooled.map;
    }
    channelsFirst(map, last.channels, features); // the head's weights are ordered by channel, row, column
    linear(features, head, logits, 1);
    return logits;
  }

  function trace() {
    const probabilities = logits.slice();
    softmax(probabilities, 1, probabilities.length);
    return { logits: logits.slice(), probabilities, attention: [], lens: [] };
  }

  /** @param {Float32Array} input */
  function traits(input) {
    const places = last.side ** 2;
    const at = (/** @type {number} */ place, /** @type {number} */ i) => i * places + place;
    return traitsOf(input, config, features, places, last.channels, at, logits);
  }

  return { run, trace, traits, open: () => null, cuts: [], views: { tokens: false, attention: false, mixing: false } };
}

/**
 * @param {Shelf} shelf @param {Config} config
 */
function takeLayers(shelf, config) {
  const { crop, image_size: size, cnn_channels: channels } = config.model;
  /** @type {ConvLayer[]} */
  const layers = [];
  let side = crop ?? size;
  let inner = /** @type {number} */ (config.channels);
  for (const outs of channels) {
    const layer = takeLayer(shelf, layers.length, side, inner, outs);
    layers.push(layer);
    side = layer.pooled.side;
    inner = outs;
  }
  return layers;
}

/**
 * One convolution, with working space.
 * @param {Shelf} shelf @param {number} index @param {number} side @param {number} channels @param {number} outs
 */
function takeLayer(shelf, index, side, channels, outs) {
  const across = side - 2;
  const half = Math.floor(across / 2);
  must(half >= 1, "the image is too small for so many convolutions");
  const weight = rowColumnChannel(shelf.take(`convs.${index}.weight`, [outs, channels, 3, 3]), outs, channels);
  return {
    side,
    channels,
    dense: { weight, bias: shelf.take(`convs.${index}.bias`, [outs]), inner: 9 * channels, outs },
    windows: new Float32Array(across * across * 9 * channels),
    out: new Float32Array(across * across * outs),
    pooled: { side: half, channels: outs, map: new Float32Array(half * half * outs) },
  };
}

/**
 * A convolution's weights from torch's [outs, channels, 3, 3] to [outs, 3, 3, channels].
 * @param {Float32Array} weight @param {number} outs @param {number} channels
 */
function rowColumnChannel(weight, outs, channels) {
  const turned = new Float32Array(weight.length);
  for (let o = 0; o < outs; o++) {
    const [first, end] = [o * 9 * channels, (o + 1) * 9 * channels];
    channelsLast(weight.subarray(first, end), channels, turned.subarray(first, end));
  }
  return turned;
}

/**
 * from [channels, pixels] -> to [pixels, channels].
 * @param {Float32Array} from @param {number} channels @param {Float32Array} to
 */
function channelsLast(from, channels, to) {
  const pixels = to.length / channels;
  for (let p = 0, at = 0; p < pixels; p++) {
    for (let c = 0; c < channels; c++, at++) {
      to[at] = from[c * pixels + p];
    }
  }
}

/**
 * from [pixels, channels] -> to [channels, pixels].
 * @param {Float32Array} from @param {number} channels @param {Float32Array} to
 */
function channelsFirst(from, channels, to) {
  const pixels = to.length / channels;
  for (let c = 0, at = 0; c < channels; c++) {
    for (let p = 0; p < pixels; p++, at++) {
      to[at] = from[p * channels + c];
    }
  }
}

/**
 * map [side, side, channels] -> layer.out [side - 2, side - 2, outs]: all windows side by side, in one product.
 * @param {Float32Array} map @param {ConvLayer} layer
 */
function convolve(map, layer) {
  const { side, channels, windows, dense, out } = layer;
  const across = side - 2;
  const span = 3 * channels;
  let at = 0;
  for (let y = 0; y < across; y++) {
    for (let x = 0; x < across; x++) {
      for (let row = y; row < y + 3; row++) {
        const first = (row * side + x) * channels;
        for (let i = first; i < first + span; i++) {
          windows[at++] = map[i];
        }
      }
    }
  }
  linear(windows, dense, out, across * across);
}

/**
 * The maximum of each 2 x 2 block, at least 0; an odd last row or column is dropped.
 * @param {ConvLayer} layer
 */
function poolAndRelu(layer) {
  const { out, pooled } = layer;
  const { side, channels, map } = pooled;
  const stride = (layer.side - 2) * channels;
  let at = 0;
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const first = 2 * y * stride + 2 * x * channels;
      for (let a = first; a < first + channels; a++) {
        map[at++] = Math.max(0, out[a], out[a + channels], out[a + stride], out[a + stride + channels]);
      }
    }
  }
}
