"""People and sessions of the benchmark: severity, cues, split and group of each, without pictures.

Severity. u = sqrt(rho) p + sqrt(1 - rho) s with normal p (person) and s (session); the score is
the quantile of severity_law() at u. Every session has the same law, the one of cues.py, and rho
makes the correlation between two sessions of a person the preset's ICC.

Cues. With z the standardised score, L = SLOWING z + sqrt(1 - SLOWING^2) n (n new in each session):

    cue_k = l_k L + sqrt(1 - l_k^2) (sqrt(PERSON_SHARE) trait_k + sqrt(1 - PERSON_SHARE) e_k)

has variance 1 and corr(cue_k, z) = l_k SLOWING = r_k exactly. trait_k belongs to the person (usual
expressivity, head motion, blink rate ..); traits of one family share half of their variance. Both
tasks of a session have the same cues over their own base values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from opticaldr.data.synthetic.cues import (
    CUES,
    SLOWING,
    Cue,
    Session,
    scaled,
    severity_law,
    severity_moments,
)
from opticaldr.data.synthetic.person import draw_person
from opticaldr.data.synthetic.presets import Preset
from opticaldr.errors import InputError

TASKS = ("Freeform", "Northwind")
"""Tasks of AVEC 2014: answer a question; read a text aloud."""
SPEECH_FRACTION = {"Freeform": 0.5, "Northwind": 0.85}
"""Share of the time that somebody speaks; ours."""
SESSION_ODDS = (0.41, 0.37, 0.22)
"""Share of people with 1, 2, 3 sessions (AVEC 2014: 34, 31, 18 of 83)."""
SPLITS = ("train", "dev", "test")
SHARES = (0.6, 0.15, 0.25)
"""Share of sessions in each split, unless told otherwise."""
PERSON_SHARE, FAMILY_SHARE = 0.5, 0.5
"""Share of what severity does not explain in a cue that is the person's; share of that which a
family of cues (Cue.trait) has in common. Ours."""
DETAIL = Cue("skin_detail", 1.0, 0.06, 0.5, "log")
"""Contrast of fine skin detail (standard deviation of reflectance); its r is the preset's."""
ALL_CUES = (*CUES, DETAIL)
LIP_CORNER = next(i for i, cue in enumerate(CUES) if cue.name == "lip_corner_fraction")
GROUPS = ("A", "B")
GROUP_NAMES = ("group", "sex", "age_band")
AGE_BANDS = ((40, "20-39"), (60, "40-59"), (200, "60-75"))
NODES = np.linspace(-6.0, 6.0, 241)
"""Where integrals over a standard normal are evaluated; five times as many change no error by 1e-6."""


@dataclass(frozen=True)
class BenchmarkSession:
    """One visit of one person; its tasks are two recordings.

    person: number from 0. number: 1, 2, 3. severity: true score; label: what the questionnaire
    says. standard: one value per ALL_CUES in SDs, before sex and task. confound: blotches of the
    skin [SD].
    """

    person: int
    number: int
    split: str
    severity: int
    label: int
    group: str
    sex: str
    age_band: str
    standard: tuple[float, ...]
    confound: float

    @property
    def person_id(self) -> str:
        return f"s{self.person:04d}"

    @property
    def id(self) -> str:
        """What the label belongs to, such as "s0003_1"."""
        return f"{self.person_id}_{self.number}"

    @property
    def groups(self) -> tuple[str, str, str]:
        """Values of GROUP_NAMES."""
        return self.group, self.sex, self.age_band

    def acted(self, task: str) -> Session:
        """Severity and cue values as the renderer acts them in a task."""
        sign = 1.0 if self.sex == "female" else -1.0
        values = {}
        for cue, standard in zip(ALL_CUES, self.standard, strict=True):
            northwind = task == "Northwind" and cue.northwind is not None
            base = cue.northwind if northwind else cue.base
            values[cue.name] = scaled(cue, standard + sign * cue.women, base)
        return Session(self.severity, values)


def draw_sessions(
    preset: Preset, persons: int, *, seed: int, shares: Sequence[float] = SHARES
) -> tuple[BenchmarkSession, ...]:
    """All sessions of `persons` people, by person and number; no pictures.

    83 people have the 150 sessions of AVEC 2014. Shares: of the sessions in train, dev and test.
    """
    if persons < 4:
        raise InputError(f"Expected at least 4 persons, found {persons}; ask for more.")
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"Expected three shares above 0 that sum to 1, found {tuple(shares)}.")
    order = np.random.default_rng([seed, 0, 10]).permutation(persons)
    counts = np.repeat([1, 2, 3], _quotas(persons, SESSION_ODDS))[np.argsort(order)]
    visits = [
        (person, number) for person in range(persons) for number in range(1, 1 + counts[person])
    ]
    split_of = _splits(preset, visits, _quotas(len(visits), shares), seed)
    found = []
    for person in range(persons):
        splits = [split_of[person, number] for number in range(1, 1 + counts[person])]
        found += _draw_person_sessions(preset, person, splits, seed)
    return tuple(found)


def loadings(preset: Preset, group: str) -> np.ndarray:
    """(len(ALL_CUES),) factor of the shared latent in each cue, for people of a group."""
    r = np.array([preset.cue_gain * cue.r for cue in CUES] + [preset.detail_r])
    r[LIP_CORNER] = preset.lip_corner_r
    if group == "B":
        r = r * preset.group_gain
    return np.clip(r / SLOWING, -0.95, 0.95)


