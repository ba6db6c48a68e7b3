// Where it looked (attention rollout) next to what it needed (deletion of one patch at a time).

import { attentionFrom, rollout } from "../attend.js";
import { attentionColour, fallColour } from "../colour.js";
import { byId, setText } from "../dom.js";
import { argmax } from "../net/numbers.js";
import { cell } from "../words.js";
import { shareKey } from "./attention.js";
import { scaleKey } from "./key.js";
import { listenToMap, paintMap } from "./maps.js";

/** @import { View } from "../main.js" */
/** @import { Squares } from "../net/model.js" */
/** @import { Store } from "../state.js" */

const NOTHING = "Nothing is drawn, so there is nothing to measure.";
const BOTH = "The two need not agree: attention shows where information came from, not what the answer depends on.";
const ONE = "Measured by trying: each square alone turns black, and the network reads again.";
const MOST_TOKENS = 300; // multiplying layers takes the cube of it

/** @param {Store} store @param {typeof byId} [find] the elements of the panel, by the ids of the first network's */
export function createNeeds(store, find = byId) {
  const [looked, needed] = [find("looked", HTMLCanvasElement), find("needed", HTMLCanvasElement)];
  /** @type {Squares | null} */
  let squares = null;
  for (const canvas of [looked, needed]) listenToMap(canvas, store, () => squares);
  find("looked-key").append(shareKey(["less", "even share", "more"]));
  find("needed-key").append(fallKey());

  /** @param {View} view */
  return function render({ state, mark, model, reading, deletion, fresh, empty }) {
    if (!model || !reading) return;
    squares = model.squares;
    const patches = squares.grid ** 2;
    const painting = { squares, image: reading.image, channels: model.config.channels, mark, hidden: state.hidden };
    const has = reading.attention.length > 0 && reading.attention[0].tokens <= MOST_TOKENS;
    find("looked-figure").hidden = !has;
    setText(find("needs-title"), has ? "Where it looked, what it needed" : "What it needed");
    setText(find("needs-say"), empty ? NOTHING : has ? BOTH : ONE);
    if (has) {
      const shares = attentionFrom(rollout(reading.attention), 0, patches, mark);
      paintMap(looked, shares, (share) => attentionColour(share, patches), painting);
    }
    const falls = deletion ?? new Float32Array(patches);
    paintMap(needed, falls, fallColour, painting);
    needed.classList.toggle("again", !fresh);
    setText(find("needed-what"), cell(model));
    setText(find("needed-most"), fresh ? most(falls, cell(model)) : "Measuring again ...");
  };
}

/** @param {Float32Array} falls @param {string} one patch or square */
function most(falls, one) {
  const patch = argmax(falls);
  const points = Math.round(100 * falls[patch]);
  if (points < 1) return `No single ${one} matters.`;
  return `It falls most without ${one} ${patch + 1}, by ${points} ${points === 1 ? "point" : "points"}.`;
}

/**
 * The change that a fall by so many points is.
 * @param {number} fall
 */
const changeText = (fall) => (fall < 0 ? `+${-fall}` : fall > 0 ? `−${fall}` : "0");

function fallKey() {
  /** @param {number} place from 0 to 1 on the scale */
  const fallAt = (place) => Math.sign(place - 0.5) * (2 * place - 1) ** 2;
  const ticks = [-100, -25, 0, 25, 100].map((points) => {
    const place = 0.5 + (Math.sign(points) * Math.sqrt(Math.abs(points))) / 20;
    return /** @type {[number, string]} */ ([place, changeText(points)]);
  });
  return scaleKey((place) => fallColour(fallAt(place)), ticks, ["rises", "no change", "falls"]);
}
