"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const color = name => `var(--c${data.archs.indexOf(name) % 8})`;
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
  const step = [1, 2, 5, 10].map(factor => factor * power).find(step => step >= raw), ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) ticks.push(tick);
  return ticks;
}

// A frame with axes. x and y: {low, high, log, ticks, label, format}. Returned: px and py give the pixel of a value,
// xAt and yAt the value at a pixel.
function plot(host, x, y, height = 360) {
  const longest = Math.max(...y.ticks.map(tick => (y.format || round)(tick).length));
  const width = Math.max(320, host.clientWidth - 20), left = Math.max(52, 26 + 7 * longest), right = 14, top = 10, bottom = 40;
  const svg = make("svg", {viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `chart: ${y.label} over ${x.label}`});
  const scale = (axis, from, to) => value => {
    const along = axis.log ? Math.log10 : same => same;
    return from + (to - from) * (along(value) - along(axis.low)) / (along(axis.high) - along(axis.low));
  };
  const unscale = (axis, from, to) => place => {
    const [along, back] = axis.log ? [Math.log10, power => 10 ** power] : [same => same, same => same];
    return back(along(axis.low) + (along(axis.high) - along(axis.low)) * (place - from) / (to - from));
  };
  const px = scale(x, left, width - right), py = scale(y, height - bottom, top);
  const xAt = unscale(x, left, width - right), yAt = unscale(y, height - bottom, top);
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
  return {svg, px, py, xAt, yAt, width, height, left, right, top, bottom};
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
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", lines.join(", "));
  for (const event of ["mouseenter", "focus", "click"]) node.addEventListener(event, show);
  for (const event of ["mouseleave", "blur"]) node.addEventListener(event, hide);
}

const SHAPES = {
  fp32: (x, y) => ["circle", {cx: x, cy: y, r: 6.5}],
  fp16: (x, y) => ["rect", {x: x - 6, y: y - 6, width: 12, height: 12}],
  int8: (x, y) => ["path", {d: `M${x} ${y - 7.5}L${x + 7.5} ${y + 6}L${x - 7.5} ${y + 6}Z`}],
};

function mark(parent, row, x, y) {
  const [tag, attributes] = SHAPES[row.precision](x, y);
  const hollow = row.backend !== data.backends[0];
  return make(tag, {...attributes, class: "mark", fill: hollow ? "var(--card)" : color(row.arch),
    stroke: color(row.arch), "stroke-width": 2}, parent);
}

const hidden = new Set();
const DASH = {fp32: "", fp16: "8 3", int8: "6 3 1 3"};
const AXES = {p50: "median of a frame, ms", p99: "p99 of a frame, ms", engine: "median of the engine's call, ms",
  age: "median age at camera rate, ms", mb: "size of the file, MB"};
let across = "p50", view = null;
const visible = () => data.candidates.filter(row => ![row.arch, row.precision, row.backend, row.device].some(part => hidden.has(part)));

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
        dot.style.background = color(name);
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
  if (host.id === "pareto") drawAxisChoice(legend, redraw);
}

function drawAxisChoice(legend, redraw) {
  const label = document.createElement("label"), select = document.createElement("select");
  for (const [key, text] of Object.entries(AXES))
    if (data.candidates.some(row => row[key] !== null)) select.add(new Option(text, key, false, key === across));
  select.onchange = () => { across = select.value; view = null; redraw(); document.querySelector("#pareto select").focus(); };
  label.append("over", select);
  legend.appendChild(label);
  if (!view) return;
  const whole = document.createElement("button");
  whole.type = "button";
  whole.textContent = "show the whole";
  whole.onclick = () => { view = null; redraw(); };
  legend.appendChild(whole);
}

// Draw a box with the mouse to look closer; a touch scrolls the page as ever.
function zoom(frame, redraw) {
  const {svg} = frame;
  let start = null, box = null;
  const at = event => {
    const seen = svg.getBoundingClientRect(), unitsPerPixel = frame.width / seen.width;
    return [(event.clientX - seen.left) * unitsPerPixel, (event.clientY - seen.top) * unitsPerPixel];
  };
  svg.addEventListener("pointerdown", event => {
    if (event.pointerType === "mouse" && !event.button) start = at(event);
  });
  svg.addEventListener("pointermove", event => {
    if (!start) return;
    const [x, y] = at(event), size = {x: Math.min(x, start[0]), y: Math.min(y, start[1]),
      width: Math.abs(x - start[0]), height: Math.abs(y - start[1])};
    if (!box && size.width + size.height < 6) return;
    if (!box) { box = make("rect", {class: "box"}, svg); svg.setPointerCapture(event.pointerId); }
    for (const [key, value] of Object.entries(size)) box.setAttribute(key, value);
  });
  svg.addEventListener("pointerup", event => {
    const [x, y] = at(event), [x0, y0] = start ?? [x, y];
    box?.remove();
    start = box = null;
    if (Math.abs(x - x0) < 12 || Math.abs(y - y0) < 12) return;
    view = {x: [frame.xAt(Math.min(x, x0)), frame.xAt(Math.max(x, x0))], y: [frame.yAt(Math.max(y, y0)), frame.yAt(Math.min(y, y0))]};
    redraw();
  });
  svg.addEventListener("dblclick", () => { if (view) { view = null; redraw(); } });
}

