// Keeps an open page up to date. The server says that there is news (/live); the page then asks for itself again, and what
// differs is put in: lines by their key, other parts as a whole. Without this script the page is the same, but older.
"use strict";
(() => {
  const parts = () => document.querySelectorAll("[data-live]");
  const pulse = document.querySelector("[data-pulse]");
  if (!parts().length || !pulse || !window.EventSource) return;

  const policy = window.trustedTypes
    ? window.trustedTypes.createPolicy("tally", { createHTML: (html) => html })
    : { createHTML: (html) => html };
  const words = pulse.querySelector("[data-pulse-text]");
  const news = document.querySelector("[data-news]");
  const FRESH_MS = 4000;

  let paused = false;
  let asking = false;
  let again = false;
  let connected = false;

  const show = () => {
    pulse.hidden = false;
    pulse.setAttribute("aria-pressed", String(!paused));
    pulse.dataset.state = paused ? "paused" : connected ? "live" : "lost";
    words.textContent = paused ? "Paused" : connected ? "Live" : "Reconnecting";
    pulse.title = paused ? "Go on updating this page" : "Stop updating this page";
  };

  // The same steps as the server's.
  const length = (secs) => {
    if (secs < 100) return `${secs} s`;
    if (secs < 6000) return `${Math.floor(secs / 60)} min`;
    if (secs < 172800) return `${Math.floor(secs / 3600)} h`;
    return `${Math.floor(secs / 86400)} d`;
  };
  const age = () => {
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const secs = Math.floor((Date.now() - Date.parse(time.dateTime)) / 1000);
      if (Number.isNaN(secs)) continue;
      const text = secs < -4 ? "in the future" : secs < 2 ? "now" : `${length(secs)} ago`;
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // Whether two elements are the same but for how long ago things were.
  const plain = (element) => {
    const copy = element.cloneNode(true);
    for (const line of [copy, ...copy.querySelectorAll(".fresh")]) line.classList.remove("fresh");
    for (const time of copy.querySelectorAll("time[data-ago]")) time.textContent = "";
    return copy.outerHTML;
  };
  const same = (a, b) => plain(a) === plain(b);

  const mergeLines = (now, next) => {
    const known = new Map();
    for (const line of now.children) known.set(line.dataset.key, line);
    let added = 0;
    const lines = [...next.children].map((line) => {
      const old = known.get(line.dataset.key);
      if (old && same(old, line)) return old;
      const fresh = document.importNode(line, true);
      if (!old) {
        added += 1;
        fresh.classList.add("fresh");
        setTimeout(() => fresh.classList.remove("fresh"), FRESH_MS);
      }
      return fresh;
    });
    const keep = new Set(lines);
    for (const line of [...now.children]) if (!keep.has(line)) line.remove();
    lines.forEach((line, i) => {
      if (now.children[i] !== line) now.insertBefore(line, now.children[i] || null);
    });
    return added;
  };

  // Puts in what differs and keeps the rest, with whatever is focused or selected there. Says how many lines are new.
  const mergeElement = (now, next) => {
    if (same(now, next)) return 0;
    if (now.matches("[data-keyed]") && next.matches("[data-keyed]")) return mergeLines(now, next);
    let added = 0;
    const [olds, news] = [[...now.children], [...next.children]];
    if (olds.length && olds.length === news.length && olds.every((old, i) => old.tagName === news[i].tagName)) {
      olds.forEach((old, i) => { added += mergeElement(old, news[i]); });
      if (same(now, next)) return added;
    }
    now.replaceWith(document.importNode(next, true));
    return added;
  };

  const merge = (doc) => {
    let added = 0;
    for (const part of parts()) {
      const next = doc.getElementById(part.id);
      if (next) added += mergeElement(part, next);
    }
    age();
    if (added) news.textContent = added === 1 ? "One new line" : `${added} new lines`;
  };

  const ask = async () => {
    if (paused || document.hidden || asking) {
      again = true;
      return;
    }
    asking = true;
    again = false;
    try {
      const answer = await fetch(location.href, { cache: "no-store", credentials: "same-origin" });
      if (answer.status === 401) {
        location.reload();
        return;
      }
      if (answer.ok) merge(new DOMParser().parseFromString(policy.createHTML(await answer.text()), "text/html"));
    } catch {
      again = true;
    } finally {
      asking = false;
    }
    if (again && connected) setTimeout(ask, 250);
  };

  const source = new EventSource("/live");
  source.addEventListener("open", () => {
    connected = true;
    show();
    // What happened while nobody was connected is not told again.
    ask();
  });
  source.addEventListener("news", ask);
  source.addEventListener("error", () => {
    connected = false;
    show();
    // A refusal (the session has ended) closes it for good; the page then says what to do.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
  });
  pulse.addEventListener("click", () => {
    paused = !paused;
    show();
    if (!paused) ask();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && again) ask();
  });
  setInterval(age, 5000);
  show();
})();
