// A chart of curves over steps on uPlot: log scale, smoothing, hover values, zoom, curves on and off.
// Rule: it only draws what it is given; colours come from the page's theme at each draw.

// Okabe and Ito's palette without yellow: told apart with any colour vision, on light and on dark.
export const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"];

const ON_DARK = ["#56B4E9", "#FF9350", "#2FC99B", "#E49BC6", "#8FD0F5", "#F0B840"]; // the same, lighter
const WHOLE = [1, 2, 5].flatMap((n) => Array.from({ length: 10 }, (_, power) => n * 10 ** power)).sort((a, b) => a - b);

const color = (index) => (document.body.dataset.jpThemeLight === "false" ? ON_DARK : COLORS)[index % COLORS.length];
const themed = (root, name, fallback) =>
  getComputedStyle(root).getPropertyValue(name).trim() || fallback;

export function format(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+∞" : "−∞";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(+value.toPrecision(4));
}

// Exponential moving average, corrected for its start (Kingma and Ba 2015, section 3).
export function smoothed(values, weight) {
  if (!weight) return values;
  let mean = 0, scale = 0;
  return values.map((value) => {
    if (value === null || !Number.isFinite(value)) return value;
    mean = weight * mean + (1 - weight) * value;
    scale = weight * scale + (1 - weight);
    return mean / scale;
  });
}

const drawable = (value, log) => Number.isFinite(value) && (!log || value > 0);