function drawPareto(redraw) {
  const host = document.getElementById("pareto"), able = row => row.top1 !== null && row[across] !== null;
  const all = data.candidates.filter(able);
  if (!all.length) return;
  const tailed = across === "p50", label = AXES[across] + (tailed ? ", whisker to p99 (log)" : " (log)");
  let low = Math.min(...all.map(row => row[across])) / 1.5, high = Math.max(...all.map(row => tailed ? row.tail : row[across])) * 1.4;
  let bottom = Math.min(...all.map(row => row.low)) - 1, top = Math.min(100, Math.max(...all.map(row => row.high)) + 1);
  if (view) [[low, high], [bottom, top]] = [view.x, view.y];
  const inside = row => row[across] >= low && row[across] <= high && row.top1 >= bottom && row.top1 <= top;
  const rows = visible().filter(row => able(row) && inside(row)), ticks = logTicks(low, high);
  const frame = plot(host,
    {low, high, log: true, ticks: ticks.length < 3 ? linearTicks(low, high) : ticks, label},
    {low: bottom, high: top, ticks: linearTicks(bottom, top), label: "test accuracy, %"}, 420);
  const {px, py} = frame, clip = make("clipPath", {id: "inside"}, frame.svg);
  make("rect", {x: frame.left, y: frame.top, width: frame.width - frame.left - frame.right,
    height: frame.height - frame.top - frame.bottom}, clip);
  const svg = make("g", {"clip-path": "url(#inside)"}, frame.svg);
  zoom(frame, redraw);
  if (data.budget && across === "p99" && data.budget >= low && data.budget <= high) {
    make("line", {class: "budget", x1: px(data.budget), x2: px(data.budget), y1: frame.top, y2: frame.height - frame.bottom}, svg);
    make("text", {x: px(data.budget) - 4, y: frame.top + 12, "text-anchor": "end"}, svg, `p99 budget ${round(data.budget)} ms`);
  }
  const front = [];
  for (const row of [...rows].sort((a, b) => a[across] - b[across] || b.top1 - a.top1))
    if (!front.length || row.top1 > front.at(-1).top1) front.push(row);
  const steps = front.map((row, i) => `${i ? "L" + px(row[across]) + " " + py(front[i - 1].top1) + " L" : "M"}${px(row[across])} ${py(row.top1)}`);
  make("path", {class: "front", d: steps.join(" ")}, svg);
  for (const row of rows) {
    const group = make("g", {}, svg), stroke = {stroke: color(row.arch), "stroke-width": 1, opacity: .55};
    make("line", {x1: px(row[across]), x2: px(row[across]), y1: py(row.low), y2: py(row.high), ...stroke}, group);
    if (tailed) make("line", {x1: px(row.p50), x2: px(row.tail), y1: py(row.top1), y2: py(row.top1), ...stroke}, group);
    if (row.role === "chosen") {
      make("circle", {class: "ring", cx: px(row[across]), cy: py(row.top1), r: 13}, group);
      const wide = 6.8 * row.name.length, x = px(row[across]), y = py(row.top1) - 12;
      const [at, anchor] = x + 17 + wide < frame.width ? [x + 17, "start"] : x - 17 - wide > frame.left ? [x - 17, "end"]
        : [(frame.left + frame.width) / 2, "middle"];
      make("text", {class: "strong", x: at, y: anchor === "middle" ? y - 8 : y, "text-anchor": anchor}, group, row.name);
    }
    mark(group, row, px(row[across]), py(row.top1));
    tip(host, group, [row.name, `${row.top1.toFixed(1)}% (${row.low.toFixed(1)} to ${row.high.toFixed(1)})`,
      `p50 ${round(row.p50)} ms, p99 ${said(row.p99)}`, `${row.mb.toFixed(2)} MB`, row.role]);
  }
}

