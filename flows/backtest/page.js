// Shows the figures under the pointer. What is drawn stands in the page already; nothing here builds HTML from text.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip");

function make(tag, text, parent) {
  const made = parent.appendChild(document.createElement(tag));
  if (text !== undefined) made.textContent = text;
  return made;
}

const number = value => value === null ? "–" : value.toFixed(4);

function table(heads, rows) {
  const made = make("table", undefined, tip);
  if (heads) { const row = make("tr", undefined, make("thead", undefined, made)); heads.forEach(head => make("th", head, row)); }
  const body = make("tbody", undefined, made);
  for (const [name, ...cells] of rows) {
    const row = make("tr", undefined, body);
    make("th", name, row);
    cells.forEach(cell => make("td", cell, row));
  }
}

// What each kind of plot is made of: spans [key, left, right] in shares of its width, and what to show of one.
const { when, start, end, impressions, figures } = data.windows;
const begin = start[0] ?? 0, length = (end.at(-1) ?? 1) - begin;
const kinds = {
  windows: {
    spans: () => when.map((_, n) => [n, (start[n] - begin) / length, (end[n] - begin) / length]),
    describe(n) {
      make("b", when[n] + " UTC", tip);
      make("span", impressions[n].toLocaleString("en") + " impressions", tip);
      table(["", ...data.arms], figures[n].map((values, m) => [data.measures[m], ...values.map(number)]));
    },
  },
  updates: {
    spans: plot => JSON.parse(plot.dataset.spans).map(([n, left, right]) => [n, left / 10000, right / 10000]),
    describe(n) {
      const [number, window, verdict, version, seconds, reasons] =
        [...document.getElementById("update-" + n).cells].map(cell => cell.textContent);
      make("b", `Update ${number}: ${verdict}`, tip);
      make("span", `${window} UTC, ${seconds}` + (version === "–" ? "" : `, version ${version}`), tip);
      make("p", reasons, tip);
    },
  },
  steps: {
    spans: () => data.updates.map((_, n) => [n, n / data.updates.length, (n + 1) / data.updates.length]),
    describe(n) {
      const update = data.updates[n];
      make("b", `Update ${update.number}: ${update.total}`, tip);
      make("span", update.window + " UTC", tip);
      table(null, update.by_step.map((seconds, step) => [data.steps[step], seconds]).reverse());
    },
  },
};

function hide() {
  tip.hidden = true;
  document.querySelectorAll(".cursor").forEach(cursor => cursor.remove());
}

function show(plot, kind, [key, left, right], pointer) {
  hide();
  const middle = (left + right) / 2;
  // The charts by window share their time, so all of them show the moment.
  for (const twin of kind === "windows" ? document.querySelectorAll('[data-of="windows"]') : [plot]) {
    const cursor = make("div", undefined, twin);
    cursor.className = "cursor";
    cursor.style.left = 100 * middle + "%";
  }
  tip.replaceChildren();
  kinds[kind].describe(key);
  tip.hidden = false;
  const box = plot.getBoundingClientRect(), x = box.left + middle * box.width, y = pointer ?? box.top + box.height / 2;
  const beside = x + 16 + tip.offsetWidth < innerWidth - 8 ? x + 16 : x - 16 - tip.offsetWidth;
  tip.style.left = Math.max(8, Math.min(beside, innerWidth - 8 - tip.offsetWidth)) + "px";
  const narrow = innerWidth < 700, above = box.top - tip.offsetHeight - (box.height < 60 ? 10 : 36);
  let top = y - tip.offsetHeight / 2;
  if (narrow && above >= 8) top = above; // not under the finger, nor upon the curves
  else if (narrow || box.height < 60) top = box.bottom + (box.height < 60 ? 10 : 36);
  tip.style.top = Math.max(8, Math.min(top, innerHeight - 8 - tip.offsetHeight)) + "px";
}

for (const plot of document.querySelectorAll("[data-of]")) {
  const kind = plot.dataset.of, spans = kinds[kind].spans(plot);
  let at = spans.length - 1;
  const far = ([, left, right], x) => Math.max(left - x, x - right, 0);
  const point = event => {
    const box = plot.getBoundingClientRect(), x = (event.clientX - box.left) / box.width;
    at = spans.reduce((near, here, n) => far(here, x) < far(spans[near], x) ? n : near, 0);
    show(plot, kind, spans[at], event.clientY);
  };
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") hide(); });
  plot.addEventListener("blur", hide);
  plot.addEventListener("focus", () => { if (plot.matches(":focus-visible")) show(plot, kind, spans[at]); });
  plot.addEventListener("keydown", event => {
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: spans.length - 1 };
    if (event.key === "Escape") hide();
    if (!(event.key in moves)) return;
    event.preventDefault();
    at = Math.max(0, Math.min(moves[event.key], spans.length - 1));
    show(plot, kind, spans[at]);
  });
}
document.addEventListener("pointerdown", event => { if (!event.target.closest("[data-of]")) hide(); });
document.addEventListener("scroll", hide, { passive: true, capture: true });
