// The layers of a ViT without matrices, forwards and backwards, for all rows of a batch at once. d before a name: the
// gradient of the loss. Each backward function adds to the gradients of parameters and says what it does to its input's.
// Nothing here allocates.

const NORM_EPS = 1e-6; // as in vitlab/model

/**
 * Layer norm with gain and offset, or, if gain is null, division by the root mean square: x [rows, dim] -> y. Keeps each
 * row's mean (0 for the root mean square) and 1 / deviation.
 * @param {Float32Array} x @param {Float32Array | null} gain @param {Float32Array | null} offset @param {Float32Array} y
 * @param {Float32Array} means @param {Float32Array} scales @param {number} rows @param {number} dim
 */
export function normForward(x, gain, offset, y, means, scales, rows, dim) {
  for (let r = 0, first = 0; r < rows; r++, first += dim) {
    let mean = 0;
    if (gain !== null) {
      for (let i = 0; i < dim; i++) mean += x[first + i];
      mean /= dim;
    }
    let squares = 0;
    for (let i = 0; i < dim; i++) {
      const d = x[first + i] - mean;
      squares += d * d;
    }
    const scale = 1 / Math.sqrt(squares / dim + NORM_EPS);
    means[r] = mean;
    scales[r] = scale;
    if (gain === null || offset === null) for (let i = 0; i < dim; i++) y[first + i] = x[first + i] * scale;
    else for (let i = 0; i < dim; i++) y[first + i] = (x[first + i] - mean) * scale * gain[i] + offset[i];
  }
}

/**
 * Adds the gradient of x to dx, and those of gain and offset to theirs.
 * @param {Float32Array} x @param {Float32Array} dy @param {Float32Array | null} gain @param {Float32Array | null} dgain
 * @param {Float32Array | null} doffset @param {Float32Array} dx @param {Float32Array} means @param {Float32Array} scales
 * @param {number} rows @param {number} dim
 */
export function normBackward(x, dy, gain, dgain, doffset, dx, means, scales, rows, dim) {
  for (let r = 0, first = 0; r < rows; r++, first += dim) {
    const mean = means[r];
    const scale = scales[r];
    let sum = 0; // of dy times gain
    let along = 0; // of the same times the normalised x
    for (let i = 0; i < dim; i++) {
      const unit = (x[first + i] - mean) * scale;
      const d = dy[first + i];
      const g = gain === null ? d : d * gain[i];
      sum += g;
      along += g * unit;
      if (dgain !== null) dgain[i] += d * unit;
      if (doffset !== null) doffset[i] += d;
    }
    const level = gain === null ? 0 : sum / dim;
    along /= dim;
    for (let i = 0; i < dim; i++) {
      const unit = (x[first + i] - mean) * scale;
      const g = gain === null ? dy[first + i] : dy[first + i] * gain[i];
      dx[first + i] += scale * (g - level - unit * along);
    }
  }
}

/**
 * ReLU squared and its slope.
 * @param {Float32Array} x @param {Float32Array} y @param {Float32Array} slope @param {number} count
 */
export function relu2WithSlope(x, y, slope, count) {
  for (let i = 0; i < count; i++) {
    const v = Math.max(x[i], 0);
    y[i] = v * v;
    slope[i] = 2 * v;
  }
}

/**
 * to *= by, element by element: a gradient through an activation.
 * @param {Float32Array} to @param {Float32Array} by @param {number} count
 */
export function scaleBy(to, by, count) {
  for (let i = 0; i < count; i++) to[i] *= by[i];
}

/**
 * Tokens [rows, tokens, dim] -> one vector an image: the class token, the mean, or all side by side.
 * @param {Float32Array} x @param {"cls" | "mean" | "flatten"} how @param {Float32Array} pooled
 * @param {number} rows @param {number} tokens @param {number} dim
 */
export function poolForward(x, how, pooled, rows, tokens, dim) {
  if (how === "flatten") {
    for (let i = 0; i < rows * tokens * dim; i++) pooled[i] = x[i];
    return;
  }
  const count = how === "cls" ? 1 : tokens;
  for (let r = 0; r < rows; r++) {
    for (let d = 0; d < dim; d++) {
      let sum = 0;
      for (let n = 0, at = r * tokens * dim + d; n < count; n++, at += dim) sum += x[at];
      pooled[r * dim + d] = sum / count;
    }
  }
}

/**
 * Writes the gradient of x.
 * @param {Float32Array} dpooled @param {"cls" | "mean" | "flatten"} how @param {Float32Array} dx
 * @param {number} rows @param {number} tokens @param {number} dim
 */
export function poolBackward(dpooled, how, dx, rows, tokens, dim) {
  if (how === "flatten") {
    for (let i = 0; i < rows * tokens * dim; i++) dx[i] = dpooled[i];
    return;
  }
  const count = how === "cls" ? 1 : tokens;
  for (let r = 0, at = 0; r < rows; r++) {
    for (let n = 0; n < tokens; n++) {
      for (let d = 0; d < dim; d++, at++) dx[at] = n < count ? dpooled[r * dim + d] / count : 0;
    }
  }
}

/**
 * Softmax cross-entropy with label smoothing (Szegedy et al. 2016), as torch's: the target is 1 - s for the label, plus
 * s / K for every class. Returns the sum over the rows, and writes the gradient of their mean to dlogits.
 * @param {Float32Array} logits @param {ArrayLike<number>} labels @param {number} smoothing @param {Float32Array} dlogits
 * @param {number} rows @param {number} classes
 */
export function crossEntropy(logits, labels, smoothing, dlogits, rows, classes) {
  let loss = 0;
  for (let r = 0, first = 0; r < rows; r++, first += classes) {
    let largest = -Infinity;
    let total = 0;
    for (let k = 0; k < classes; k++) {
      if (logits[first + k] > largest) largest = logits[first + k];
      total += logits[first + k];
    }
    let sum = 0;
    for (let k = 0; k < classes; k++) sum += Math.exp(logits[first + k] - largest);
    const level = largest + Math.log(sum);
    const label = labels[r];
    loss += level - (1 - smoothing) * logits[first + label] - (smoothing * total) / classes;
    for (let k = 0; k < classes; k++) {
      const target = smoothing / classes + (k === label ? 1 - smoothing : 0);
      dlogits[first + k] = (Math.exp(logits[first + k] - level) - target) / rows;
    }
  }
  return loss;
}
