// The live view: the picture, what the camera records of it, the spot and the surface behind it.

import { askPicture, newestOnly, query, upload, wait } from "./api.js";
import { inWords, settings } from "./controls.js";
import { $, drawSquare, encoded, putPicture, sentence, wipe } from "./dom.js";

const LARGEST = 256; // side that is sent [px]
const AFTER_ERROR_MS = 1000;
const BETWEEN_SPOTS_MS = 100; // the capture comes first

const small = document.createElement("canvas"); // the picture at the sensor's pixels
small.getContext("2d", { willReadFrequently: true }); // it is read back at every update
let source = null;
let paused = false;
let count = 0;
let sent = null; // a still picture as a file: encoded once

/** Takes the sensor of a lens. */
export function setSensor(lens) {
  small.width = small.height = Math.max(...lens.sizes.filter((size) => size <= LARGEST));
  sent = null;
}

/** Shows a source from now on; null ends the view. */
export function watch(shown) {
  source = shown;
  paused = Boolean(shown?.moving && shown.element?.paused);
  count = 0;
  sent = null;
  if (!shown?.element) for (const id of ["eye", "capture"]) wipe($(id));
  refresh();
}

/** Stops or goes on with a moving source; returns whether it is stopped. */
export function pause(stop) {
  paused = stop;
  if (stop) source.element.pause();
  else source.element.play();
  refresh();
  return paused;
}

/** The picture as it is sent: at the sensor's pixels. */
export function snapshot() {
  if (sent) return sent;
  drawSquare(small, source);
  if (source.moving) return encoded(small, "image/jpeg", 0.92);
  sent = encoded(small, "image/png");
  return sent;
}

/** What every picture path takes. */
export function shot(seed = 0) {
  return { ...settings, seed, size: small.width };
}

/** Updates the capture; one request at a time, the newest settings win. */
export const refresh = newestOnly(async () => {
  const shown = source;
  if (!shown?.element) return;
  drawSquare($("eye"), shown);
  const asked = { ...inWords(), at: performance.now() };
  const seed = shown.moving ? count : 0; // a still picture keeps its noise
  try {
    const picture = upload(snapshot());
    const { blob } = await askPicture("/api/capture" + query(shot(seed)), picture);
    const bitmap = await createImageBitmap(blob);
    if (shown !== source) return;
    put(bitmap, shown, asked);
    sentence($("capture-error"), "");
  } catch (error) {
    sentence($("capture-error"), error.status ? error.message : ""); // 0: told at the top
    await wait(AFTER_ERROR_MS);
  }
  // a hidden page gets no frames from here, so nothing is captured in the background
  if (shown === source && shown.moving && !paused) requestAnimationFrame(refresh);
});

function put(bitmap, shown, asked) {
  const canvas = $("capture");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  count += 1;
  canvas.dataset.updates = count;
  const pixels = `${canvas.width} × ${canvas.height} pixels`;
  $("eye").setAttribute("aria-label", `What the eye sees: ${shown.label}, sharp`);
  $("capture").setAttribute(
    "aria-label",
    `What the camera records of ${shown.label}: ${asked.distance}, noise ${asked.noise}, ` +
      `lens strength ${asked.strength}, ${pixels}`,
  );
  $("source-label").textContent = shown.label;
  $("capture-label").textContent = pixels;
  showRate();
}

const times = [];
let quiet;

function showRate() {
  const now = performance.now();
  times.push(now);
  while (now - times[0] > 1000) times.shift();
  $("rate").textContent = times.length > 4 ? `${times.length} updates in the last second` : "";
  clearTimeout(quiet);
  quiet = setTimeout(() => ($("rate").textContent = ""), 1000);
}

/** Updates the picture of the point spread function. */
export const refreshSpot = newestOnly(async () => {
  const { depth_m, strength } = settings;
  const words = inWords();
  try {
    const { blob } = await askPicture("/api/psf.png" + query({ depth_m, strength }));
    putPicture($("psf"), blob, `Point spread function at ${words.distance}`);
    $("psf-where").textContent = `at ${words.distance}`;
    await wait(BETWEEN_SPOTS_MS);
  } catch {
    // the capture meets the same error and tells it
  }
});

/** Updates the picture of the surface. */
export const refreshSurface = newestOnly(async () => {
  const { strength } = settings;
  try {
    const { blob, headers } = await askPicture("/api/surface.png" + query({ strength }));
    const height = headers.get("X-Height-Um");
    putPicture($("surface"), blob, "Height of the lens's surface, seen from the front");
    $("surface-span").textContent = height ? `, ${height} µm between them` : "";
  } catch {
    // as above
  }
});
