// An image that the user has added, with a picture of it to look at.

import { makePreview, previewAddress } from "./api.js";

const PREVIEW = 2048; // longest side of an overview, in pixels
const REFUSED = [413, 415, 422]; // answers that will not change when asked again
const LARGEST_LOCAL = 48e6; // bytes; the browser would decode larger files slowly

export class Photo {
  constructor(file) {
    this.file = file;
    this.name = file.name;
    this.width = 0; // upright, in pixels; 0 until known
    this.height = 0;
    this.local = null; // a blob address that the browser can show
    this.isWhole = false; // `local` has every pixel
    this.error = null; // why there is no picture of it
    this.isRefused = false; // the server cannot restore it
    this.runs = [];
  }

  get megapixels() {
    return (this.width * this.height) / 1e6;
  }

  get finished() {
    return this.runs.filter((run) => run.state === "done");
  }

  /** Finds a picture of the file: from the browser if it can, otherwise from the server. */
  async prepare() {
    if (this.file.size <= LARGEST_LOCAL && (await this.decodeLocally())) return;
    try {
      const preview = await makePreview(this.file, PREVIEW);
      this.local = URL.createObjectURL(preview.blob);
      Object.assign(this, { width: preview.width, height: preview.height });
      this.isWhole = Math.max(this.width, this.height) <= PREVIEW;
    } catch (error) {
      this.error = error.message;
      this.isRefused = REFUSED.includes(error.status);
    }
  }

  async decodeLocally() {
    const address = URL.createObjectURL(this.file);
    const image = new Image();
    image.src = address;
    try {
      await image.decode();
    } catch {
      URL.revokeObjectURL(address);
      return false;
    }
    this.local = address;
    this.isWhole = true;
    Object.assign(this, { width: image.naturalWidth, height: image.naturalHeight });
    return true;
  }

  /** Takes the size from a job of the server, which has read the file. */
  describe(job) {
    Object.assign(this, { width: job.width, height: job.height });
  }

  /** The image itself, as a source of the viewer. */
  original() {
    const run = this.finished[0];
    if (run !== undefined) return serverSource(run, "before", "Original", this.width, this.height);
    return {
      key: `local ${this.local}`, label: "Original", width: this.width, height: this.height,
      overview: this.local, crop: null, isExact: this.isWhole, run: null,
    };
  }

  /** The result of a run, as a source of the viewer; `scale` is that of its weights. */
  result(run, scale) {
    const label = nameRun(run);
    return serverSource(run, "after", label, this.width * scale, this.height * scale);
  }

  forget() {
    if (this.local !== null) URL.revokeObjectURL(this.local);
  }
}

function serverSource(run, which, label, width, height) {
  return {
    key: `${which} ${run.id}`, label, width, height,
    overview: previewAddress(run.id, which, { size: PREVIEW }),
    crop: (x, y, w, h) => previewAddress(run.id, which, { x, y, w, h }),
    isExact: Math.max(width, height) <= PREVIEW,
    run,
  };
}

/** The weights of a run, with its strength if that is not the usual one. */
export function nameRun(run) {
  if (run.strength === null || run.strength === 1) return run.weights;
  return `${run.weights}, strength ${Math.round(run.strength * 100)} %`;
}