export function createChart(uPlot, parent, { title, onRange, sync, always }) {
  const root = parent.appendChild(document.createElement("div"));
  root.className = "nbaas-chart";
  const head = root.appendChild(document.createElement("div"));
  head.className = "nbaas-chart-head";
  head.appendChild(document.createElement("span")).textContent = title;
  const legend = head.appendChild(document.createElement("span"));
  legend.className = "nbaas-legend";
  const reset = head.appendChild(document.createElement("button"));
  reset.className = "nbaas-link";
  reset.textContent = "show all";
  reset.hidden = true;
  const body = root.appendChild(document.createElement("div"));
  body.className = "nbaas-plot";
  body.tabIndex = 0;
  body.setAttribute("role", "img");

  const curves = new Map(); // name -> {x, y, shown, button}
  let plot = null, log = false, weight = 0, zoom = null, strange = [];

  function table() {
    strange = [];
    const shown = [...curves.values()];
    const parts = shown.map(({ x, y }, index) => {
      const smooth = smoothed(Array.from(y), weight);
      smooth.forEach((value, at) => {
        if (value !== null && !Number.isFinite(value)) strange.push([index, x[at], value]);
      });
      return [Array.from(x), smooth.map((value) => (drawable(value, log) ? value : null))];
    });
    return parts.length ? uPlot.join(parts) : [[]];
  }

  // A NaN or an infinity has no height: a mark at the upper edge says where it happened.
  function markStrange(u) {
    const { left, top, width } = u.bbox;
    u.ctx.save();
    u.ctx.font = `${11 * devicePixelRatio}px sans-serif`;
    for (const [index, step, value] of strange.slice(0, 50)) {
      const at = u.valToPos(step, "x", true);
      if (at < left || at > left + width) continue;
      u.ctx.fillStyle = color(index);
      u.ctx.fillText(Number.isNaN(value) ? "✕" : value > 0 ? "▲" : "▼", at - 5, top + 12);
    }
    u.ctx.restore();
  }

  function build() {
    plot?.destroy();
    const ink = () => themed(root, "--nbaas-ink", "#555");
    const grid = { stroke: () => themed(root, "--nbaas-grid", "#8884"), width: 1 };
    const font = "11px system-ui, sans-serif";
    const series = [...curves.keys()].map((name, index) => ({
      label: name, stroke: () => color(index), width: 1, spanGaps: true,
      show: curves.get(name).shown, points: { show: () => curves.get(name).x.length < 60, size: 4 },
    }));
    plot = new uPlot({
      width: Math.max(body.clientWidth, 160), height: 150, legend: { show: false },
      cursor: { sync: sync ? { key: sync, setSeries: false } : undefined, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
      axes: [
        { stroke: ink, grid, ticks: grid, font, size: 26, incrs: WHOLE },
        { stroke: ink, grid, ticks: grid, font, size: 54, values: (_, at) => at.map((v) => (v === null ? "" : format(v))) },
      ],
      series: [{ label: "step" }, ...series],
      hooks: { setCursor: [showValues], setSelect: [select], draw: [markStrange] },
    }, table(), body);
    if (zoom) plot.setScale("x", zoom);
    showValues(plot);
  }

  function select(u) {
    if (u.select.width < 4) return;
    show({ min: u.posToVal(u.select.left, "x"), max: u.posToVal(u.select.left + u.select.width, "x") });
  }

  function show(range) {
    zoom = range;
    reset.hidden = range === null;
    if (range) plot?.setScale("x", range);
    onRange?.(range ? [range.min, range.max] : null);
    if (!range) redraw();
  }

  // From the cursor's place, not cursor.idx: new data resets that while the mouse rests on a step.
  const hovered = (u) => (u.cursor.left >= 0 && u.data[0].length ? u.posToIdx(u.cursor.left) : null);

  function showValues(u) {
    const at = hovered(u);
    [...curves.values()].forEach((curve, index) => {
      const value = at === null ? curve.y[curve.y.length - 1] : nearest(u.data[index + 1], at);
      curve.value.textContent = format(value);
    });
    const step = at === null ? null : u.data[0][at];
    body.dataset.step = String(step ?? "");
    body.dataset.first = String(u.data[0][0] ?? "");
    body.dataset.last = String(u.data[0][u.data[0].length - 1] ?? "");
    head.title = step === null ? "" : `step ${step}`;
    body.setAttribute("aria-label", `${title}: ` + [...curves].map(([name, c]) => `${name} ${c.value.textContent}`).join(", "));
  }

  function nearest(values, at) {
    for (let back = at; back >= 0; back--) if (values?.[back] !== null && values?.[back] !== undefined) return values[back];
    return null;
  }

  // A curve that never changes (a constant learning rate) is not worth a chart.
  const isFlat = () => ![...curves.values()].some(({ y }) => y.some((value) => value !== y[0]));

  function redraw() {
    root.hidden = !always && isFlat();
    if (!plot || plot.series.length !== curves.size + 1) return build();
    plot.setData(table(), zoom === null);
    if (zoom) { plot.redraw(); plot.setScale("x", zoom); }
    showValues(plot);
  }

  function curveNamed(name) {
    if (curves.has(name)) return curves.get(name);
    const button = legend.appendChild(document.createElement("button"));
    button.className = "nbaas-key";
    button.setAttribute("aria-pressed", "true");
    button.title = `hide or show ${name}`;
    const swatch = button.appendChild(document.createElement("i"));
    const index = curves.size;
    swatch.style.background = color(index);
    button.appendChild(document.createElement("span")).textContent = name;
    const value = button.appendChild(document.createElement("b"));
    const curve = { x: new Float64Array(), y: new Float32Array(), shown: true, value, repaint: () => { swatch.style.background = color(index); } };
    button.onclick = () => {
      curve.shown = !curve.shown;
      button.setAttribute("aria-pressed", String(curve.shown));
      plot?.setSeries([...curves.keys()].indexOf(name) + 1, { show: curve.shown });
    };
    curves.set(name, curve);
    return curve;
  }

  reset.onclick = () => show(null);
  body.ondblclick = () => show(null);
  body.onkeydown = (event) => {
    if (!plot || !curves.size) return;
    const steps = plot.data[0], now = hovered(plot) ?? steps.length - 1;
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move) {
      const at = Math.min(Math.max(now + move, 0), steps.length - 1);
      plot.setCursor({ left: plot.valToPos(steps[at], "x"), top: 10 });
    } else if (event.key === "+" || event.key === "-") {
      const { min, max } = plot.scales.x, half = (max - min) * (event.key === "+" ? 0.25 : 1), mid = steps[now];
      show({ min: Math.max(mid - half, steps[0]), max: Math.min(mid + half, steps[steps.length - 1]) });
    } else if (event.key === "0") show(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const watcher = new ResizeObserver(() => {
    if (plot && body.clientWidth > 0) plot.setSize({ width: Math.max(body.clientWidth, 160), height: 150 });
  });
  watcher.observe(body);

  return {
    root,
    set(name, x, y) { Object.assign(curveNamed(name), { x, y }); },
    append(name, x, y) {
      const curve = curveNamed(name);
      const join = (old, more) => { const all = new old.constructor(old.length + more.length); all.set(old); all.set(more, old.length); return all; };
      Object.assign(curve, { x: join(curve.x, x), y: join(curve.y, y) });
    },
    redraw,
    recolor() { curves.forEach((curve) => curve.repaint()); plot?.redraw(false, true); },
    setLog(on) { log = on; build(); },
    setSmoothing(value) { weight = value; redraw(); },
    showRange(range) { zoom = range; reset.hidden = range === null; if (plot) redraw(); },
    destroy() { watcher.disconnect(); plot?.destroy(); root.remove(); },
  };
}
