// The live view of the server's threads: asks a few times a second while it is open and seen.

import { ApiError, readThreads } from "./api.js";
import { drawHistory, Lanes } from "./timeline.js";
import { say } from "./words.js";

const PERIOD_MS = 500;
const HISTORY = 120; // samples: a minute
const byId = (id) => document.getElementById(id);

export class ThreadsView {
  constructor(keyWanted) {
    this.keyWanted = keyWanted;
    this.lanes = new Lanes(byId("lanes"), byId("zoom"), byId("legend"), byId("span-facts"));
    this.history = [];
    this.last = null; // the sample before
    this.asking = null; // what ends the loop; null where the view is closed
    addEventListener("resize", () => this.draw());
  }

  open() {
    this.close();
    this.asking = new AbortController();
    this.watch(this.asking.signal);
  }

  close() {
    this.asking?.abort();
    this.asking = null;
    this.last = null;
  }

  // Draws the last sample again, in the colours, language and width of now.
  draw() {
    if (this.asking && this.sample) this.show(this.sample);
  }

  async watch(signal) {
    while (!signal.aborted) {
      if (!document.hidden) await this.ask(signal);
      await new Promise((resume) => setTimeout(resume, PERIOD_MS));
    }
  }

  async ask(signal) {
    try {
      const sample = await readThreads(signal);
      byId("threads-error").hidden = true;
      this.take(sample);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      byId("threads-error").textContent = error.message || say("offline");
      byId("threads-error").hidden = false;
      if (error.status === 401) {
        this.close();
        this.keyWanted();
      }
    }
  }

  take(sample) {
    const { last } = this;
    if (last && sample.time_us > last.time_us && sample.tokens >= last.tokens) {
      const us = sample.time_us - last.time_us;
      this.history.push((1e6 * (sample.tokens - last.tokens)) / us);
      this.history.splice(0, this.history.length - HISTORY);
      sample.busy = sample.threads.map((thread, i) => share(thread.busy_ns - (last.threads[i]?.busy_ns ?? 0), us));
    }
    this.last = this.sample = sample;
    this.show(sample);
  }

  show(sample) {
    const { requests, kv } = sample;
    const rate = this.history.at(-1);
    byId("t-rate").textContent = rate === undefined ? "–" : rate.toFixed(rate < 100 ? 1 : 0);
    byId("t-running").textContent = requests.running;
    byId("t-waiting").textContent = requests.waiting;
    drawHistory(byId("history"), this.history, HISTORY);
    byId("history").ariaLabel = say("historyLabel");
    showMemory(kv);
    this.lanes.show(sample);
  }
}

const share = (ns, us) => Math.min(1, Math.max(0, ns / (1000 * us)));

function showMemory({ blocks, used, idle, bytes }) {
  const size = (count) => mebibytes((count * bytes) / blocks);
  const free = blocks - used - idle;
  byId("kv-used").style.width = `${(100 * used) / blocks}%`;
  byId("kv-idle").style.width = `${(100 * idle) / blocks}%`;
  byId("kv-used-text").textContent = `${say("used")} ${size(used)}`;
  byId("kv-idle-text").textContent = `${say("idle")} ${size(idle)}`;
  byId("kv-free-text").textContent = `${say("free")} ${size(free)}`;
  byId("kv-bar").ariaLabel = `${say("kv")}: ${say("used")} ${size(used)} / ${size(blocks)}`;
}

function mebibytes(bytes) {
  const mib = bytes / 2 ** 20;
  if (!bytes) return "0";
  return mib >= 1024 ? `${(mib / 1024).toFixed(2)} GiB` : `${mib.toFixed(mib < 10 ? 1 : 0)} MiB`;
}
