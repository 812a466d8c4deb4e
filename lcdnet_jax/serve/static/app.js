// The page: connects the list of images, the settings, the queue and the viewer.

import { deleteJob, fetchDemo, listWeights, resultAddress, zipAddress } from "./api.js";
import { byId, element } from "./dom.js";
import { Row } from "./list.js";
import { nameRun, Photo } from "./photo.js";
import { Queue, Run } from "./queue.js";
import { Settings } from "./settings.js";
import { count, duration } from "./text.js";
import { Viewer } from "./viewer.js";

const photos = new Map(); // photo -> its row
let selected = null;

const viewer = new Viewer({
  stage: byId("stage"), slider: byId("slider"), single: byId("single-pane"),
  leftPane: byId("left-pane"), rightPane: byId("right-pane"), onZoom: showZoom,
  onMissing: (run) => queue.check(run),
});
const settings = new Settings(updateSettings);
const queue = new Queue(updateRun);
const sides = { left: byId("left-side"), right: byId("right-side") };

// Images

async function addFiles(files) {
  showError("");
  const added = files.map((file) => new Photo(file));
  for (const photo of added) {
    const row = new Row(photo, { select, cancel: (run) => queue.cancel(run), remove });
    photos.set(photo, row);
    byId("images").append(row.element);
  }
  if (selected === null && added.length > 0) select(added[0]);
  updatePage();
  for (const photo of added) await prepare(photo);
}

async function prepare(photo) {
  await photo.prepare();
  if (!photos.has(photo)) { // removed in the meantime
    photo.forget();
    return;
  }
  if (photo.error !== null) announce(`${photo.name}: ${photo.error}`);
  updateRow(photo);
  if (photo === selected) showSelected();
  updatePage();
}

function select(photo) {
  selected = photo;
  for (const other of photos.keys()) updateRow(other);
  for (const run of photo?.finished ?? []) queue.check(run);
  showSelected();
  updatePage();
}

function remove(photo) {
  for (const run of photo.runs) {
    if (run.isActive) queue.cancel(run);
    else if (run.state === "done") deleteJob(run.id).catch(() => {}); // it may be gone already
  }
  const rows = [...photos.keys()];
  const next = rows[rows.indexOf(photo) + 1] ?? rows[rows.indexOf(photo) - 1] ?? null;
  photos.get(photo).element.remove();
  photos.delete(photo);
  photo.forget();
  if (selected === photo) select(next);
  else updatePage();
  if (next !== null) photos.get(next).select.focus();
  else byId("choose-first").focus();
  announce(`${photo.name} removed.`);
}

// Runs

function restore(some) {
  for (const photo of some) {
    const runs = missingRuns(photo);
    if (runs.length === 2) [runs[0].partner, runs[1].partner] = [runs[1], runs[0]];
    for (const run of runs) {
      photo.runs = photo.runs.filter((old) => old.isActive || old.state === "done" || !isSame(old, run));
      photo.runs.push(run);
      queue.add(run);
    }
  }
  updatePage();
}

/** What the settings ask for and the image does not have yet. */
function missingRuns(photo) {
  if (photo.isRefused) return [];
  return settings.chosen
    .map(({ name, strength }) => new Run(photo, name, strength))
    .filter((run) => !photo.runs.some(
      (old) => isSame(old, run) && (old.isActive || old.state === "done")));
}

const isSame = (a, b) => a.weights === b.weights && a.strength === b.strength;

function updateRun(run) {
  if (!photos.has(run.image)) return;
  updateRow(run.image);
  const hasEnded = !run.isActive && run.announced !== run.state;
  if (!hasEnded) {
    if (run.image === selected) showNote();
    return;
  }
  run.announced = run.state;
  const name = `${run.image.name}, ${nameRun(run)}`;
  if (run.state === "done") {
    announce(`${name}: done in ${duration(run.progress.seconds)}.`);
    listWeights().then((answer) => { // the server now knows the speed better
      settings.refresh(answer);
      settings.estimate(selected);
    }).catch(() => {});
  } else announce(`${name}: ${run.error ?? "canceled"}`);
  if (run.image === selected) showSelected(run);
  updatePage();
}

