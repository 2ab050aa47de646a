// The live panel of one job: header, progress, curves, a row per rank, logs, what was distributed.
// Rule: every word that comes from a user is set as text, never as HTML.
import { createChart, format } from "./chart.js";
import { createGallery } from "./gallery.js";

const SPEEDS = ["off", "light", "strong"], WEIGHTS = { off: 0, light: 0.7, strong: 0.95 };
const FIRST = ["loss", "score"]; // charts that come first
const FIRST_CHARTS = 6, FIRST_RANKS = 8; // what is more is shown on request
const LIVE = ["CREATED", "STARTING", "RUNNING", "RESTARTING", "STOPPING", "CANCELLING"];

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const clock = (seconds) => {
  const whole = Math.max(0, Math.round(seconds)), two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
};
const amount = (bytes) => (bytes ? (bytes >= 1 << 30 ? `${(bytes / (1 << 30)).toFixed(1)} GB` : `${Math.round(bytes / (1 << 20))} MB`) : "–");
const percent = (part) => (part === null || part === undefined ? "–" : `${Math.round(part * 100)} %`);
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };

// host: { view(): state, send(message) }; returns { update(view), data(message, buffers), destroy() }.
export function createPanel(uPlot, root, host) {
  root.classList.add("nbaas-panel");
  let view = {}, since = Date.now(), pressed = 0, log = false, smoothing = "off", openRank = null, tailed = false, asked = 0, rows = [];
  const charts = new Map(), group = `nbaas-${Math.random().toString(36).slice(2)}`;

  const header = root.appendChild(element("div", "nbaas-header"));
  const name = header.appendChild(element("b", "nbaas-name"));
  const state = header.appendChild(element("span", "nbaas-state"));
  state.setAttribute("role", "status");
  const where = header.appendChild(element("span", "nbaas-dim"));
  const time = header.appendChild(element("span", "nbaas-dim nbaas-time"));
  const checkpoint = header.appendChild(element("button", "nbaas-button", "Checkpoint"));
  checkpoint.title = "Save at the end of the loop's turn, and go on";
  const stop = header.appendChild(element("button", "nbaas-button nbaas-stop", "Stop"));
  const reason = root.appendChild(element("div", "nbaas-reason"));
  const progress = root.appendChild(element("div", "nbaas-progress"));
  const bar = progress.appendChild(element("div", "nbaas-bar"));
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-label", "progress of the epoch");
  const filled = bar.appendChild(element("div"));
  const progressText = progress.appendChild(element("span", "nbaas-dim"));
  const stats = root.appendChild(element("div", "nbaas-stats"));
  const tools = root.appendChild(element("div", "nbaas-tools"));
  const logScale = tools.appendChild(element("button", "nbaas-link", "log scale"));
  logScale.setAttribute("aria-pressed", "false");
  const smoother = tools.appendChild(element("button", "nbaas-link", "smoothing: off"));
  const moreCharts = tools.insertBefore(element("button", "nbaas-link"), logScale);
  const area = root.appendChild(element("div", "nbaas-charts"));
  const table = root.appendChild(element("table", "nbaas-ranks"));
  const moreRanks = root.appendChild(element("button", "nbaas-link"));
  const notes = root.appendChild(element("div", "nbaas-notes nbaas-dim"));
  const logs = root.appendChild(element("pre", "nbaas-log"));
  logs.tabIndex = 0;
  const gallery = createGallery(root, (message) => host.send(message));
  const facts = root.appendChild(element("details", "nbaas-facts"));
  facts.appendChild(element("summary", "", "what was sharded, split, gathered"));
  const factLines = facts.appendChild(element("div"));

  stop.onclick = () => {
    pressed += 1;
    host.send({ kind: pressed > 1 ? "kill" : "stop" });
    drawHeader();
  };
  checkpoint.onclick = () => host.send({ kind: "checkpoint" });
  moreCharts.hidden = true;
  moreCharts.onclick = () => {
    area.classList.toggle("nbaas-all");
    drawTools();
    charts.forEach((chart) => chart.redraw());
  };
  moreRanks.onclick = () => {
    table.classList.toggle("nbaas-all");
    drawRanks();
  };
  logScale.onclick = () => {
    log = !log;
    logScale.setAttribute("aria-pressed", String(log));
    charts.forEach((chart) => chart.setLog(log));
  };
  smoother.onclick = () => {
    smoothing = SPEEDS[(SPEEDS.indexOf(smoothing) + 1) % SPEEDS.length];
    put(smoother, `smoothing: ${smoothing}`);
    charts.forEach((chart) => chart.setSmoothing(WEIGHTS[smoothing]));
  };

  function drawHeader() {
    const live = LIVE.includes(view.state);
    put(name, view.name ?? "");
    put(state, [view.state, ...(view.flags ?? []).map((flag) => flag.toLowerCase().replace("_", " "))].filter(Boolean).join(" · "));
    root.dataset.state = view.state ?? "";
    put(where, [view.where, view.engine].filter(Boolean).join(" · "));
    put(reason, view.reason ?? "");
    stop.hidden = !live;
    checkpoint.hidden = !live || !view.can_checkpoint;
    put(stop, pressed ? "Kill" : "Stop");
    stop.title = pressed ? "End the ranks at once" : "Finish the running step, return the model";
    drawTime();
  }

  function drawTime() {
    const live = LIVE.includes(view.state), shown = (view.elapsed ?? 0) + (live ? (Date.now() - since) / 1000 : 0);
    const eta = live && view.progress?.eta ? ` · ${clock(view.progress.eta)} left` : "";
    put(time, clock(shown) + eta);
  }

  function drawProgress() {
    const { epoch, epochs, batch, batches } = view.progress ?? {};
    const part = view.progress?.part ?? (batches ? batch / batches : null);
    progress.hidden = !epoch && !batch && !view.step;
    filled.style.width = part === null ? "0" : `${Math.min(100, part * 100)}%`;
    part === null ? bar.removeAttribute("aria-valuenow") : bar.setAttribute("aria-valuenow", String(Math.round(part * 100)));
    const words = [];
    if (epoch) words.push(`epoch ${epoch}${epochs ? ` of ${epochs}` : ""}`);
    if (batch) words.push(`batch ${batch}${batches ? ` of ${batches}` : ""}`);
    if (view.step) words.push(`step ${view.step}`);
    put(progressText, words.join(" · "));
  }

  function drawStats() {
    stats.replaceChildren(...(view.stats ?? []).map(({ name: label, value, best }) => {
      const box = element("span", "nbaas-stat");
      box.append(element("span", "nbaas-dim", label), element("b", "", typeof value === "string" ? value : format(value)));
      if (best !== undefined && best !== null) box.append(element("span", "nbaas-dim", `best ${typeof best === "string" ? best : format(best)}`));
      return box;
    }));
  }

  // Rows are made once and then only refilled: a button keeps its focus while numbers change.
  function drawRanks() {
    const ranks = view.ranks ?? [], hasGpu = ranks.some((rank) => rank.gpu);
    table.hidden = !ranks.length;
    if (rows.length !== ranks.length) {
      rows = ranks.map(() => rankRow());
      table.replaceChildren(tableHead(), ...rows.map(({ row }) => row));
    }
    table.classList.toggle("nbaas-no-gpu", !hasGpu);
    moreRanks.hidden = ranks.length <= FIRST_RANKS;
    put(moreRanks, table.classList.contains("nbaas-all") ? "fewer ranks" : `all ${ranks.length} ranks`);
    ranks.forEach((rank, index) => {
      const { row, cells, open, remark } = rows[index];
      const shown = openRank === rank.rank;
      const texts = [String(rank.rank), rank.state, String(rank.step ?? "–"), rank.step_ms ? format(rank.step_ms) : "–",
        percent(rank.wait), percent(rank.cpu), amount(rank.memory), rank.gpu ?? "–"];
      texts.forEach((text, at) => put(cells[at], text));
      row.classList.toggle("nbaas-slow", Boolean(rank.slow));
      row.classList.toggle("nbaas-extra", index >= FIRST_RANKS && !rank.slow);
      put(remark, rank.slow ? "slowest" : "");
      put(open, "log");
      open.setAttribute("aria-pressed", String(shown));
      open.setAttribute("aria-expanded", String(shown));
      open.onclick = () => showLog(shown ? null : rank.rank);
    });
  }

  function tableHead() {
    const head = element("tr");
    const hints = { waits: "the part of a step in which the rank waits for others", CPU: "of one core" };
    head.append(...["rank", "state", "step", "ms/step", "waits", "CPU", "memory", "GPU", ""].map((text) => {
      const cell = element("th", "", text);
      if (hints[text]) cell.title = hints[text];
      return cell;
    }));
    return head;
  }

  function rankRow() {
    const row = element("tr"), cells = Array.from({ length: 8 }, () => row.appendChild(element("td")));
    const last = row.appendChild(element("td"));
    const remark = last.appendChild(element("span", "nbaas-remark"));
    return { row, cells, open: last.appendChild(element("button", "nbaas-link")), remark };
  }

  function showLog(rank) {
    openRank = rank;
    tailed = true;
    asked = Date.now();
    logs.hidden = rank === null;
    put(logs, "");
    host.send({ kind: "log", rank });
    drawRanks();
  }

  function drawFacts() {
    const lines = view.facts ?? [];
    facts.hidden = !lines.length;
    factLines.replaceChildren(...lines.map((line) => element("div", "", line)));
    const told = [view.scaling, view.cost, view.left_out ? `${view.left_out} more series: job.metrics()` : ""].filter(Boolean);
    notes.hidden = !told.length;
    put(notes, told.join("\n"));
  }

  function drawTools() {
    const extra = charts.size - FIRST_CHARTS, all = area.classList.contains("nbaas-all");
    tools.hidden = charts.size === 0;
    moreCharts.hidden = extra <= 0;
    put(moreCharts, all ? "fewer charts" : `${extra} more chart${extra === 1 ? "" : "s"}`);
  }

  function chartFor(title) {
    if (!charts.has(title)) {
      const onRange = (range) => {
        host.send({ kind: "range", range });
        charts.forEach((chart, other) => other !== title && chart.showRange(range && { min: range[0], max: range[1] }));
      };
      const chart = createChart(uPlot, area, { title, sync: group, onRange, always: FIRST.includes(title) });
      chart.root.style.order = FIRST.includes(title) ? FIRST.indexOf(title) : FIRST.length;
      if (log) chart.setLog(true);
      if (smoothing !== "off") chart.setSmoothing(WEIGHTS[smoothing]);
      chart.root.classList.toggle("nbaas-extra", charts.size >= FIRST_CHARTS);
      charts.set(title, chart);
      drawTools();
    }
    return charts.get(title);
  }

  function typed(buffer, Type) {
    const bytes = buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength);
    return new Type(bytes);
  }

  // "curves": { reset, curves: [{name, group}] } with x (float64) and y (float32) of each as buffers.
  function data(message, buffers) {
    if (message.kind === "log" && message.rank === openRank) {
      const atEnd = logs.scrollTop + logs.clientHeight >= logs.scrollHeight - 8;
      put(logs, message.text);
      if (atEnd) logs.scrollTop = logs.scrollHeight;
    }
    if (message.kind === "picture") gallery.picture(message, buffers);
    if (message.kind !== "curves") return;
    const changed = new Set();
    message.curves.forEach((curve, index) => {
      const chart = chartFor(curve.group);
      const x = typed(buffers[2 * index], Float64Array), y = typed(buffers[2 * index + 1], Float32Array);
      message.reset ? chart.set(curve.name, x, y) : chart.append(curve.name, x, y);
      changed.add(chart);
    });
    changed.forEach((chart) => chart.redraw());
  }

  function update(next) {
    if (next.state !== view.state && !LIVE.includes(next.state)) pressed = 0;
    view = next;
    since = Date.now();
    if (view.state === "STOPPING" && pressed === 0) pressed = 1;
    drawHeader(); drawProgress(); drawStats(); drawRanks(); drawFacts();
    gallery.update(view.pictures ?? []);
    if (view.tail && openRank === null && !tailed) showLog(0);
    // An open log grows with the run; once a second is as often as anybody reads.
    if (openRank !== null && Date.now() - asked > 1000) {
      asked = Date.now();
      host.send({ kind: "log", rank: openRank });
    }
  }

  const ticking = setInterval(drawTime, 1000);
  const theme = new MutationObserver(() => charts.forEach((chart) => chart.recolor()));
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  logs.hidden = true;
  return {
    update, data,
    destroy() { clearInterval(ticking); theme.disconnect(); gallery.destroy(); charts.forEach((chart) => chart.destroy()); },
  };
}
