// Takes a network's tensors out of a file and checks each against the shape that the configuration implies.

/** @import { Tensor } from "./safetensors.js" */
/** @import { Dense } from "./tensor.js" */
/** @typedef {ReturnType<typeof shelf>} Shelf */

/** A model that this page cannot use; the message is one sentence for the user. */
export class ModelError extends Error {}

/**
 * Hands out tensors by name and remembers which; `finish` throws if any are left.
 * @param {Map<string, Tensor>} tensors
 */
export function shelf(tensors) {
  const left = new Set(tensors.keys());

  /**
   * The numbers of a tensor. ModelError if it is missing or has another shape.
   * @param {string} name @param {number[]} shape
   */
  function take(name, shape) {
    const tensor = tensors.get(name);
    if (tensor === undefined) {
      throw new ModelError(`The weights do not fit the configuration: ${name} is missing.`);
    }
    if (tensor.shape.join() !== shape.join()) {
      const [is, should] = [tensor.shape, shape].map((sizes) => sizes.join(" x "));
      throw new ModelError(`The weights do not fit the configuration: ${name} is ${is}, not ${should}.`);
    }
    left.delete(name);
    return tensor.data;
  }

  /**
   * A dense layer.
   * @param {string} name @param {number} inner @param {number} outs
   * @returns {Dense}
   */
  function takeLinear(name, inner, outs, hasBias = true) {
    const weight = take(`${name}.weight`, [outs, inner]);
    return { weight, bias: hasBias ? take(`${name}.bias`, [outs]) : null, inner, outs };
  }

  function finish() {
    const [first] = left;
    if (first !== undefined) {
      throw new ModelError(`The weights do not fit the configuration: the network has no ${first}.`);
    }
  }

  /** @param {string} name */
  const shapeOf = (name) => tensors.get(name)?.shape ?? [];

  return { take, takeLinear, finish, shapeOf };
}
