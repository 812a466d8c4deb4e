// The list of images. A row shows one image, with the state of its runs and what can be done.

import { resultAddress } from "./api.js";
import { element } from "./dom.js";
import { nameRun } from "./photo.js";
import { duration, megapixels, size } from "./text.js";

/** One image in the list. `actions` has select, cancel, dismiss and remove. */
export class Row {
  constructor(photo, actions) {
    this.photo = photo;
    this.actions = actions;
    this.runRows = new Map();
    this.thumbnail = element("span", { className: "thumbnail" });
    this.meta = element("span", { className: "muted small" });
    this.select = element(
      "button", { type: "button", className: "row-select", "aria-pressed": "false" },
      this.thumbnail,
      element("span", { className: "row-text" },
        element("span", { className: "row-name" }, photo.name), this.meta),
    );
    this.select.addEventListener("click", () => actions.select(photo));
    const remove = element("button", {
      type: "button", className: "icon-button", "aria-label": `Remove ${photo.name}`, title: "Remove",
    }, "×");
    remove.addEventListener("click", () => actions.remove(photo));
    this.error = element("p", { className: "error", hidden: true });
    this.runs = element("ul", { className: "runs" });
    this.element = element("li", { className: "row" },
      this.select, remove, element("div", { className: "row-body" }, this.error, this.runs));
    this.update(false);
  }

  update(isSelected) {
    const { photo } = this;
    this.select.setAttribute("aria-pressed", String(isSelected));
    this.element.classList.toggle("selected", isSelected);
    this.meta.textContent = describePhoto(photo);
    if (photo.local !== null && this.thumbnail.firstChild === null) {
      this.thumbnail.append(element("img", { src: photo.local, alt: "" }));
    }
    this.error.hidden = photo.error === null;
    this.error.textContent = photo.error ?? "";
    for (const [run, row] of this.runRows) {
      if (photo.runs.includes(run)) continue;
      row.element.remove();
      this.runRows.delete(run);
    }
    for (const run of photo.runs) {
      if (!this.runRows.has(run)) {
        const row = new RunRow(run, this.actions);
        this.runRows.set(run, row);
        this.runs.append(row.element);
      }
      this.runRows.get(run).update();
    }
  }
}

/** One restoration below its image. */
class RunRow {
  constructor(run, actions) {
    this.run = run;
    const name = nameRun(run);
    this.progress = element("progress", { max: 1, "aria-label": `${run.image.name}, ${name}` });
    this.state = element("p", { className: "run-state small" });
    this.notes = element("ul", { className: "notes small" });
    this.cancel = element("button", {
      type: "button", className: "small-button", "aria-label": `Cancel ${run.image.name}, ${name}`,
    }, "Cancel");
    this.cancel.addEventListener("click", () => actions.cancel(run));
    this.download = element("a", {
      className: "button small-button", download: "",
      "aria-label": `Download ${run.image.name}, ${name}`,
    }, "Download");
    this.element = element("li", { className: "run" },
      element("div", { className: "run-head" },
        element("span", { className: "run-name" }, name), this.cancel, this.download),
      this.progress, this.state, this.notes);
  }

  update() {
    const { run } = this;
    const hadFocus = document.activeElement === this.cancel;
    this.progress.hidden = !run.isActive || run.state === "waiting";
    const { windows_done: done, windows: total } = run.progress;
    if (run.state === "restoring" && total) this.progress.value = done / total;
    else this.progress.removeAttribute("value"); // without a value the bar only says "busy"
    this.state.textContent = describeRun(run);
    this.state.classList.toggle("error", run.state === "failed");
    this.cancel.hidden = !run.isActive;
    this.download.hidden = run.state !== "done";
    if (run.state === "done" && this.download.getAttribute("href") === null) {
      this.download.href = resultAddress(run.id);
      this.notes.replaceChildren(...describeNotes(run).map((text) => element("li", {}, text)));
      if (hadFocus) this.download.focus();
    }
    this.notes.hidden = this.notes.childElementCount === 0;
  }
}

function describePhoto(photo) {
  if (photo.width === 0) return photo.error === null ? "Reading …" : size(photo.file.size);
  return `${photo.width} × ${photo.height}, ${size(photo.file.size)}`;
}

/** The state of a run as a line of text. */
export function describeRun(run) {
  const at = run.progress;
  switch (run.state) {
    case "waiting": return "Waits for the images before it.";
    case "sending": return "Reading the image …";
    case "busy": return "The server is busy. Trying again …";
    case "queued": return `Number ${at.queue_position} in the queue of the server.`;
    case "compiling": return "Preparing the network for this size …";
    case "restoring": return describeProgress(at);
    case "writing": return "Writing the file …";
    case "done":
      return `Done in ${duration(at.seconds)}. ${run.result.name}, ${size(run.result.bytes)}.`;
    case "failed": return run.error;
    case "canceled": return "Canceled.";
    default: throw new Error(`unknown state ${run.state}`);
  }
}

/** What the user should know about a result: the server's remarks, and what could not be kept. */
function describeNotes(run) {
  const { left_out: leftOut, notes } = run.progress;
  return leftOut.length > 0 ? [...notes, `Not kept: ${leftOut.join(", ")}.`] : notes;
}

function describeProgress(at) {
  const parts = [];
  if (at.windows > 1) parts.push(`${at.windows_done} of ${at.windows} windows`);
  if (at.eta_seconds !== null) parts.push(`about ${duration(at.eta_seconds)} left`);
  if (at.megapixels_per_second) parts.push(`${megapixels(at.megapixels_per_second)}/s`);
  return parts.length > 0 ? parts.join(", ") : "Restoring …";
}
