// The address: it follows the user's choices and can be copied; choices typed into it take effect.

import { byId, setText } from "./dom.js";
import { fromHash, holdsChoices, toHash } from "./state.js";

/** @import { State, Store } from "./state.js" */

const PAUSE = 300; // milliseconds: browsers limit how often an address may change
const SAID = 2000; // milliseconds for which the button shows its result

/**
 * Calls chosen(choices) when the user changes the address. Returns a function to call whenever the state has changed;
 * nothing is written while busy().
 * @param {Store} store @param {(choices: Partial<State>) => void} chosen @param {() => boolean} busy
 */
export function followAddress(store, chosen, busy) {
  let written = location.hash;
  let timer = 0;

  function write() {
    clearTimeout(timer);
    written = `#${toHash(store.get())}`;
    history.replaceState(null, "", written);
  }

  window.addEventListener("hashchange", () => {
    const text = location.hash.slice(1);
    if (location.hash !== written && holdsChoices(text)) chosen(fromHash(text));
  });

  const button = byId("share");
  button.addEventListener("click", async () => {
    write();
    const copied = navigator.clipboard?.writeText(location.href) ?? Promise.reject();
    const said = await copied.then(
      () => "Copied",
      () => "See the address bar",
    );
    setText(button, store.get().drawing.kind === "picture" ? `${said}, without the picture` : said);
    setTimeout(() => setText(button, "Copy link"), SAID);
  });

  return () => {
    clearTimeout(timer);
    timer = setTimeout(() => busy() || write(), PAUSE);
  };
}