// Viewer

/** Shows the selected image; `latest` is a run that has just ended. */
function showSelected(latest = null) {
  const hasPicture = selected !== null && (selected.local !== null || selected.finished.length > 0);
  byId("empty").hidden = selected !== null;
  byId("stage").hidden = selected === null;
  byId("stage-tools").hidden = !hasPicture;
  showNote();
  if (!hasPicture) {
    if (selected !== null) viewer.clear();
    return;
  }
  const runs = selected.finished;
  const chosen = chooseSides(runs, latest);
  for (const side of ["left", "right"]) {
    sides[side].replaceChildren(
      element("option", { value: "" }, "Original"),
      ...runs.map((run) => element("option", { value: run.id }, nameRun(run))));
    sides[side].value = chosen[side];
  }
  byId("sides").hidden = runs.length === 0;
  showSides();
}

/** Which two pictures to compare: the newest result with the image, or two that belong together. */
function chooseSides(runs, latest) {
  const kept = { left: sides.left.value, right: sides.right.value };
  const ids = runs.map((run) => run.id);
  const isKept = runs.length > 0 && latest?.state !== "done" && ids.includes(kept.right)
    && (kept.left === "" || ids.includes(kept.left));
  if (isKept) return kept;
  const run = latest?.state === "done" ? latest : runs.at(-1);
  const partner = run?.partner;
  if (partner?.state === "done" && ids.includes(partner.id)) {
    const [first, second] = ids.indexOf(run.id) < ids.indexOf(partner.id)
      ? [run, partner] : [partner, run];
    return { left: first.id, right: second.id };
  }
  return { left: "", right: run?.id ?? "" };
}

function showSides() {
  const source = (id) => {
    const run = selected.finished.find((one) => one.id === id);
    return run === undefined
      ? selected.original() : selected.result(run, settings.find(run.weights).scale);
  };
  const isPair = selected.finished.length > 0;
  const left = source(sides.left.value);
  const right = isPair ? source(sides.right.value) : null;
  byId("left-label").textContent = isPair ? left.label : "";
  byId("right-label").textContent = right?.label ?? "";
  byId("keys").hidden = !isPair;
  showDownload();
  for (const button of document.querySelectorAll("[data-zoom]")) {
    // A picture that the server made smaller has no pixels to look at.
    button.disabled = button.dataset.zoom !== "fit" && !isPair && !left.isExact;
  }
  viewer.show(left, right);
}

/** Offers the result that is shown, the right one of two. */
function showDownload() {
  const ids = [sides.right.value, sides.left.value].filter(Boolean);
  const link = byId("download");
  link.hidden = ids.length === 0;
  if (link.hidden) return;
  const run = selected.finished.find((one) => one.id === ids[0]);
  link.href = resultAddress(run.id);
  link.setAttribute("aria-label", `Download ${run.result.name}, ${nameRun(run)}`);
}

function showNote() {
  const note = byId("stage-note");
  const active = selected?.runs.find((run) => run.isActive && run.state !== "waiting");
  let text = "";
  if (selected?.error) text = "This image cannot be shown.";
  else if (selected?.local === null) text = "Reading the image …";
  else if (active?.state === "restoring" && active.progress.windows > 0) {
    const { windows_done: done, windows } = active.progress;
    text = `Restoring: ${Math.round((100 * done) / windows)} %`;
  } else if (active) text = "Restoring …";
  note.textContent = text;
  note.hidden = text === "";
}

function showZoom(zoom, isFit) {
  for (const button of document.querySelectorAll("[data-zoom]")) {
    const isOn = button.dataset.zoom === "fit" ? isFit : !isFit && Number(button.dataset.zoom) === zoom;
    button.setAttribute("aria-pressed", String(isOn));
  }
  byId("zoom-value").textContent = `${Math.round(zoom * 100)} %`;
}

