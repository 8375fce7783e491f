// Drawings of the threads view: a lane for each thread with its last operations, and the speed of the last minute.

import { say } from "./words.js";

const COLOURS = 8;
const LONGEST_GAP_US = 30000; // runs further apart are not of one picture
const SHOWN_IN_LEGEND = 8;

// The lanes of all threads, the legend of their operations, and a line about the one that is pointed at.
export class Lanes {
  constructor(place, legend, facts) {
    this.place = place;
    this.legend = legend;
    this.facts = facts;
    this.colours = new Map(); // numbers of colours by operation, in the order in which they were seen
    this.rows = new Map(); // elements by team and thread
  }

  show({ threads, runs, operations, busy, time_us: now }) {
    const shown = together(runs);
    const teams = new Set(threads.map(({ team }) => team)).size;
    const rows = threads.map((thread) => this.row(thread, teams));
    if (this.place.children.length !== rows.length) this.place.replaceChildren(...rows.map((row) => row.element));
    const begin = shown[0]?.begin_us ?? 0;
    const end = Math.max(...shown.map((run) => run.begin_us + run.duration_us));
    const palette = this.palette();
    threads.forEach((thread, i) => {
      rows[i].busy.textContent = busy ? `${Math.round(100 * busy[i])} %` : "";
      rows[i].spans = spansOf(thread, shown, operations, begin);
      paint(rows[i].canvas, rows[i].spans, end - begin, (name) => palette[this.colour(name)]);
      rows[i].length = end - begin;
    });
    this.showLegend(shown, operations);
    showSteps(shown, now, end);
  }

  row({ team, thread }, teams) {
    const id = `${team}.${thread}`;
    if (!this.rows.has(id)) this.rows.set(id, this.makeRow());
    const row = this.rows.get(id);
    const name = `${say("thread")} ${thread + 1}`;
    row.name.textContent = teams > 1 ? `${say("team")} ${team + 1} · ${name}` : name;
    row.busy.title = say("busy");
    return row;
  }

  makeRow() {
    const make = (name, className) => Object.assign(document.createElement(name), { className });
    const row = { element: make("div", "lane"), name: make("span", "lane-name"), busy: make("span", "lane-busy") };
    row.canvas = make("canvas", "lane-canvas");
    row.canvas.role = "img";
    row.canvas.addEventListener("pointermove", (event) => this.point(row, event));
    row.element.append(row.name, row.busy, row.canvas);
    return row;
  }

  point(row, event) {
    const at = (event.offsetX / row.canvas.clientWidth) * row.length;
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

// The last runs, as far back as they follow one another.
function together(runs) {
  const shown = [];
  for (const run of runs.toReversed()) {
    if (shown.length && shown[0].begin_us - run.begin_us - run.duration_us > LONGEST_GAP_US) break;
    shown.unshift(run);
  }
  return shown;
}

function spansOf({ team, thread }, runs, operations, begin) {
  return runs
    .filter((run) => run.team === team)
    .flatMap((run) =>
      run.spans
        .filter(([owner]) => owner === thread)
        .map(([, operation, at, length]) => ({ ...operations[operation], begin: run.begin_us - begin + at, length })),
    );
}

function showSteps(runs, now, end) {
  const facts = document.getElementById("steps-facts");
  if (!runs.length) {
    facts.textContent = say("noSteps");
    return;
  }
  const { rows, requests, duration_us: duration } = runs.at(-1);
  const told = [`${(duration / 1000).toFixed(1)} ms`, say("rows")(rows), say("requests")(requests)];
  const age = (now - end) / 1e6;
  if (age > 1) told.push(`${age.toFixed(0)} s ${say("ago")}`);
  facts.textContent = told.join(" · ");
}

function paint(canvas, spans, length, colour) {
  const { context, width, height } = fresh(canvas);
  const scale = width / length;
  for (const { name, begin, length: long } of spans) {
    context.fillStyle = colour(name);
    context.fillRect(begin * scale, 0, Math.max(long * scale - 0.3, 0.4), height);
  }
  canvas.ariaLabel = `${spans.length}`;
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
