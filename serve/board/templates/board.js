"use strict";
// A run in progress: its bars are fetched again every few seconds, made on the server.
(() => {
  const EVERY_MS = 3000;
  async function follow() {
    const shown = document.getElementById("progress");
    if (!shown?.dataset.follow) return;
    try {
      const answer = await fetch(shown.dataset.follow);
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.getElementById("progress");
        if (fresh) shown.replaceWith(fresh);
      }
    } catch {
      // the board is away for a moment; the next look may find it
    }
    setTimeout(follow, EVERY_MS);
  }
  setTimeout(follow, EVERY_MS);
})();
