// The three sliders: distance, noise, strength.

import { $ } from "./dom.js";

const DISTANCE_STEPS = 200; // 1.4 % each, so that near and far feel alike
const START_M = 0.5; // a face in front of a laptop

export const settings = { depth_m: START_M, noise: null, strength: 1 };

let lens;

/** Binds the sliders; `changed` is called with the names of the settings that changed. */
export function bindControls(changed) {
  $("distance").addEventListener("input", () => {
    const [near, far] = lens.depth_range_m;
    const metres = near * (far / near) ** ($("distance").value / DISTANCE_STEPS);
    settings.depth_m = Math.round(100 * metres) / 100;
    tell(["depth_m"]);
  });
  $("noise").addEventListener("input", () => {
    settings.noise = Number($("noise").value);
    tell(["noise"]);
  });
  $("strength").addEventListener("input", () => {
    settings.strength = Number($("strength").value);
    tell(["strength"]);
  });
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("reset", (event) => {
    event.preventDefault();
    Object.assign(settings, { depth_m: START_M, noise: null, strength: 1 });
    place();
    tell(["depth_m", "noise", "strength"]);
  });

  function tell(names) {
    label();
    changed(names);
  }
}

/** Takes the ranges of a lens (again, after the service was restarted); settings stay. */
export function setLens(described) {
  lens = described;
  const [near, far] = lens.depth_range_m;
  settings.depth_m = Math.min(far, Math.max(near, settings.depth_m));
  $("noise").max = lens.noise_range[1];
  place();
  label();
}

/** "0.50 m", and the same for noise (share of full scale) and strength; no line breaks. */
export function inWords() {
  const noise = settings.noise ?? lens.sensor.read_noise_test;
  return {
    distance: `${settings.depth_m.toFixed(2)}\u00a0m`,
    noise: `${(100 * noise).toFixed(1)}\u00a0%`,
    strength: `${Math.round(100 * settings.strength)}\u00a0%`,
  };
}

function place() {
  const [near, far] = lens.depth_range_m;
  const share = Math.log(settings.depth_m / near) / Math.log(far / near);
  $("distance").value = Math.round(DISTANCE_STEPS * share);
  $("noise").value = settings.noise ?? lens.sensor.read_noise_test;
  $("strength").value = settings.strength;
}

function label() {
  for (const [name, text] of Object.entries(inWords())) {
    $(`${name}-out`).textContent = text;
    $(name).setAttribute("aria-valuetext", text);
  }
}
