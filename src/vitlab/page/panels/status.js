// What there is to do here, the self-test, and whose network this is.

import { byId, percent, setText } from "../dom.js";

// A network that reads no drawings is shown pictures.
export function renderInvitation({ model }, empty) {
  const draws = model?.config.drawing !== null;
  const start = draws ? "Draw a digit, watch" : "Show a picture, watch";
  setText(byId("title"), `${start} a network read it`);
  setText(document.querySelector("title"), `${start} a Vision Transformer read it`);
  setText(byId("draw-word"), draws ? "Draw" : "Show");
  const turn = empty ? ["Draw a digit here", "Open a picture, or draw here"] : ["Your turn: draw a digit", "Your turn"];
  setText(byId("turn"), turn[draws ? 0 : 1]);
}

export function renderStatus({ model, loading }) {
  setText(
    byId("selftest"),
    model
      ? tested(model.selftest, model.config.drawing === null ? "images" : "digits")
      : loading
        ? "Loading the network ..."
        : "No network is loaded.",
  );
  byId("selftest").classList.toggle("good", Boolean(model?.selftest?.agree));
  const facts = byId("model-facts");
  setText(facts, model ? about(model.config) : "");
  facts.title = model ? `SHA-256 of model.safetensors: ${model.config.sha256 ?? "not given"}` : "";
}

function tested(selftest, things) {
  if (!selftest?.images)
    return `No known ${things} came with this network, so this page's numbers were not compared with Python's.`;
  const { images, agree, maxDifference } = selftest;
  const numbers = `largest difference ${scientific(maxDifference)}`;
  if (agree) return `${images} of ${images} known ${things}: this page's numbers equal Python's (${numbers}).`;
  return `Careful: on ${images} known ${things} this page's numbers differ from Python's (${numbers}).`;
}

// 3.1e-6 -> "3e-6".
const scientific = (x) => (x === 0 ? "0" : x.toExponential(0));

function about({ name, data, test_top1: top1, test_top1_interval: interval, test_images: images, params, sha256 }) {
  const parts = [name];
  if (top1 !== null && top1 !== undefined) {
    const range = interval ? ` (95 % interval ${interval.map((p) => (100 * p).toFixed(2)).join(" to ")})` : "";
    parts.push(
      `${percent(top1, 2)} right on ${images ? `${images.toLocaleString("en")} test images of ` : ""}${data}${range}`,
    );
  }
  if (params) parts.push(`${params.toLocaleString("en")} parameters`);
  if (sha256) parts.push(`digest ${sha256.slice(0, 12)}`);
  return parts.join(" · ");
}