def trait_correlation() -> np.ndarray:
    """Correlation of the traits of a person: FAMILY_SHARE within a family, 0 otherwise."""
    family = np.array([cue.trait for cue in ALL_CUES])
    related = (family[:, None] == family) & (family != "")
    return np.where(np.eye(len(family), dtype=bool), 1.0, FAMILY_SHARE * related)


@lru_cache
def person_weight(icc: float) -> float:
    """rho: share of the person in u that gives scores the correlation `icc` between sessions."""
    mean, sd = severity_moments()
    score = np.arange(64)
    weight = np.exp(-np.square(NODES) / 2)
    weight /= weight.sum()
    low, high = 0.0, 1.0
    for _ in range(50):
        rho = (low + high) / 2
        usual = score_law(rho) @ score
        reached = (weight @ np.square(usual) - mean**2) / sd**2
        low, high = (rho, high) if reached < icc else (low, rho)
    return (low + high) / 2


def score_law(rho: float) -> np.ndarray:
    """(len(NODES), 64) probability of each score of a person with p = NODES."""
    from scipy.special import ndtr, ndtri

    with np.errstate(divide="ignore"):
        edges = ndtri(np.clip(np.cumsum(severity_law()), 0, 1))
    edges[-1] = np.inf
    below = ndtr((edges - math.sqrt(rho) * NODES[:, None]) / math.sqrt(max(1 - rho, 1e-12)))
    return np.diff(below, axis=1, prepend=0.0)


def label_law(noise: float) -> np.ndarray:
    """(64, 64) probability of each label given each score, label = round(score + N(0, noise))."""
    from scipy.special import ndtr

    if noise == 0:
        return np.eye(64)
    edges = np.append(np.arange(63) + 0.5, np.inf)
    below = ndtr((edges - np.arange(64)[:, None]) / noise)
    return np.diff(below, axis=1, prepend=0.0)


def _draw_person_sessions(
    preset: Preset, person: int, splits: Sequence[str], seed: int
) -> list[BenchmarkSession]:
    """The sessions of a person; session n is in splits[n - 1]."""
    known = draw_person(seed, person)
    rng = np.random.default_rng([seed, person, 11])
    group = GROUPS[int(rng.integers(2))]
    usual, own = rng.standard_normal(), rng.standard_normal(len(ALL_CUES))
    family = {name: rng.standard_normal() for name in ("expressive", "head")}
    common = np.array([family.get(cue.trait, 0.0) for cue in ALL_CUES])
    share = np.array([FAMILY_SHARE if cue.trait else 0.0 for cue in ALL_CUES])
    trait = np.sqrt(share) * common + np.sqrt(1 - share) * own
    loading, rho = loadings(preset, group), person_weight(preset.icc)
    cumulative = np.cumsum(severity_law())
    mean, sd = severity_moments()
    found = []
    for number, split in enumerate(splits, start=1):
        rng = np.random.default_rng([seed, person, 12, number])
        u = math.sqrt(rho) * usual + math.sqrt(1 - rho) * rng.standard_normal()
        quantile = 0.5 * math.erfc(-u / math.sqrt(2))
        severity = min(int(np.searchsorted(cumulative, quantile)), 63)
        z = (severity - mean) / sd
        slowing = SLOWING * z + math.sqrt(1 - SLOWING**2) * rng.standard_normal()
        today = rng.standard_normal(len(ALL_CUES))
        rest = math.sqrt(PERSON_SHARE) * trait + math.sqrt(1 - PERSON_SHARE) * today
        standard = loading * slowing + np.sqrt(1 - loading**2) * rest
        label = round(severity + preset.label_noise * rng.standard_normal())
        strength = preset.confound if split != "test" else 0.0
        confound = strength * z + math.sqrt(1 - strength**2) * rng.standard_normal()
        found.append(
            BenchmarkSession(
                person=person,
                number=number,
                split=split,
                severity=severity,
                label=min(max(label, 0), 63),
                group=group,
                sex="male" if known.male else "female",
                age_band=next(name for limit, name in AGE_BANDS if known.age_years < limit),
                standard=tuple(standard.tolist()),
                confound=confound,
            )
        )
    return found


def _splits(
    preset: Preset, visits: list[tuple[int, int]], quotas: list[int], seed: int
) -> dict[tuple[int, int], str]:
    """The split of each (person, number): by session if people overlap, otherwise by person."""
    rng = np.random.default_rng([seed, 1, 10])
    if preset.overlap:
        dealt = np.repeat(SPLITS, quotas)[rng.permutation(len(visits)).argsort()]
        return dict(zip(visits, dealt.tolist(), strict=True))
    people, counts = np.unique([person for person, _ in visits], return_counts=True)
    mixed = rng.permutation(len(people))
    # Those with most sessions first: what is left of each quota is then filled exactly.
    mixed = mixed[np.argsort(-counts[mixed], kind="stable")]
    room, split_of = np.array(quotas), {}
    for person in mixed:
        split = int(np.argmax(room / quotas))
        room[split] -= counts[person]
        split_of[int(people[person])] = SPLITS[split]
    return {visit: split_of[visit[0]] for visit in visits}


def _quotas(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers close to total * shares that sum to total (largest remainders)."""
    exact = total * np.array(shares, dtype=float) / sum(shares)
    whole = np.floor(exact + 1e-9).astype(int)
    for i in np.argsort(whole - exact, kind="stable")[: total - whole.sum()]:
        whole[i] += 1
    return whole.tolist()
