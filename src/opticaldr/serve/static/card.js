// The verdict of the privacy card of the run.

import { askJson } from "./api.js";
import { $, make } from "./dom.js";

const NO_CARD =
  "No card yet: no attack was run against this camera, so nothing is known about its privacy. " +
  "Run: opticaldr attack --lens RUN";
const OTHER_LENS = "This card belongs to another lens than the one that is shown on this page.";
const SYNTHETIC =
  "Measured on rendered people: it shows that the parts work together and says nothing about how " +
  "well real faces are hidden.";
const TONES = { FAIL: "bad", inconclusive: "open" };

/** Shows the card, or that there is none. */
export async function showCard(health) {
  try {
    $("card").replaceChildren(...(health.card ? await verdict(health) : [missing(NO_CARD)]));
  } catch (error) {
    $("card").replaceChildren(missing(error.message));
  }
}

const missing = (words) => make("p", { class: "missing" }, words);
const banner = (words) => make("p", { class: "banner" }, words);

async function verdict(health) {
  const card = await askJson("/api/card");
  const parts = [
    make(
      "div",
      { class: `grade ${TONES[card.grade] ?? "good"}`, role: "group", "aria-label": "Grade" },
      make("strong", {}, card.grade),
      make("p", {}, card.meaning),
    ),
    make("p", { class: "lead" }, card.wording),
  ];
  if (card.lens?.sha256_of === "lens.json" && card.lens.sha256 !== health.lens_sha256) {
    parts.push(banner(OTHER_LENS));
  }
  if (card.data?.synthetic) parts.push(banner(SYNTHETIC));
  for (const warning of card.warnings ?? []) parts.push(banner(warning));
  const facts = make("dl");
  const strongest = card.strongest_attack;
  if (strongest) {
    const { rung, variant, frames, auc } = strongest;
    const attack = `${rung} ${variant}, ${frames === 1 ? "1 frame" : `${frames} frames`}`;
    fact(facts, "Strongest attack", `${attack}: ${figure(auc)}`);
  }
  fact(facts, "Not tested", card.not_tested?.join(", ") || "nothing on the ladder was left out");
  fact(facts, "Made", `${card.made} (${card.tier} tier), expires ${card.expires?.on}`);
  const link = make("a", { href: "/api/card" }, "The card as JSON");
  parts.push(facts, make("p", {}, link));
  return parts;
}

function fact(list, name, words) {
  list.append(make("dt", {}, name), make("dd", {}, words));
}

function figure({ value, ci95 }) {
  const [low, high] = ci95.map((bound) => bound.toFixed(3));
  return `AUC ${value.toFixed(3)} [${low}, ${high}]; 0.5 is guessing, 1 is certain`;
}
