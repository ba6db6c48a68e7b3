// Where it looked (attention rollout) beside what it needed (deletion of one patch at a time).

import { look, rollout } from "../attend.js";
import { attentionColour, cssColour, fallColour } from "../colour.js";
import { argmax, byId, el, setText } from "../dom.js";
import { listenToMap, paintMap } from "./maps.js";

const BOTH = "The two need not agree: attention says where something was taken, not what the answer hangs on.";
const ONE = "Found by trying: each square turns black once, by itself, and the network reads again.";
const MOST_TOKENS = 300; // multiplying layers takes the cube of it

export function createNeeds(store) {
  let squares = null;
  for (const id of ["looked", "needed"]) listenToMap(byId(id), store, () => squares);
  byId("needs-key").append(...key());

  return function render({ state, mark, model, reading, deletion, fresh }) {
    if (!reading) return;
    squares = model.squares;
    const patches = squares.grid ** 2;
    const shared = { squares, image: reading.image, channels: model.config.channels, mark, hidden: state.hidden };
    const has =
      reading.attention.length > 0 && reading.attention[0].heads > 0 && reading.attention[0].tokens <= MOST_TOKENS;
    byId("looked-figure").hidden = !has;
    setText(byId("needs-title"), has ? "Where it looked, what it needed" : "What it needed");
    setText(byId("needs-say"), has ? BOTH : ONE);
    if (has) {
      const shares = look(rollout(reading.attention), 0, patches, mark);
      paintMap(byId("looked"), shares, (share) => attentionColour(share, patches), shared);
    }
    const falls = deletion ?? new Float32Array(patches);
    paintMap(byId("needed"), falls, fallColour, { ...shared, strength: 0.25 });
    byId("needed").classList.toggle("waiting", !fresh);
    setText(byId("needed-most"), fresh ? most(falls) : "");
  };
}

function most(falls) {
  const patch = argmax(falls);
  const points = Math.round(100 * falls[patch]);
  return points < 1
    ? "No single patch matters."
    : `Most: patch ${patch + 1}, by ${points} ${points === 1 ? "point" : "points"}.`;
}

function key() {
  const bar = el("span", { class: "ramp", "aria-hidden": "true" });
  for (let i = 0; i < 25; i++) {
    const cell = el("i");
    const t = (i - 12) / 12;
    cell.style.background = cssColour(fallColour(Math.sign(t) * t * t));
    bar.append(cell);
  }
  return [bar, el("span", {}, "blue: rises, orange: falls, by up to 100 points")];
}
