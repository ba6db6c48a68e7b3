// The address: it follows what is chosen, can be copied, and what somebody types into it is chosen.

import { byId, setText } from "./dom.js";
import { fromHash, holdsChoices, toHash } from "./state.js";

const PAUSE = 300; // milliseconds: browsers refuse to change an address all the time
const SAID = 2000; // milliseconds that the button says what it did

// chosen(choices) is called for another address. Returns a function to call when something has changed; while busy(),
// nothing is written.
export function followAddress(store, chosen, busy) {
  let written = location.hash;
  let timer = null;

  function write() {
    clearTimeout(timer);
    written = `#${toHash(store.get())}`;
    history.replaceState(null, "", written);
  }

  window.addEventListener("hashchange", () => {
    const text = location.hash.slice(1);
    if (location.hash !== written && holdsChoices(text)) chosen(fromHash(text));
  });

  byId("share").addEventListener("click", async () => {
    write();
    const copied = navigator.clipboard?.writeText(location.href) ?? Promise.reject();
    const said = await copied.then(
      () => "Copied",
      () => "It is in the address bar",
    );
    setText(byId("share"), store.get().drawing.kind === "picture" ? `${said}, without the picture` : said);
    setTimeout(() => setText(byId("share"), "Copy link"), SAID);
  });

  return () => {
    clearTimeout(timer);
    timer = setTimeout(() => busy() || write(), PAUSE);
  };
}
