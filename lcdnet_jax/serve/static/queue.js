// The runs that wait: the page sends one image at a time, so that many images do not fill the
// server's queue.

import { deleteJob, followJob, readJob, ServerError, sleep, startJob } from "./api.js";

const BUSY = 429;
const LONGEST_WAIT = 3; // seconds between two attempts while the server is busy
const GRACE = 1; // seconds after which a canceled image is no longer sent

/** One restoration of an image with some weights. */
export class Run {
  constructor(image, weights, strength) {
    this.image = image;
    this.weights = weights;
    this.strength = strength; // 0 to 1, or null for weights without it
    this.state = "waiting"; // then "sending", and the states of the server
    this.id = null;
    this.progress = {}; // the last state of the server
    this.error = null;
    this.result = null;
  }

  get isActive() {
    return !["done", "failed", "canceled"].includes(this.state);
  }
}

export class Queue {
  /** `onChange(run)` is called after each change of a run. */
  constructor(onChange) {
    this.onChange = onChange;
    this.waiting = [];
    this.isBusy = false;
  }

  add(run) {
    this.waiting.push(run);
    this.onChange(run);
    this.work();
  }

  /** Cancels a run, whether it waits, is being sent or runs. */
  cancel(run) {
    if (!run.isActive) return;
    this.waiting = this.waiting.filter((other) => other !== run);
    this.change(run, { state: "canceled" });
    // Not at once: if the server has just made the job, its answer tells the id to delete.
    setTimeout(() => run.abort?.abort(), 1000 * GRACE);
    if (run.id !== null) deleteJob(run.id).catch(() => {}); // the job may just have ended
  }

  /** Asks whether the server still has the result of a run. */
  async check(run) {
    if (run.state !== "done") return;
    try {
      await readJob(run.id);
    } catch (error) {
      this.change(run, { state: "failed", error: error.message });
    }
  }

  change(run, values) {
    if (run.state === "canceled") return; // states that were on their way
    Object.assign(run, values);
    this.onChange(run);
  }

  async work() {
    if (this.isBusy) return;
    this.isBusy = true;
    while (this.waiting.length > 0) await this.restore(this.waiting.shift());
    this.isBusy = false;
  }

  async restore(run) {
    try {
      const job = await this.send(run);
      if (run.state === "canceled") {
        deleteJob(job.id).catch(() => {});
        return;
      }
      run.id = job.id;
      run.image.describe(job);
      const end = await followJob(job.id, (state) => this.change(run, readState(state)));
      this.change(run, readState(end));
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ServerError)) console.error(error); // the next image must be sent
      this.change(run, { state: "failed", error: error.message });
    }
  }

  async send(run) {
    for (;;) {
      run.abort = new AbortController();
      this.change(run, { state: "sending" });
      try {
        return await startJob(run.image.file, run.weights, run.strength, run.abort.signal);
      } catch (error) {
        if (error.status !== BUSY) throw error;
        this.change(run, { state: "busy" });
        await sleep(Math.min(error.retryAfter ?? 2, LONGEST_WAIT));
        if (run.state === "canceled") throw new DOMException("canceled", "AbortError");
      }
    }
  }
}

function readState(state) {
  return {
    state: state.state,
    progress: state,
    error: state.error,
    result: state.result,
  };
}
