// Keeps the part of the page that changes up to date, and copies secrets. Everything works
// without it.
"use strict";

(() => {
  const main = document.getElementById("main");
  const status = document.getElementById("stream");
  const live = document.getElementById("live");

  const say = (text, state) => {
    status.hidden = false;
    if (status.textContent !== text) status.textContent = text;
    status.className = "stream " + state;
  };

  // What is used at the moment is not replaced: the focus or a selection would be lost.
  const inUse = () => {
    const selection = document.getSelection();
    return live.contains(document.activeElement) ||
      !selection.isCollapsed && live.contains(selection.anchorNode) ||
      live.matches(":has(:active)");
  };

  const replace = (html) => {
    const scrolled = Array.from(live.querySelectorAll(".scroll"), (e) => e.scrollLeft);
    live.innerHTML = html; // made by the server, which has escaped every text
    live.querySelectorAll(".scroll").forEach((e, i) => { e.scrollLeft = scrolled[i] || 0; });
  };

  const follow = (path) => {
    const source = new EventSource(path);
    source.onopen = () => say("Live", "good");
    source.onmessage = (event) => { if (!inUse()) replace(event.data); };
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) {
        say("Connecting again", "bad");
        return;
      }
      say("Not live: reload the page", "bad");
      setTimeout(() => follow(path), 30000);
    };
    addEventListener("pagehide", () => source.close(), { once: true });
  };

  if (live && main.dataset.live) follow(main.dataset.live);
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  for (const button of document.querySelectorAll("button[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }
})();
