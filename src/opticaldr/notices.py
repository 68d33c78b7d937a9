"""The standing texts: what a result means, what it does not mean, and who else has rights.

One home for every notice that the report, the command line and the service show. Plain text, no
markup. The wording never promises more than an attack that was run has shown.
"""

from __future__ import annotations

DISCLAIMER = (
    "Research software. The output is a statistical estimate of a self-report questionnaire score "
    "(BDI-II) from facial video. It is not a diagnosis, must not be used to decide on treatment, "
    "employment, insurance or schooling, and can be wrong for any individual. It does not assess "
    "suicide risk. If you or someone else may be in danger, contact local emergency services or a "
    "crisis line."
)

SYNTHETIC = (
    "Synthetic data. Everything measured here was measured on rendered people whose expressions "
    "follow rules that we wrote. It shows that the parts work together; it says nothing about "
    "patients, and nothing about how well real faces are hidden."
)

OBSCURED_IS_NOT_PRIVATE = (
    "Obscured is not private. Obscured means that off-the-shelf recognisers fail on the captures; "
    "that is all that rung A1 can show. Private would mean that an attacker fails who knows the "
    "lens, trains on its captures, restores them and watches the whole video. A failed attack says "
    "something about that attack only."
)

QUESTIONNAIRE_NOISE = (
    "The questionnaire itself is noisy: retest reliability .89 (Gomes-Oliveira et al. 2012) means "
    "that on real scores even a perfect reader would be about 3 points off on average, so a mean "
    "absolute error below that would be a warning sign."
)

CHANGE_THAT_MATTERS = (
    "No fixed number of points is a change that matters: patients notice a fall of 17.5 % from "
    "where they began, 32 % in depression that resists treatment (Button et al. 2015, n = 1,039)."
)

PATENTS = (
    "Patents. The authors of the method mention a pending patent application, and "
    "US 12,651,379 B2 and US 2024/0021018 A1 claim learned privacy optics. This is stated as a "
    "fact and is not legal advice; the licence of this software grants no rights in them."
)

DATA_LICENCES = (
    "Data. AVEC 2013, AVEC 2014, CelebA and every other data set keep their own licences. This "
    "software brings loaders only, no recordings and no labels, and a licence to use a data set "
    "does not follow from having this software."
)

PERSONAL_DATA = (
    "Law. A lens that hides a face does not take a depression score out of data protection law: "
    "body, room, voice and timing can still identify a person, and a score about health is itself "
    "sensitive. This software is not a medical device. Orientation, not advice."
)

PAPER_CLAIMS_CAPTION = (
    "The paper's claim, on AVEC/CelebA, not measured here (OpticalDR, CVPR 2024, arXiv 2402.18786)."
)

PAPER_CLAIMS = (
    ("AVEC 2013", "depression severity, MAE / RMSE", "7.53 / 8.48"),
    ("AVEC 2014", "depression severity, MAE / RMSE", "7.89 / 8.82"),
    ("CelebA", "face verification with off-the-shelf recognisers, mean AUC", "0.51"),
)
"""(data set, measure, number) as the paper states them; shown as its claim, never as ours."""

RUNGS = {
    "A0": "look at the picture: detectors and similarity of pixels, no claim about identity",
    "A1": "naive: an off-the-shelf recogniser compares a capture with a clear picture",
    "A2": "parrot: the attacker sends its own pictures through the same lens and compares "
    "captures with captures",
    "A3": "adaptive: a recogniser trained on captures of other people",
    "A4": "known lens: linear restoration with the known point spread function",
    "A5": "learned restoration",
    "A6": "generative restoration",
    "A7": "video: many frames of the same person combined",
    "A8": "physics: lens stolen or mismatched, best colour, best distance",
    "A9": "insider: a small known group with several known recordings each",
}
"""The attack ladder: what the attacker of each rung does."""
