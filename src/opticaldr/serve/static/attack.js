// What restoration with the known lens brings back from 1, 10 and 100 frames.

import { askPicture, newestOnly, query, upload } from "./api.js";
import { inWords } from "./controls.js";
import { $, putPicture, say, sentence, wipe } from "./dom.js";
import { shot, snapshot } from "./live.js";

const FRAMES = [1, 10, 100];
const SETTLED_MS = 400;
// middle 80 % of the cosines: 49 people of LFW (pairs of pictures, 160 px), 12 rendered people
const LIKENESS =
  " Likeness: what a face recogniser (dlib) gives the clear and the restored picture. Two " +
  "photographs of one person get 0.94 to 0.97 and strangers 0.77 to 0.88 (LFW); but rendered " +
  "strangers get 0.88 to 0.93, so for a synthetic person it tells little.";

let source = null;
let settling;

/** Binds the button. */
export function bindAttack() {
  $("attack").addEventListener("click", restore);
}

/** Takes another source; null ends the panel. */
export function attackSource(shown) {
  source = shown;
  $("attack").disabled = !shown?.element;
  if (!shown?.element) {
    wipe($("attacked"));
    for (const frames of FRAMES) wipe($(`restored-${frames}`));
  }
  settled();
}

/** Restores the picture once settings have come to rest; what is shown is stale until then. */
export function settled() {
  clearTimeout(settling);
  $("attack-title").parentElement.classList.add("stale");
  if (source?.element) settling = setTimeout(restore, SETTLED_MS);
}

const restore = newestOnly(async () => {
  const shown = source;
  if (!shown?.element) return;
  clearTimeout(settling);
  const at = inWords();
  const asked = shot();
  try {
    const clear = snapshot();
    const restored = await Promise.all(
      FRAMES.map((frames) =>
        askPicture("/api/restore" + query({ ...asked, frames }), upload(clear)),
      ),
    );
    const bitmap = await createImageBitmap(clear);
    if (shown !== source) return;
    putClear(bitmap);
    let likeness = "";
    restored.forEach(({ blob, headers }, i) => {
      const frames = FRAMES[i] === 1 ? "1 frame" : `${FRAMES[i]} frames`;
      const similarity = headers.get("X-Similarity");
      if (similarity) likeness = LIKENESS;
      putPicture($(`restored-${FRAMES[i]}`), blob, `Restored from ${frames} at ${at.distance}`);
      $(`similarity-${FRAMES[i]}`).textContent = similarity ? `likeness ${similarity}` : "";
    });
    $("attack-at").textContent =
      `At ${at.distance}, noise ${at.noise}, lens strength ${at.strength}.${likeness}`;
    $("attack-title").parentElement.classList.remove("stale");
    sentence($("attack-error"), "");
    say(`Restored from 1, 10 and 100 frames at ${at.distance}.`);
  } catch (error) {
    sentence($("attack-error"), error.status ? error.message : ""); // 0: told at the top
  }
});

function putClear(bitmap) {
  const canvas = $("attacked");
  canvas.width = canvas.height = bitmap.width;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
}
