// What the page shows until its first network has read: the drawing area, and how much of the network has arrived.
// The other panels wait unseen, so that nothing that is in sight moves when they fill.

import { byId, setText } from "./dom.js";

/** @import { View } from "./main.js" */
/** @import { Progress } from "./resources.js" */

const MEGABYTE = 1e6;

/**
 * Shows the progress of a network's weights.
 * @param {string} name
 * @returns {Progress}
 */
export function arriving(name) {
  tell(`Loading ${name} ...`, null);
  return (received, total) => {
    const size = total ?? received;
    const [unit, digits, label] = size < MEGABYTE ? [1e3, 0, "kB"] : [MEGABYTE, 1, "MB"];
    const of = total === null ? "" : ` of ${(total / unit).toFixed(digits)}`;
    tell(`Loading ${name}: ${(received / unit).toFixed(digits)}${of} ${label}`, total && received / total);
  };
}

/** No network is on its way any more. */
export const arrived = () => setText(byId("loading"), "");

/**
 * @param {string} sentence @param {number | null} share
 */
function tell(sentence, share) {
  setText(byId("loading"), sentence);
  setText(byId("coming-say"), sentence);
  const bar = byId("coming-bar", HTMLProgressElement);
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
}

/** @param {View} view */
export function renderComing({ reading, loading }) {
  if (!byId("coming").hidden && (reading !== null || !loading)) {
    byId("coming").hidden = true;
    document.body.classList.remove("waiting");
  }
}
