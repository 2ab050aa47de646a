// What a cell logged besides numbers: a tile for each name, with its steps to go through.
// Rule: an image or a histogram travels when it is looked at; a tile that shows the newest follows.
import { format } from "./chart.js";

const FIRST_TILES = 8, SVG = "http://www.w3.org/2000/svg", WIDE = 200, HIGH = 90;

export function createGallery(parent, send) {
  const root = parent.appendChild(document.createElement("div"));
  root.className = "nbaas-gallery";
  root.hidden = true;
  const more = parent.appendChild(document.createElement("button"));
  more.className = "nbaas-link";
  more.hidden = true;
  const tiles = new Map(); // name -> tile
  let all = false;

  function tileFor(name, histogram) {
    if (tiles.has(name)) return tiles.get(name);
    const box = root.appendChild(document.createElement("figure"));
    box.className = "nbaas-tile";
    const body = box.appendChild(document.createElement(histogram ? "div" : "img"));
    if (!histogram) body.alt = "";
    const label = box.appendChild(document.createElement("div"));
    label.className = "nbaas-label";
    label.textContent = name;
    label.title = name;
    const caption = box.appendChild(document.createElement("figcaption"));
    const back = caption.appendChild(button("‹", `earlier ${name}`));
    const words = caption.appendChild(document.createElement("span"));
    const forth = caption.appendChild(button("›", `later ${name}`));
    // `at` is the place that is shown, or asked for; null follows the newest.
    const tile = { box, body, words, back, forth, count: 0, at: null, shown: -1, asked: 0, url: "" };
    const go = (by) => {
      const now = tile.at ?? tile.count - 1, next = Math.min(Math.max(now + by, 0), tile.count - 1);
      tile.at = next === tile.count - 1 ? null : next;
      ask(name, tile);
    };
    back.onclick = () => go(-1);
    forth.onclick = () => go(1);
    tiles.set(name, tile);
    return tile;
  }

  function button(text, label) {
    const made = document.createElement("button");
    made.className = "nbaas-link nbaas-turn";
    made.textContent = text;
    made.setAttribute("aria-label", label);
    return made;
  }

  function ask(name, tile) {
    tile.asked = Date.now();
    const at = tile.at ?? tile.count - 1;
    tile.back.disabled = at <= 0;
    tile.forth.disabled = at >= tile.count - 1;
    send({ kind: "picture", name, index: at });
  }

  function bars(body, message) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `values from ${format(message.low)} to ${format(message.high)}`);
    const both = [message.first, message], low = Math.min(...both.map((h) => h.low)), high = Math.max(...both.map((h) => h.high));
    const scale = (h) => (h.high - h.low) / h.counts.length || 1; // counts in bins of other widths are compared as densities
    const top = Math.max(...both.flatMap((h) => h.counts.map((count) => count / scale(h)))) || 1;
    const x = (value) => ((value - low) / (high - low || 1)) * WIDE;
    both.forEach((h, index) => {
      const width = scale(h), points = [`M${x(h.low)} ${HIGH}`];
      h.counts.forEach((count, at) => {
        const y = HIGH - (count / width / top) * (HIGH - 4);
        points.push(`L${x(h.low + at * width)} ${y} L${x(h.low + (at + 1) * width)} ${y}`);
      });
      const path = svg.appendChild(document.createElementNS(SVG, "path"));
      path.setAttribute("d", `${points.join(" ")} L${x(h.high)} ${HIGH} Z`);
      path.setAttribute("class", index ? "nbaas-bars" : "nbaas-bars-first");
    });
    const range = document.createElement("div");
    range.className = "nbaas-dim nbaas-range";
    const strange = message.strange ? ` · ${message.strange} NaN or ∞` : "";
    range.append(...[format(low), strange, format(high)].map((text) => Object.assign(document.createElement("span"), { textContent: text })));
    body.replaceChildren(svg, range);
  }

  return {
    // items: [{name, count, histogram}]
    update(items) {
      root.hidden = !items.length;
      items.forEach(({ name, count, histogram }, index) => {
        const tile = tileFor(name, histogram), fresh = count !== tile.count;
        tile.box.hidden = !all && index >= FIRST_TILES;
        tile.count = count;
        if (tile.box.hidden || !fresh) return;
        tile.forth.disabled = tile.at === null;
        if (tile.at === null && Date.now() - tile.asked > 500) ask(name, tile);
      });
      // One that came too soon after the last is fetched with a later update.
      tiles.forEach((tile, name) => {
        if (!tile.box.hidden && tile.at === null && tile.shown !== tile.count - 1 && Date.now() - tile.asked > 500) ask(name, tile);
      });
      more.hidden = all || items.length <= FIRST_TILES;
      more.textContent = `${items.length - FIRST_TILES} more pictures`;
      more.onclick = () => { all = true; this.update(items); };
    },
    picture(message, buffers) {
      const tile = tiles.get(message.name);
      if (!tile) return;
      tile.shown = message.index;
      tile.words.textContent = `step ${message.step}`;
      if (message.counts) return bars(tile.body, message);
      if (!buffers.length) return;
      URL.revokeObjectURL(tile.url);
      tile.url = URL.createObjectURL(new Blob([buffers[0]], { type: "image/png" }));
      tile.body.src = tile.url;
      tile.body.alt = `${message.name}, step ${message.step}`;
    },
    destroy() { tiles.forEach((tile) => URL.revokeObjectURL(tile.url)); },
  };
}