// Page

function updateRow(photo) {
  photos.get(photo).update(photo === selected);
}

function updateSettings() {
  settings.estimate(selected);
  updateButton();
}

function updatePage() {
  byId("images-panel").hidden = photos.size === 0;
  const finished = [...photos.keys()].flatMap((photo) => photo.finished);
  const zip = byId("zip");
  zip.hidden = finished.length < 2;
  if (!zip.hidden) zip.href = zipAddress(finished.map((run) => run.id));
  updateSettings();
}

function updateButton() {
  const button = byId("restore");
  const waiting = [...photos.keys()].filter((photo) => missingRuns(photo).length > 0);
  button.disabled = waiting.length === 0;
  const isActive = [...photos.keys()].some((photo) => photo.runs.some((run) => run.isActive));
  const hasResults = [...photos.keys()].some((photo) => photo.finished.length > 0);
  if (waiting.length > 1) button.textContent = `Restore ${count(waiting.length, "image")}`;
  else if (waiting.length === 1) button.textContent = "Restore";
  else if (isActive) button.textContent = "Restoring …";
  else button.textContent = hasResults ? "Restored with these settings" : "Restore";
}

function announce(text) {
  byId("status").textContent = text;
}

function showError(text) {
  byId("page-error").textContent = text;
  byId("page-error").hidden = text === "";
}

async function addDemo() {
  const button = byId("demo");
  button.disabled = true;
  try {
    const file = await fetchDemo();
    const known = new Set(photos.keys());
    await addFiles([file]);
    restore([...photos.keys()].filter((photo) => !known.has(photo)));
  } catch (error) {
    showError(error.message);
  }
  button.disabled = false;
}

/** The files of a drop; a folder has no content that a page could send. */
function droppedFiles(transfer) {
  const folders = [...transfer.items]
    .map((item) => item.webkitGetAsEntry?.())
    .filter((entry) => entry?.isDirectory)
    .map((entry) => entry.name);
  const files = [...transfer.files].filter((file) => !folders.includes(file.name));
  return { files, folders };
}

function listen() {
  for (const id of ["choose", "choose-first"]) {
    byId(id).addEventListener("click", () => byId("files").click());
  }
  byId("files").addEventListener("change", (event) => {
    addFiles([...event.target.files]);
    event.target.value = ""; // the same file can be chosen again
  });
  byId("demo").addEventListener("click", addDemo);
  byId("restore").addEventListener("click", () => restore([...photos.keys()]));
  for (const select of Object.values(sides)) select.addEventListener("change", showSides);
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => {
      if (button.dataset.zoom === "fit") viewer.fit();
      else viewer.setZoom(Number(button.dataset.zoom));
    });
  }
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length > 0) addFiles(files);
  });
  listenForDrops();
  window.addEventListener("pagehide", (event) => {
    if (event.persisted) return; // the page may come back as it is
    for (const run of [...photos.keys()].flatMap((photo) => photo.runs)) {
      if (run.id !== null) deleteJob(run.id, true).catch(() => {});
    }
  });
}

function listenForDrops() {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0; // enter and leave come for every element below
  const cover = (change) => {
    depth = change === 0 ? 0 : Math.max(0, depth + change);
    byId("drop-cover").hidden = depth === 0;
  };
  window.addEventListener("dragenter", (event) => hasFiles(event) && cover(1));
  window.addEventListener("dragleave", (event) => hasFiles(event) && cover(-1));
  window.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  window.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    cover(0);
    const { files, folders } = droppedFiles(event.dataTransfer);
    addFiles(files);
    if (folders.length > 0) {
      showError(`${folders.join(", ")}: a folder. Drop the images that are in it.`);
    }
  });
}

async function start() {
  listen();
  try {
    settings.fill(await listWeights());
  } catch (error) {
    showError(error.message);
  }
  updatePage();
}

start();
