// Keeps a page as it is now: the server tells which topics changed, and when one of them is on this page, the page is
// fetched again and what differs is put in its place. Focus, scrolling, open details and what was typed stay.
"use strict";
(() => {
  const page = () => document.querySelector("main[data-topics]");
  const sign = document.getElementById("live");
  if (!page() || !sign || !window.EventSource) return;

  const PAUSE = 1000; // milliseconds between two fetches, at least
  const TICK = 10000; // milliseconds between two looks at the ages shown
  let source = null;
  let fetching = false;
  let wanted = false;
  let last = 0;
  let skew = Date.parse(page().dataset.now) - Date.now();

  function say(on) {
    sign.hidden = false;
    sign.classList.toggle("on", on);
    const text = on ? "Updates live" : "Not live; trying again";
    if (sign.textContent !== text) sign.textContent = text;
  }

  function connect() {
    if (source || document.hidden) return;
    source = new EventSource("/live?seen=" + page().dataset.seen);
    let first = true;
    source.onopen = () => {
      say(true);
      if (!first) refresh(); // something may have changed meanwhile
      first = false;
    };
    source.onmessage = (event) => {
      const topics = page().dataset.topics.split(" ");
      if (event.data.split(" ").some((topic) => topics.includes(topic))) refresh();
    };
    source.addEventListener("ended", () => location.reload());
    source.onerror = () => {
      say(false);
      if (source && source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(connect, 10 * PAUSE);
      }
    };
  }

  // A browser has few connections to one server: a page that nobody sees gives its own back.
  function visibility() {
    if (document.hidden) {
      if (source) source.close();
      source = null;
    } else {
      connect();
      refresh();
    }
  }

  function refresh() {
    if (fetching || wanted) {
      wanted = true;
      return;
    }
    wanted = true;
    setTimeout(load, Math.max(0, last + PAUSE - Date.now()));
  }

  async function load() {
    fetching = true;
    wanted = false;
    last = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { "x-live": "1" }, credentials: "same-origin" });
      if (answer.redirected) return location.reload();
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const main = fresh.querySelector("main[data-topics]");
      if (main) {
        skew = Date.parse(main.dataset.now) - Date.now();
        const focused = document.activeElement;
        morph(page(), main);
        if (focused && !focused.isConnected) focusAgain(focused);
        document.title = fresh.title;
        document.getElementById("moment").textContent = fresh.getElementById("moment").textContent;
      }
    } catch {
      say(false);
    } finally {
      fetching = false;
      if (wanted) {
        wanted = false;
        refresh();
      }
    }
  }

  // The same link or button, where it stands now.
  function focusAgain(focused) {
    const href = focused.getAttribute("href");
    const links = href ? [...page().querySelectorAll("a[href]")] : [];
    const again =
      (focused.id && document.getElementById(focused.id)) || links.find((link) => link.getAttribute("href") === href);
    if (again) again.focus({ preventScroll: true });
  }

  const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");

  function morph(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = fresh.nodeValue;
      return;
    }
    attributes(old, fresh);
    if (old.matches("input, select, textarea")) return;
    const olds = [...old.childNodes];
    [...fresh.childNodes].forEach((child, index) => {
      const there = olds[index];
      if (!there) old.append(document.importNode(child, true));
      else if (alike(there, child)) morph(there, child);
      else there.replaceWith(document.importNode(child, true));
    });
    olds.slice(fresh.childNodes.length).forEach((node) => node.remove());
  }

  function attributes(old, fresh) {
    const kept = old.matches("details, dialog") ? ["open"] : old.matches("input, select") ? ["value", "checked"] : [];
    for (const { name } of [...old.attributes])
      if (!fresh.hasAttribute(name) && !kept.includes(name)) old.removeAttribute(name);
    for (const { name, value } of [...fresh.attributes])
      if (old.getAttribute(name) !== value && !kept.includes(name)) old.setAttribute(name, value);
  }

  function age(seconds) {
    if (seconds < 60) return seconds + " s";
    if (seconds < 3600) return Math.floor(seconds / 60) + " min";
    if (seconds < 86400) return Math.floor(seconds / 3600) + " h";
    return Math.floor(seconds / 86400) + " d";
  }

  function ages() {
    const now = Date.now() + skew;
    for (const time of document.querySelectorAll("time.ago")) {
      const seconds = Math.floor((now - Date.parse(time.dateTime)) / 1000);
      if (seconds >= 0) time.textContent = seconds < 5 ? "just now" : age(seconds) + " ago";
    }
  }

  document.addEventListener("visibilitychange", visibility);
  setInterval(ages, TICK);
  connect();
})();
