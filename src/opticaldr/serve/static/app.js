// The page: consent first, then sources, sliders and panels.

import { askJson, connection, newestOnly } from "./api.js";
import { attackSource, bindAttack, settled } from "./attack.js";
import { showCard } from "./card.js";
import { bindControls, setLens } from "./controls.js";
import { $, say, sentence, show } from "./dom.js";
import { pause, refresh, refreshSpot, refreshSurface, setSensor, watch } from "./live.js";
import { bindScore, scoreSource, setService } from "./score.js";
import { openFile, openPerson, openWebcam } from "./sources.js";

const LOST =
  "The service does not answer. This page asks again every two seconds and then goes on.";
const CANNOT_PLAY =
  "This browser cannot play that video, so its frames are not shown here. It can still be scored.";
const LOOPBACK = ["127.0.0.1", "localhost", "[::1]"];

let current = null; // the source that is shown
let person = 0;

bindControls((names) => {
  refresh();
  if (names.includes("depth_m") || names.includes("strength")) refreshSpot();
  if (names.includes("strength")) refreshSurface();
  settled();
});
bindAttack();
bindScore();
bindSources();
$("consent").addEventListener("change", consented);
connection.addEventListener("lost", () => sentence($("lost"), LOST));
connection.addEventListener("back", start);
start();

/** Learns what the service is; again after it was away. */
async function start() {
  try {
    const [health, lens] = await Promise.all([askJson("/api/health"), askJson("/api/lens")]);
    sentence($("lost"), "");
    describe(health, lens);
    setLens(lens);
    setSensor(lens);
    setService(health);
    showCard(health);
    $("consent").disabled = false;
    if ($("consent").checked) lookAgain();
  } catch (error) {
    if (error.status) sentence($("lost"), error.message);
  }
}

function describe(health, lens) {
  $("lens-kind").textContent = health.model
    ? `Shown: the lens of the trained run “${health.lens}”, simulated.`
    : `Shown: the lens “${health.lens}” alone, simulated.`;
  for (const element of document.querySelectorAll("[data-notice]")) {
    element.textContent = lens.notices[element.dataset.notice];
  }
  const here = LOOPBACK.includes(location.hostname)
    ? "on this computer"
    : `on another computer (${location.hostname})`;
  $("where").textContent =
    `Pictures go to the service that runs ${here}. It keeps them in memory until it has answered ` +
    "and writes nothing to disk. Before you tick the box, nothing is captured and nothing is sent.";
  $("version").textContent =
    `OpticalDR ${health.version} · lens ${health.lens_sha256.slice(0, 12)}`;
}

function consented() {
  const agreed = $("consent").checked;
  show($("tool"), agreed);
  if (agreed) {
    say("The tool is open below.");
    take(() => openPerson(person));
    refreshSpot();
    refreshSurface();
  } else {
    put(null);
    say("The tool is closed; nothing is captured or sent.");
  }
}

function lookAgain() {
  if (!current) take(() => openPerson(person));
  refresh();
  refreshSpot();
  refreshSurface();
  settled();
}

function bindSources() {
  $("use-person").addEventListener("click", () => take(() => openPerson(person)));
  $("next-person").addEventListener("click", () => take(() => openPerson((person += 1))));
  $("use-webcam").addEventListener("click", () => take(openWebcam));
  $("use-file").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    $("file").value = ""; // so that the same file can be chosen again
    if (file) take(() => openFile(file));
  });
  $("pause").addEventListener("click", () => {
    labelPause(pause($("pause").textContent === "Pause"));
  });
  const drop = { dragover: true, dragleave: false, drop: false };
  for (const [kind, over] of Object.entries(drop)) {
    addEventListener(kind, (event) => {
      event.preventDefault(); // the browser would open the file instead of the page
      document.body.classList.toggle("dropping", over && !$("tool").hidden);
      const file = event.dataTransfer?.files[0];
      if (kind === "drop" && file && !$("tool").hidden) take(() => openFile(file));
    });
  }
}

let wanted = null;
const takeNewest = newestOnly(async () => {
  try {
    const opened = await wanted();
    if ($("consent").checked) put(opened);
    else opened.close();
  } catch (error) {
    sentence($("source-error"), error.message);
  }
});

/** Opens a source and shows it; if that fails, a sentence, and what is shown stays. */
function take(open) {
  wanted = open;
  sentence($("source-error"), "");
  takeNewest();
}

function put(source) {
  const before = current;
  current = source;
  watch(source);
  attackSource(source);
  scoreSource(source);
  before?.close();
  const kind = source?.kind ?? "";
  const buttons = { person: "use-person", webcam: "use-webcam", image: "use-file" };
  for (const [name, id] of Object.entries(buttons)) {
    const pressed = kind === name || (kind === "video" && name === "image");
    $(id).setAttribute("aria-pressed", pressed);
  }
  show($("next-person"), kind === "person");
  show($("pause"), Boolean(source?.moving && source.element));
  if (source?.moving && source.element) labelPause(source.element.paused);
  if (!source) return;
  sentence($("source-error"), source.element ? "" : CANNOT_PLAY);
  say(`Shown: ${source.label}.`);
}

function labelPause(paused) {
  $("pause").textContent = paused ? "Play" : "Pause";
}
