// Keeps the page of a running audit fresh: by server-sent events, by polling where they do not come. Without this
// script the page reloads itself.
"use strict";

(() => {
  for (const form of document.querySelectorAll("form[data-confirm]")) {
    form.addEventListener("submit", (event) => {
      if (!window.confirm(form.dataset.confirm)) event.preventDefault();
    });
  }

  const place = document.querySelector("[data-state]");
  if (!place) return;
  const POLL_MS = 3000;
  const QUIET_MS = 15000;
  let busy = false;
  let again = false;
  let polling = null;

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(place.dataset.state, { credentials: "same-origin" });
      // Deleted, or signed out: the whole page says so.
      if ([401, 403, 404].includes(answer.status)) { window.location.reload(); return; }
      if (answer.ok) {
        const open = [...place.querySelectorAll("details")].map((each) => each.open);
        place.innerHTML = await answer.text();
        place.querySelectorAll("details").forEach((each, index) => { each.open = open[index] || false; });
        if (place.querySelector("[data-ended]")) { window.location.reload(); return; }
      }
    } catch { /* the service is away: the next look tells */ }
    busy = false;
    if (again) { again = false; refresh(); }
  }

  function poll() {
    if (polling === null) polling = window.setInterval(refresh, POLL_MS);
  }

  if (!("EventSource" in window)) { poll(); return; }
  const events = new EventSource(place.dataset.events);
  events.addEventListener("progress", refresh);
  events.addEventListener("status", refresh);
  events.onopen = () => { if (polling !== null) { window.clearInterval(polling); polling = null; } };
  events.onerror = poll;
  // No event tells that others have left the queue, or that time has passed.
  window.setInterval(refresh, QUIET_MS);
})();
