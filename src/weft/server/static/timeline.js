// Drawings of the threads view: a lane for each thread with its operations, and the speed of the last minute.

import { say } from "./words.js";

const COLOURS = 8;
const SHOWN_IN_LEGEND = 8;

// The lanes of all threads, the legend of their operations, and a line about the one that is pointed at.
export class Lanes {
  constructor(place, zoom, legend, facts) {
    this.place = place;
    this.zoom = zoom;
    this.legend = legend;
    this.facts = facts;
    this.colours = new Map(); // numbers of colours by operation, in the order in which they were seen
    this.rows = new Map(); // by team and thread
    this.length = 1; // of the step, in µs
    this.held = false; // while somebody points at an operation, they stay
    place.addEventListener("pointerenter", () => (this.held = true));
    place.addEventListener("pointerleave", () => (this.held = false));
    zoom.addEventListener("input", () => this.paint());
  }

  show({ threads, runs, operations, busy, time_us: now }) {
    const teams = new Set(threads.map(({ team }) => team)).size;
    const rows = threads.map((thread) => this.row(thread, teams));
    if (this.place.children.length !== rows.length) this.place.replaceChildren(...rows.map((row) => row.element));
    rows.forEach((row, i) => (row.busy.textContent = busy ? `${Math.round(100 * busy[i])} %` : ""));
    if (this.held) return;
    const shown = lastStep(runs);
    const begin = Math.min(...shown.map((run) => run.begin_us));
    const end = Math.max(...shown.map((run) => run.begin_us + run.duration_us));
    this.length = Math.max(end - begin, 1);
    threads.forEach((thread, i) => (rows[i].spans = spansOf(thread, shown, operations, begin)));
    this.paint();
    this.showLegend(shown, operations);
    showFacts(shown, now, end);
  }

  paint() {
    const palette = this.palette();
    const width = this.place.clientWidth * 2 ** this.zoom.value;
    for (const { canvas, spans } of this.rows.values()) {
      canvas.style.width = `${width}px`;
      paintSpans(canvas, spans, this.length, (name) => palette[this.colour(name)]);
    }
  }

  row({ team, thread }, teams) {
    const id = `${team}.${thread}`;
    if (!this.rows.has(id)) this.rows.set(id, this.makeRow());
    const row = this.rows.get(id);
    const name = `${say("thread")} ${thread + 1}`;
    row.name.textContent = teams > 1 ? `${say("team")} ${team + 1} · ${name}` : name;
    row.busy.title = say("busy");
    row.canvas.ariaLabel = row.name.textContent;
    return row;
  }

  makeRow() {
    const make = (name, className) => Object.assign(document.createElement(name), { className });
    const row = { element: make("div", "lane"), name: make("span"), busy: make("span"), spans: [] };
    const head = make("div", "lane-head");
    head.append(row.name, row.busy);
    row.canvas = make("canvas", "lane-canvas");
    row.canvas.role = "img";
    row.canvas.addEventListener("pointermove", (event) => this.point(row, event));
    row.element.append(head, row.canvas);
    return row;
  }

  point(row, event) {
    const at = (event.offsetX / row.canvas.clientWidth) * this.length;
    const found = row.spans.find(({ begin, length }) => at >= begin && at < begin + length);
    if (found) this.facts.textContent = `${found.name} · ${found.where || "–"} · ${found.length.toFixed(1)} µs`;
  }

  colour(name) {
    if (!this.colours.has(name)) this.colours.set(name, this.colours.size % COLOURS);
    return this.colours.get(name);
  }

  // The style sheet's colours as a canvas takes them.
  palette() {
    const probe = this.legend.appendChild(document.createElement("i"));
    const colours = Array.from({ length: COLOURS }, (_, i) => {
      probe.className = `op op-${i}`;
      return getComputedStyle(probe).backgroundColor;
    });
    probe.remove();
    return colours;
  }

  showLegend(runs, operations) {
    const times = new Map();
    for (const { spans } of runs) {
      for (const [, operation, , length] of spans) {
        const { name } = operations[operation];
        times.set(name, (times.get(name) ?? 0) + length);
      }
    }
    const total = [...times.values()].reduce((a, b) => a + b, 0);
    const first = [...times].sort((a, b) => b[1] - a[1]).slice(0, SHOWN_IN_LEGEND);
    this.legend.replaceChildren(...first.map(([name, time]) => this.legendItem(name, time / total)));
  }

  legendItem(name, part) {
    const item = document.createElement("li");
    const mark = document.createElement("i");
    mark.className = `op op-${this.colour(name)}`;
    const text = document.createElement("span");
    text.textContent = name.replaceAll("+", " + ");
    const number = document.createElement("b");
    number.textContent = `${(100 * part).toFixed(0)} %`;
    item.append(mark, text, number);
    return item;
  }
}

// The last run, and those of other teams at the same time.
const lastStep = (runs) => runs.filter((run) => run.begin_us + run.duration_us > runs.at(-1).begin_us);

function spansOf({ team, thread }, runs, operations, begin) {
  return runs
    .filter((run) => run.team === team)
    .flatMap((run) =>
      run.spans
        .filter(([owner]) => owner === thread)
        .map(([, operation, at, length]) => ({ ...operations[operation], begin: run.begin_us - begin + at, length })),
    );
}

function showFacts(runs, now, end) {
  const facts = document.getElementById("step-facts");
  if (!runs.length) {
    facts.textContent = say("noStep");
    return;
  }
  const { rows, requests, duration_us: duration } = runs.at(-1);
  const told = [`${(duration / 1000).toFixed(1)} ms`, say("rows")(rows), say("requests")(requests)];
  const age = (now - end) / 1e6;
  if (age > 1) told.push(`${age.toFixed(0)} s ${say("ago")}`);
  facts.textContent = told.join(" · ");
}

function paintSpans(canvas, spans, length, colour) {
  const { context, width, height } = fresh(canvas);
  const scale = width / length;
  for (const { name, begin, length: long } of spans) {
    context.fillStyle = colour(name);
    context.fillRect(begin * scale, 0, Math.max(long * scale - 0.3, 0.4), height);
  }
}

// Draws `values` as an area, the newest at the right, of `count` places.
export function drawHistory(canvas, values, count) {
  const { context, width, height } = fresh(canvas);
  const top = Math.max(10, ...values) * 1.15;
  const x = (i) => width - ((values.length - 1 - i) * width) / (count - 1);
  const y = (value) => height - 1 - (value / top) * (height - 2);
  const colour = getComputedStyle(canvas).color;
  context.beginPath();
  values.forEach((value, i) => context.lineTo(x(i), y(value)));
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  context.stroke();
  context.lineTo(width, height);
  context.lineTo(x(0), height);
  context.globalAlpha = 0.14;
  context.fillStyle = colour;
  if (values.length > 1) context.fill();
}

// The canvas emptied, at the screen's resolution.
function fresh(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  return { context, width, height };
}
