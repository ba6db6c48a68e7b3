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
  let known = location.hash;
  let timer = 0;

  function write() {
    clearTimeout(timer);
    if (location.hash !== known) return; // the user has just changed it, and "hashchange" is still to come
    history.replaceState(null, "", `#${toHash(store.get())}`);
    known = location.hash;
  }

  window.addEventListener("hashchange", () => {
    if (location.hash === known) return;
    known = location.hash;
    const text = known.slice(1);
    if (holdsChoices(text)) chosen(fromHash(text));
    else write(); // a link to a place on the page
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
