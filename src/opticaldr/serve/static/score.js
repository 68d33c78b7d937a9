// The estimate of a picture at once, of a video as a job with progress and cancel.

import { ask, askJson, query, Refused, upload, wait } from "./api.js";
import { curve, inWords, scale } from "./chart.js";
import { settings } from "./controls.js";
import { $, encoded, make, say, sentence, show } from "./dom.js";

const POLL_MS = 300;
const MEBI = 2 ** 20;
const NO_MODEL =
  "No score: a lens alone is shown, and only a trained run gives scores. Start the service with " +
  "one: opticaldr serve --model RUN";
const FORGOTTEN = "The service was started anew and has forgotten this video. Start it again.";
const SYNTHETIC =
  "This person is rendered. The estimate shows that the parts work together; it says nothing " +
  "about patients.";

let source = null;
let limits;
let work = null; // {stop: AbortController, id} of what runs

/** Binds the buttons. */
export function bindScore() {
  $("estimate").addEventListener("click", estimate);
  $("cancel").addEventListener("click", () => {
    $("estimate").focus();
    cancel("Cancelled.");
  });
  addEventListener("pagehide", () => cancel());
}

/** Takes what the service can do. */
export function setService(health) {
  limits = health.limits;
  sentence($("score-none"), health.model ? "" : NO_MODEL);
  show($("score"), health.model);
}

/** Takes another source; what ran for the one before is cancelled. */
export function scoreSource(shown) {
  cancel();
  source = shown;
  $("estimate-result").replaceChildren();
  sentence($("score-error"), "");
  const what = { webcam: "the current picture", video: "this video" }[shown?.kind];
  $("estimate").textContent = `Estimate from ${what ?? "this picture"}`;
}

async function estimate() {
  cancel();
  const shown = source;
  const mine = { stop: new AbortController(), id: null };
  work = mine;
  $("estimate-result").replaceChildren();
  sentence($("score-error"), "");
  $("estimate").disabled = true;
  try {
    const result = await (shown.kind === "video" ? ofVideo(shown, mine) : ofPicture(shown, mine));
    if (work === mine) present(result, shown);
  } catch (error) {
    if (work === mine) sentence($("score-error"), error.message);
  } finally {
    if (work === mine) ended();
  }
}

function ended() {
  work = null;
  $("estimate").disabled = false;
  show($("cancel"), false);
  show($("progress"), false);
}

/** Ends what runs, here and in the service. */
function cancel(words = "") {
  if (!work) return;
  const { stop, id } = work;
  ended();
  stop.abort();
  if (id) forget(id);
  if (words) say(words);
}

function question() {
  const { depth_m } = settings;
  return query({ depth_m, detect: $("detect").checked, already_captured: $("already").checked });
}

async function ofPicture(shown, { stop }) {
  const blob = shown.blob ?? wholeFrame(shown);
  checkSize(blob, limits.image_bytes);
  return askJson("/api/predict" + question(), upload(blob, stop.signal));
}

function wholeFrame({ element, width, height }) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").drawImage(element, 0, 0);
  return encoded(canvas, "image/jpeg", 0.92);
}

async function ofVideo(shown, mine) {
  checkSize(shown.blob, limits.video_bytes);
  show($("cancel"));
  progress("Sending the video", 0, null);
  const accepted = await askJson("/api/jobs" + question(), upload(shown.blob, mine.stop.signal));
  mine.id = accepted.id;
  if (work !== mine) forget(mine.id); // cancelled while the answer was on its way
  while (work === mine) {
    const job = await state(mine.id);
    if (job?.state === "done") {
      forget(mine.id);
      return job.result;
    }
    if (job?.state === "failed") throw new Refused(job.error.message);
    if (work === mine && job) told(job);
    await wait(POLL_MS);
  }
  return null;
}

/** The state of a job; null while the service does not answer. */
async function state(id) {
  try {
    return await askJson(`/api/jobs/${id}`);
  } catch (error) {
    if (error.status === 404) throw new Refused(FORGOTTEN);
    if (error.status) throw error;
    return null;
  }
}

function told(job) {
  if (job.state === "queued") progress("Waiting for another video", 0, null);
  else progress("Reading the video", job.done, job.total);
}

function progress(words, done, total) {
  const frames = total ? `${done} of ${total} frames` : done ? `${done} frames` : "";
  $("bar-label").textContent = frames ? `${words}: ${frames}` : words;
  if (total) {
    $("bar").max = total;
    $("bar").value = Math.min(done, total);
  } else {
    $("bar").removeAttribute("value");
  }
  show($("progress"));
}

function forget(id) {
  ask(`/api/jobs/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

function checkSize(blob, most) {
  if (blob.size <= most) return;
  const found = (blob.size / MEBI).toFixed(0);
  throw new Refused(
    `Expected a file of at most ${most / MEBI} MiB, found ${found} MiB; choose a smaller one.`,
  );
}

function present(result, shown) {
  const room = $("score").clientWidth;
  const parts = [
    make(
      "p",
      { class: "value" },
      make("strong", {}, result.score.toFixed(1)),
      make("span", {}, inWords(result)),
    ),
    scale(result, room),
  ];
  if (result.flags.length) {
    parts.push(make("ul", { class: "note" }, ...result.flags.map((flag) => make("li", {}, flag))));
  }
  if (shown.kind === "person") parts.push(make("p", { class: "banner" }, SYNTHETIC));
  if (result.frame_scores.length > 1) parts.push(curve(result, room));
  $("estimate-result").replaceChildren(make("div", { class: "result" }, ...parts));
}
