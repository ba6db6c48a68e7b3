// Taking a network's tensors out of a file, each with the shape that the configuration asks for.

export class ModelError extends Error {}

/** Hands out tensors by name and remembers which; `finish` complains about those that nobody wanted. */
export function shelf(tensors) {
  const left = new Set(tensors.keys());

  /** The numbers of a tensor, which must have this shape; ModelError otherwise. */
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

  /** A Linear: {weight [outs, inner], bias [outs] or null, inner, outs}. */
  function takeLinear(name, inner, outs, hasBias = true) {
    const weight = take(`${name}.weight`, [outs, inner]);
    return { weight, bias: hasBias ? take(`${name}.bias`, [outs]) : null, inner, outs };
  }

  function finish() {
    if (left.size > 0) {
      throw new ModelError(`The weights do not fit the configuration: ${[...left][0]} has no place in the network.`);
    }
  }

  return { take, takeLinear, finish, shapeOf: (name) => tensors.get(name)?.shape ?? [] };
}
