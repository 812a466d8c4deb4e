// Requests to the server. All addresses are relative, so that the page also works below a prefix.

const MOST_FAILURES = 3; // answers that a job may miss in a row, before its server counts as ended

export const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** An answer of the server that is no success. `message` is the server's own text. */
export class ServerError extends Error {
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

async function request(address, options = {}) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, "The server does not answer. Is lcdnet-jax serve still running?");
  }
  if (response.ok) return response;
  let message = `The server answers with status ${response.status}.`;
  try {
    message = (await response.json()).error ?? message;
  } catch {
    // A proxy between page and server may answer in another format.
  }
  throw new ServerError(response.status, message, Number(response.headers.get("Retry-After")) || null);
}

function imageForm(file) {
  const form = new FormData();
  form.append("image", file, file.name);
  return form;
}

/** The available weights and the name of the default. */
export const listWeights = async () => (await request("weights")).json();

/** The demo photograph as a file. */
export async function fetchDemo() {
  const response = await request("demo");
  const disposition = response.headers.get("Content-Disposition") ?? "";
  const name = /filename="([^"]+)"/.exec(disposition)?.[1] ?? "demo.jpg";
  const blob = await response.blob();
  return new File([blob], name, { type: blob.type });
}

/** A picture of a file that the browser cannot show, made by the server. */
export async function makePreview(file, size) {
  const response = await request(`preview?size=${size}`, { method: "POST", body: imageForm(file) });
  return {
    blob: await response.blob(),
    width: Number(response.headers.get("X-Image-Width")),
    height: Number(response.headers.get("X-Image-Height")),
  };
}

/** Starts the restoration of a file; returns the job. */
export async function startJob(file, weights, strength, signal) {
  const query = new URLSearchParams({ weights });
  if (strength !== null) query.set("strength", strength);
  const response = await request(`jobs?${query}`, { method: "POST", body: imageForm(file), signal });
  return response.json();
}

/** The state of a job. */
export const readJob = async (id) => (await request(`jobs/${id}`)).json();

/** Cancels a job and lets the server forget it. `keepalive` also works while the page closes. */
export const deleteJob = (id, keepalive = false) =>
  request(`jobs/${id}`, { method: "DELETE", keepalive });

/** Calls `onState` with each new state of a job until it ends, and returns the last state. */
export async function followJob(id, onState) {
  let failures = 0;
  for (;;) {
    const last = await readEvents(id, onState);
    if (last !== null) return last;
    try {
      const state = await readJob(id);
      onState(state);
      if (isFinal(state)) return state;
      failures = 0;
    } catch (error) {
      failures += 1;
      if (error.status !== 0 || failures === MOST_FAILURES) throw error;
    }
    await sleep(1);
  }
}

/** The last state of a job, or null if the server breaks off before. */
function readEvents(id, onState) {
  return new Promise((resolve) => {
    const events = new EventSource(`jobs/${id}/events`);
    const end = (state) => {
      events.close(); // otherwise the browser connects again by itself, for ever
      resolve(state);
    };
    events.onmessage = (event) => {
      const state = JSON.parse(event.data);
      onState(state);
      if (isFinal(state)) end(state);
    };
    events.onerror = () => end(null);
  });
}

const isFinal = ({ state }) => ["done", "failed", "canceled"].includes(state);

export const resultAddress = (id) => `jobs/${id}/result`;
export const zipAddress = (ids) => `results.zip?${new URLSearchParams(ids.map((id) => ["id", id]))}`;
export const previewAddress = (id, which, query) =>
  `jobs/${id}/preview/${which}?${new URLSearchParams(query)}`;
