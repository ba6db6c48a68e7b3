// Notices: one sentence over the page, which moves nothing. They can be closed, and most go away by themselves.

import { byId, setText } from "./dom.js";

const LEAST = 8_000; // milliseconds
const PER_LETTER = 80;

let timer = 0;

/**
 * Shows a sentence; an empty one ends the present notice. One that stays goes only when it is closed or replaced.
 * @param {string} sentence
 */
export function notice(sentence, stays = false) {
  setText(byId("notice"), sentence);
  byId("toast").hidden = !sentence;
  clearTimeout(timer);
  if (sentence && !stays) timer = setTimeout(fade, Math.max(LEAST, PER_LETTER * sentence.length));
}

// Not while somebody reads or is about to close it.
function fade() {
  const toast = byId("toast");
  if (toast.matches(":hover, :focus-within")) timer = setTimeout(fade, LEAST);
  else notice("");
}

byId("dismiss").addEventListener("click", () => notice(""));
