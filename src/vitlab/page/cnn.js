// The small CNN, as model/cnn.py defines it: for each layer a 3 x 3 convolution without padding, ReLU and 2 x 2 max
// pooling; then one dense layer. Feature maps lie as [row, column, channel], so that three neighbouring pixels with all
// their channels are one piece of memory, and a convolution is one matrix product.

import { linear, softmax } from "./tensor.js";
import { ModelError, shelf as shelfOf } from "./weights.js";

/** {run, trace}, see model.js; ModelError if the weights do not fit. */
export function build(config, tensors) {
  const shelf = shelfOf(tensors);
  const layers = takeLayers(shelf, config);
  const { side, channels } = layers.at(-1).pooled;
  const head = shelf.takeLinear("head.1", side * side * channels, config.classes.length);
  shelf.finish();
  const image = new Float32Array(layers[0].side ** 2 * config.channels);
  const features = new Float32Array(side * side * channels);
  const logits = new Float32Array(config.classes.length);

  /** input [C, S, S], preprocessed -> logits [K], which stay valid until the next run. */
  function run(input) {
    channelsLast(input, config.channels, image);
    let map = image;
    for (const layer of layers) {
      convolve(map, layer);
      poolAndRelu(layer);
      map = layer.pooled.map;
    }
    channelsFirst(map, channels, features); // the head counts channel, row, column
    linear(features, head, logits, 1);
    return logits;
  }

  /** What the last run left; a CNN has neither attention nor layers of one width to look through. */
  function trace() {
    const probabilities = logits.slice();
    softmax(probabilities, 1, probabilities.length);
    return { logits: logits.slice(), probabilities, attention: [], lens: [] };
  }

  return { run, trace };
}

/** The convolutions with the space for what they compute. */
function takeLayers(shelf, config) {
  const layers = [];
  let side = config.model.crop ?? config.model.image_size;
  let inner = config.channels;
  config.model.cnn_channels.forEach((outs, i) => {
    const across = side - 2;
    const half = Math.floor(across / 2);
    if (half < 1) {
      throw new ModelError("config.json is damaged: the image is too small for so many convolutions.");
    }
    const weight = rowColumnChannel(shelf.take(`convs.${i}.weight`, [outs, inner, 3, 3]), outs, inner);
    layers.push({
      side,
      channels: inner,
      dense: { weight, bias: shelf.take(`convs.${i}.bias`, [outs]), inner: 9 * inner, outs },
      windows: new Float32Array(across * across * 9 * inner),
      out: new Float32Array(across * across * outs),
      pooled: { side: half, channels: outs, map: new Float32Array(half * half * outs) },
    });
    [side, inner] = [half, outs];
  });
  if (layers.length === 0) {
    throw new ModelError("config.json is damaged: cnn_channels is empty.");
  }
  return layers;
}

/** A convolution's weights from torch's [outs, channels, 3, 3] to [outs, 3, 3, channels]. */
function rowColumnChannel(weight, outs, channels) {
  const turned = new Float32Array(weight.length);
  for (let o = 0; o < outs; o++) {
    const [first, end] = [o * 9 * channels, (o + 1) * 9 * channels];
    channelsLast(weight.subarray(first, end), channels, turned.subarray(first, end));
  }
  return turned;
}

/** from [channels, pixels] -> to [pixels, channels]; `to` says how many. */
function channelsLast(from, channels, to) {
  const pixels = to.length / channels;
  for (let p = 0, at = 0; p < pixels; p++) {
    for (let c = 0; c < channels; c++, at++) {
      to[at] = from[c * pixels + p];
    }
  }
}

/** from [pixels, channels] -> to [channels, pixels]. */
function channelsFirst(from, channels, to) {
  const pixels = to.length / channels;
  for (let c = 0, at = 0; c < channels; c++) {
    for (let p = 0; p < pixels; p++, at++) {
      to[at] = from[p * channels + c];
    }
  }
}

/** map [side, side, channels] -> layer.out [side - 2, side - 2, outs]: all windows side by side, one product. */
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

/** The largest of each 2 x 2 places, at least 0; an odd last row and column are left out. */
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
