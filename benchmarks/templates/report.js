"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const colour = name => `var(--c${data.archs.indexOf(name) % 8})`;
const round = value => value >= 100 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();

const said = value => value === null ? "not claimed" : `${round(value)} ms`;

function make(tag, attributes, parent, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.appendChild(node);
  return node;
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const step of [1, 2, 5]) {
      const tick = step * 10 ** power;
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  return ticks;
}

function linearTicks(low, high, count = 6) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(s => s * power).find(s => s >= raw), ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) ticks.push(tick);
  return ticks;
}

// A frame with axes. x and y: {low, high, log, ticks, label, format}
function plot(host, x, y, height = 360) {
  const longest = Math.max(...y.ticks.map(tick => (y.format || round)(tick).length));
  const width = Math.max(320, host.clientWidth - 20), left = Math.max(52, 26 + 7 * longest), right = 14, top = 10, bottom = 40;
  const svg = make("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${y.label} over ${x.label}`});
  const scale = (axis, from, to) => value => {
    const f = axis.log ? Math.log10 : v => v;
    return from + (to - from) * (f(value) - f(axis.low)) / (f(axis.high) - f(axis.low));
  };
  const px = scale(x, left, width - right), py = scale(y, height - bottom, top);
  const every = Math.ceil(x.ticks.length / (width / 48));
  x.ticks.forEach((tick, i) => {
    make("line", {class: "grid", x1: px(tick), x2: px(tick), y1: top, y2: height - bottom}, svg);
    if (i % every === 0)
      make("text", {x: px(tick), y: height - bottom + 16, "text-anchor": "middle"}, svg, (x.format || round)(tick));
  });
  for (const tick of y.ticks) {
    make("line", {class: "grid", x1: left, x2: width - right, y1: py(tick), y2: py(tick)}, svg);
    make("text", {x: left - 6, y: py(tick) + 4, "text-anchor": "end"}, svg, (y.format || round)(tick));
  }
  make("text", {x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle"}, svg, x.label);
  make("text", {transform: `translate(12 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle"}, svg, y.label);
  host.querySelector(":scope > svg")?.remove();
  host.querySelector(".legend") ? host.querySelector(".legend").after(svg) : host.prepend(svg);
  return {svg, px, py, width, height, left, right, top, bottom};
}

function tip(host, node, lines) {
  let box = host.querySelector(".tip");
  if (!box) { box = document.createElement("div"); box.className = "tip"; host.appendChild(box); }
  const show = () => {
    box.replaceChildren(...lines.flatMap((line, i) => {
      const part = document.createElement(i ? "span" : "strong");
      part.textContent = line;
      return [part, document.createElement("br")];
    }));
    box.style.display = "block";
    const at = node.getBoundingClientRect(), home = host.getBoundingClientRect();
    const x = Math.min(at.right - home.left + 8, home.width - box.offsetWidth - 8);
    box.style.left = `${Math.max(4, x)}px`;
    box.style.top = `${Math.max(4, at.top - home.top - box.offsetHeight - 6)}px`;
  };
  const hide = () => { box.style.display = "none"; };
  node.setAttribute("tabindex", "0");
  for (const event of ["mouseenter", "focus", "click"]) node.addEventListener(event, show);
  for (const event of ["mouseleave", "blur"]) node.addEventListener(event, hide);
}

const SHAPES = {
  fp32: (x, y) => ["circle", {cx: x, cy: y, r: 6.5}],
  fp16: (x, y) => ["rect", {x: x - 6, y: y - 6, width: 12, height: 12}],
  bf16: (x, y) => ["path", {d: `M${x} ${y - 8}L${x + 8} ${y}L${x} ${y + 8}L${x - 8} ${y}Z`}],
  int8: (x, y) => ["path", {d: `M${x} ${y - 7.5}L${x + 7.5} ${y + 6}L${x - 7.5} ${y + 6}Z`}],
};

function mark(parent, row, x, y) {
  const [tag, attributes] = SHAPES[row.precision](x, y);
  const hollow = row.backend !== data.backends[0];
  return make(tag, {...attributes, class: "mark", fill: hollow ? "var(--card)" : colour(row.arch),
    stroke: colour(row.arch), "stroke-width": 2}, parent);
}

const hidden = new Set();
const shown = () => data.rows.filter(row => ![row.arch, row.precision, row.backend, row.device].some(part => hidden.has(part)));

function drawLegend(host, redraw) {
  const legend = host.querySelector(".legend");
  if (!legend) return;
  legend.replaceChildren();
  const kinds = [["arch", data.archs], ["precision", data.precisions], ["backend", data.backends]];
  if (data.devices.length > 1) kinds.push(["device", data.devices]);
  for (const [kind, names] of kinds)
    for (const name of names) {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", !hidden.has(name));
      if (kind === "arch") {
        const dot = document.createElement("i");
        dot.style.background = colour(name);
        button.appendChild(dot);
      } else if (kind === "precision") {
        const icon = make("svg", {viewBox: "-9 -9 18 18", style: "width:13px;height:13px;flex:none"});
        const [tag, attributes] = SHAPES[name](0, 0);
        make(tag, {...attributes, fill: "var(--quiet)"}, icon);
        button.appendChild(icon);
      }
      button.append(kind === "backend" ? `${name} (${name === data.backends[0] ? "filled" : "hollow"})` : name);
      button.onclick = () => { hidden.has(name) ? hidden.delete(name) : hidden.add(name); redraw(); };
      legend.appendChild(button);
    }
}

function drawPareto() {
  const host = document.getElementById("pareto"), rows = shown().filter(r => r.top1 !== null), all = data.rows.filter(r => r.top1 !== null);
  if (!all.length) return;
  const low = Math.min(...all.map(r => r.p50)) / 1.5;
  const high = Math.max(...all.map(r => r.tail)) * 1.4;
  const bottom = Math.min(...all.map(r => r.low)) - 1, top = Math.min(100, Math.max(...all.map(r => r.high)) + 1);
  const frame = plot(host,
    {low, high, log: true, ticks: logTicks(low, high), label: "ms per frame: median, whisker to p99 (log)"},
    {low: bottom, high: top, ticks: linearTicks(bottom, top), label: "test accuracy, %"}, 420);
  const {svg, px, py} = frame;
  if (data.budget && data.budget >= low && data.budget <= high) {
    make("line", {class: "budget", x1: px(data.budget), x2: px(data.budget), y1: frame.top, y2: frame.height - frame.bottom}, svg);
    make("text", {x: px(data.budget) - 4, y: frame.top + 12, "text-anchor": "end"}, svg, `p99 budget ${round(data.budget)} ms`);
  }
  const front = [];
  for (const row of [...rows].sort((a, b) => a.p50 - b.p50 || b.top1 - a.top1))
    if (!front.length || row.top1 > front.at(-1).top1) front.push(row);
  const steps = front.map((row, i) => `${i ? "L" + px(row.p50) + " " + py(front[i - 1].top1) + " L" : "M"}${px(row.p50)} ${py(row.top1)}`);
  make("path", {class: "front", d: steps.join(" ")}, svg);
  for (const row of rows) {
    const group = make("g", {}, svg), stroke = {stroke: colour(row.arch), "stroke-width": 1, opacity: .55};
    make("line", {x1: px(row.p50), x2: px(row.p50), y1: py(row.low), y2: py(row.high), ...stroke}, group);
    make("line", {x1: px(row.p50), x2: px(row.tail), y1: py(row.top1), y2: py(row.top1), ...stroke}, group);
    if (row.role === "chosen") {
      make("circle", {class: "ring", cx: px(row.p50), cy: py(row.top1), r: 13}, group);
      const wide = 6.8 * row.name.length, x = px(row.p50), y = py(row.top1) - 12;
      const [at, anchor] = x + 17 + wide < frame.width ? [x + 17, "start"] : x - 17 - wide > frame.left ? [x - 17, "end"]
        : [(frame.left + frame.width) / 2, "middle"];
      make("text", {class: "strong", x: at, y: anchor === "middle" ? y - 8 : y, "text-anchor": anchor}, group, row.name);
    }
    mark(group, row, px(row.p50), py(row.top1));
    tip(host, group, [row.name, `${row.top1.toFixed(1)}% (${row.low.toFixed(1)} to ${row.high.toFixed(1)})`,
      `p50 ${round(row.p50)} ms, p99 ${said(row.p99)}`, `${row.mb.toFixed(2)} MB`, row.role]);
  }
}

function drawTails() {
  const host = document.getElementById("tails"), rows = shown();
  const place = percentile => -Math.log10(1 - Math.min(percentile, 99.97) / 100);
  const low = Math.min(...data.rows.map(r => r.curve[0])) / 1.2, high = Math.max(...data.rows.map(r => r.curve.at(-1))) * 1.2;
  const at = [50, 90, 99, 99.9], ticks = at.map(place);
  const {svg, px, py} = plot(host,
    {low: 0, high: place(99.97), ticks, label: "percentile of frames", format: v => `${at[ticks.indexOf(v)]}%`},
    {low, high, log: true, ticks: logTicks(low, high), label: "ms per frame (log)"}, 400);
  const dash = {fp32: "", fp16: "8 3", bf16: "2 3", int8: "6 3 1 3"};
  for (const row of rows) {
    const points = data.curve.map((p, i) => `${px(place(p))},${py(row.curve[i])}`).join(" ");
    const group = make("g", {}, svg);
    make("polyline", {points, fill: "none", stroke: "transparent", "stroke-width": 12}, group);
    make("polyline", {points, class: "mark", fill: "none", stroke: colour(row.arch), "stroke-dasharray": dash[row.precision],
      "stroke-width": row.role === "chosen" ? 3.2 : 1.6, opacity: row.backend === data.backends[0] ? 1 : .6}, group);
    tip(host, group, [row.name, `p50 ${round(row.p50)} ms`, `p90 ${said(row.p90)}`, `p99 ${said(row.p99)}`,
      `max ${round(row.curve.at(-1))} ms of ${row.n} frames`]);
  }
}

function drawReliability(host, row) {
  const {svg, px, py} = plot(host, {low: 0, high: 1, ticks: [0, .2, .4, .6, .8, 1], label: "top probability"},
    {low: 0, high: 1, ticks: [0, .2, .4, .6, .8, 1], label: "accuracy"}, 260);
  make("line", {class: "front", x1: px(0), y1: py(0), x2: px(1), y2: py(1)}, svg);
  const most = Math.max(...row.bins.map(b => b.n));
  for (const bin of row.bins) {
    const dot = make("circle", {class: "mark", cx: px(bin.confidence), cy: py(bin.accuracy), r: 2 + 7 * Math.sqrt(bin.n / most), fill: colour(row.arch), opacity: .8}, svg);
    tip(host, dot, [`${bin.n} rows`, `said ${(100 * bin.confidence).toFixed(1)}%`, `right ${(100 * bin.accuracy).toFixed(1)}%`]);
  }
}

function drawLines(host, lines, x, y, height = 260) {
  const xs = lines.flatMap(l => l.points.map(p => p[0])), ys = lines.flatMap(l => l.points.map(p => p[1]));
  const pad = (Math.max(...ys) - Math.min(...ys)) * .06 || .01;
  const xLow = Math.min(...xs), xHigh = Math.max(...xs) === xLow ? xLow + 1 : Math.max(...xs);
  const yLow = Math.min(...ys) - pad, yHigh = Math.max(...ys) + pad;
  const {svg, px, py} = plot(host, {low: xLow, high: xHigh, ticks: linearTicks(xLow, xHigh), label: x},
    {low: yLow, high: yHigh, ticks: linearTicks(yLow, yHigh, 5), label: y}, height);
  for (const line of lines) {
    const points = line.points.map(p => `${px(p[0])},${py(p[1])}`).join(" ");
    const stroke = make("polyline", {class: "mark", points, fill: "none", stroke: line.colour, "stroke-width": 2,
      "stroke-dasharray": line.dash || ""}, svg);
    tip(host, stroke, [line.name, `last ${round(line.points.at(-1)[1])}`]);
  }
}

function drawAll() {
  const redraw = () => { ["pareto", "tails"].forEach(id => drawLegend(document.getElementById(id), redraw)); drawPareto(); drawTails(); };
  redraw();
  document.querySelectorAll("[data-reliability]").forEach(host =>
    drawReliability(host, data.rows.find(row => row.name === host.dataset.reliability)));
  const risk = document.getElementById("risk");
  if (risk) drawLines(risk, data.rows.filter(r => r.shown).map(r => ({name: r.name, colour: colour(r.arch),
    dash: r.precision === "fp32" ? "" : "5 3", points: r.risk.map(([c, e]) => [100 * c, 100 * e])})), "coverage, % of rows answered", "error among them, %", 300);
  document.querySelectorAll("[data-curve]").forEach(host => {
    const lines = data.learning[host.dataset.curve];
    drawLines(host, lines.map(l => ({...l, colour: colour(l.arch)})), "epoch", host.dataset.label);
  });
}

drawAll();
let waiting;
addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(drawAll, 150); });
document.documentElement.dataset.drawn = "yes";