function drawTails() {
  const host = document.getElementById("tails"), rows = visible();
  const place = percentile => -Math.log10(1 - Math.min(percentile, 99.97) / 100);
  const low = Math.min(...data.candidates.map(row => row.percentiles_ms[0])) / 1.2, high = Math.max(...data.candidates.map(row => row.percentiles_ms.at(-1))) * 1.2;
  const at = [50, 90, 99, 99.9], ticks = at.map(place);
  const {svg, px, py} = plot(host,
    {low: 0, high: place(99.97), ticks, label: "percentile of frames", format: tick => `${at[ticks.indexOf(tick)]}%`},
    {low, high, log: true, ticks: logTicks(low, high), label: "ms per frame (log)"}, 400);
  for (const row of rows) {
    const points = data.percentiles.map((percentile, i) => `${px(place(percentile))},${py(row.percentiles_ms[i])}`).join(" ");
    const group = make("g", {}, svg);
    make("polyline", {points, fill: "none", stroke: "transparent", "stroke-width": 12}, group);
    make("polyline", {points, class: "mark", fill: "none", stroke: color(row.arch), "stroke-dasharray": DASH[row.precision],
      "stroke-width": row.role === "chosen" ? 3.2 : 1.6, opacity: row.backend === data.backends[0] ? 1 : .6}, group);
    tip(host, group, [row.name, `p50 ${round(row.p50)} ms`, `p90 ${said(row.p90)}`, `p99 ${said(row.p99)}`,
      `max ${round(row.percentiles_ms.at(-1))} ms of ${row.n} frames`]);
  }
}

function drawReliability(host, row) {
  const {svg, px, py} = plot(host, {low: 0, high: 1, ticks: [0, .2, .4, .6, .8, 1], label: "top probability"},
    {low: 0, high: 1, ticks: [0, .2, .4, .6, .8, 1], label: "accuracy"}, 260);
  make("line", {class: "front", x1: px(0), y1: py(0), x2: px(1), y2: py(1)}, svg);
  const most = Math.max(...row.bins.map(bin => bin.n));
  for (const bin of row.bins) {
    const dot = make("circle", {class: "mark", cx: px(bin.confidence), cy: py(bin.accuracy), r: 2 + 7 * Math.sqrt(bin.n / most), fill: color(row.arch), opacity: .8}, svg);
    tip(host, dot, [`${bin.n} rows`, `said ${(100 * bin.confidence).toFixed(1)}%`, `right ${(100 * bin.accuracy).toFixed(1)}%`]);
  }
}

// The names of the lines, each with its color and dash. A vertical bar belongs to the line of its color.
function drawKey(host, lines) {
  const named = lines.filter(line => line.points.some(([x]) => x !== line.points[0][0]));
  host.querySelector(".key")?.remove();
  if (named.length < 2) return;
  const key = document.createElement("div");
  key.className = "key";
  for (const line of named) {
    const item = document.createElement("span"), sample = make("svg", {viewBox: "0 0 28 4"});
    make("line", {x1: 0, x2: 28, y1: 2, y2: 2, ...strokeOf(line)}, sample);
    item.append(sample, line.name);
    key.append(item);
  }
  host.prepend(key);
}

const strokeOf = line => ({stroke: line.arch ? color(line.arch) : "var(--ink)", "stroke-width": 2,
  "stroke-dasharray": line.dash || DASH[line.precision]});

function drawLines(host, lines, x, y, height = 260, log = false) {
  const points = lines.flatMap(line => line.points), xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const pad = (Math.max(...ys) - Math.min(...ys)) * .06 || .01;
  const xLow = Math.min(...xs), xHigh = Math.max(...xs) === xLow ? xLow + 1 : Math.max(...xs);
  const yLow = log ? Math.min(...ys) / 1.15 : Math.min(...ys) - pad, yHigh = log ? Math.max(...ys) * 1.15 : Math.max(...ys) + pad;
  const {svg, px, py} = plot(host, {low: xLow, high: xHigh, ticks: linearTicks(xLow, xHigh), label: x},
    {low: yLow, high: yHigh, log, ticks: log ? logTicks(yLow, yHigh) : linearTicks(yLow, yHigh, 5), label: y}, height);
  for (const line of lines) {
    const corners = line.points.map(([x, y]) => `${px(x)},${py(y)}`).join(" ");
    const stroke = make("polyline", {class: "mark", points: corners, fill: "none", ...strokeOf(line)}, svg);
    tip(host, stroke, [line.name, `last ${round(line.points.at(-1)[1])}`]);
  }
  drawKey(host, lines);
}

function drawAll() {
  const redraw = () => { ["pareto", "tails"].forEach(id => drawLegend(document.getElementById(id), redraw)); drawPareto(redraw); drawTails(); };
  redraw();
  document.querySelectorAll("[data-reliability]").forEach(host =>
    drawReliability(host, data.candidates.find(row => row.name === host.dataset.reliability)));
  const risk = document.getElementById("risk");
  if (risk) drawLines(risk, data.candidates.filter(row => row.has_charts).map(row =>
    ({...row, points: row.risk.map(([coverage, error]) => [100 * coverage, 100 * error])})),
    "coverage, % of rows answered", "wrong, % of the answered", 300);
  document.querySelectorAll("[data-lines]").forEach(host => {
    const {lines, x, y, log} = data.lines[host.dataset.lines];
    drawLines(host, lines, x, y, log ? 340 : 200, log);
  });
  document.querySelectorAll("[data-learning]").forEach(host =>
    drawLines(host, data.learning[host.dataset.learning], "epoch", host.dataset.label));
}

drawAll();
let waiting;
addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(drawAll, 150); });
