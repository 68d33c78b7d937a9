"""The one tree of settings: frozen models, TOML presets, `a.b=c` overrides. Every default lives here.

Loading rejects unknown keys and names the nearest known one; the resolved tree is saved with a run.
"""

from __future__ import annotations

import difflib
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from opticaldr.types import InputError

PRESETS = ("tiny", "demo", "literal", "focused", "avec2013", "avec2014")
Group = Literal["lens", "emotion", "depression"]
Role = Literal["faces", "expressions", "recordings"]
Loss = Literal["identity", "utility", "emotion", "depression"]
Protocol = Literal["subject-disjoint", "official-dev", "official-traindev"]


class Settings(BaseModel):
    """Base of every section: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SurfaceConfig(Settings):
    """The kind of surface (optics.surfaces); "zernike" has its numbers in lens.coefficients_um.

    size: terms from r^4 on of an "asphere", control heights of a "spline", side of the net of a
        "freeform" surface; 0 = 3, 16 and 32.
    parameters: of the other kinds, lens by lens in their own units; none = in focus at focus_m.
    diffuser: a plate on top of the lens, with slope RMS per axis [1], grain [m] (correlation length
        of a "random" one, mean lenslet of an "engineered" one), seed and learned strength [1].
    """

    kind: Literal["zernike", "asphere", "spline", "freeform"] = "zernike"
    size: int = 0
    parameters: tuple[float, ...] = ()
    focus_m: float = 1.0
    diffuser: Literal["none", "random", "engineered"] = "none"
    slope_rms: float = 0.005
    grain_m: float = 100e-6
    seed: int = 0
    strength: float = 1.0


class LensConfig(Settings):
    """The lens (paper.md 1.2 and 7.1). Coefficients in micrometres (Noll 1..J), the rest SI.

    trainable: Noll indices that learn; every parameter of another kind of surface learns.
    stop_diameter_m: clear aperture; 0 = as wide as the grid allows.
    material: "given" = the indices stand here; a plastic = they follow from the wavelengths.
    max_window: largest FFT window [samples] of the direct engine; training never blurs beyond it.
    """

    coefficients_um: tuple[float, ...] = (0, 0, 0, -30.5, *(0,) * 11)
    normalisation: Literal["noll", "peak"] = "noll"
    trainable: tuple[int, ...] = tuple(range(4, 16))
    surface: SurfaceConfig = SurfaceConfig()
    stop_diameter_m: float = 0.0
    grid: int = 1024
    pitch_m: float = 3.69e-6
    sensor_distance_m: float = 35.5e-3
    wavelengths_m: tuple[float, float, float] = (640e-9, 550e-9, 460e-9)
    indices: tuple[float, float, float] = (1.488, 1.493, 1.499)
    material: Literal["given", "PMMA", "polycarbonate", "polystyrene"] = "given"
    sensor_pixels: int = 256
    engine: Literal["direct", "two_fft"] = "direct"
    border: Literal["zero", "reflect"] = "zero"
    depth_range_m: tuple[float, float] = (0.33, 2.0)
    max_window: Literal[256, 512, 1024, 2048] = 2048

    @model_validator(mode="after")
    def _physical(self) -> LensConfig:
        positive = {
            "pitch_m": self.pitch_m,
            "sensor_distance_m": self.sensor_distance_m,
            "wavelengths_m": min(self.wavelengths_m),
            "depth_range_m": self.depth_range_m[0],
            "grid": self.grid,
            "sensor_pixels": self.sensor_pixels,
            "surface.focus_m": self.surface.focus_m,
        }
        for name, value in positive.items():
            if not value > 0:
                raise ValueError(f"{name} must be above 0, found {value}")
        if min(self.indices) <= 1:
            raise ValueError(f"indices must be above 1 (glass in air), found {self.indices}")
        if self.depth_range_m[1] < self.depth_range_m[0]:
            raise ValueError(f"depth_range_m must be (near, far), found {self.depth_range_m}")
        if len(self.coefficients_um) < max((4, *self.trainable)):
            raise ValueError(
                f"coefficients_um must reach the highest trainable Noll index, found "
                f"{len(self.coefficients_um)} terms"
            )
        return self


class SensorConfig(Settings):
    """The sensor: read noise as a share of full scale [1], drawn per step in training."""

    read_noise_train: tuple[float, float] = (0.001, 0.02)
    read_noise_test: float = 0.01
    bits: int = 8


class NetworkConfig(Settings):
    """SANet-2D (paper.md 7.2). width F = 16 gives 2.66 M parameters per branch.

    temporal: "frames" scores each frame, as the paper's lineage does; "moments" scores a recording
    from mean and spread of its frame features, so that motion counts; "dynamics" from the speed
    of its motion alone (networks.motion), and its batches hold clips of stage.per_group frames in
    a row: some seconds, so that motion can be seen. It reads head motion best where the crop is
    fixed for a recording.
    lags_s: time differences [s] over which "dynamics" measures speed; from one to a few frames.
    """

    width: int = 16
    blocks: int = 4
    groups: int = 2
    hidden: int = 256
    temporal: Literal["frames", "moments", "dynamics"] = "frames"
    lags_s: tuple[float, ...] = (0.4, 1.6)
    attribute_names: tuple[str, ...] = ()

    @field_validator("lags_s")
    @classmethod
    def _lags(cls, lags_s: tuple[float, ...]) -> tuple[float, ...]:
        if not lags_s or min(lags_s) <= 0:
            raise ValueError(f"lags_s must be one or more times above 0 s, found {lags_s}")
        return lags_s


class LossConfig(Settings):
    """Weights and constants of paper.md 7.3: the only home of every loss weight.

    sag_range, slope, feature, smoothness: weights of what a workshop cannot cut
    (optics.penalties), 0 = left out; the limits are ours, for single-point diamond turning: ask
    the workshop for its own.
    leaked_bits, recoverable_band, fisher_bits: weights of what the lens leaves to every linear
    attacker who averages attacker_frames frames (theory_losses), 0 = left out. They only fall
    with more blur, so a task loss must hold against them. In focus, at 128 px and 1,800 frames,
    they are about 3e5 bits, 40 cycles per face and 2e2 bits. known_thumbnail: k; detail that a
    k x k thumbnail of the frame shows does not count in leaked_bits.
    """

    identity: float = 1.0
    identity_margin: float = 0.0
    verification: float = 1.0
    utility: float = 0.5
    landmarks: float = 0.5
    emotion: float = 0.5
    depression: float = 1.0
    sag_range: float = 0.0
    slope: float = 0.0
    feature: float = 0.0
    smoothness: float = 0.0
    leaked_bits: float = 0.0
    recoverable_band: float = 0.0
    fisher_bits: float = 0.0
    attacker_frames: int = 1800
    known_thumbnail: int = 0
    sag_limit_m: float = 250e-6
    slope_limit: float = 0.25
    curvature_limit_per_m: float = 2000.0

    @field_validator("attacker_frames")
    @classmethod
    def _frames(cls, frames: int) -> int:
        if frames < 1:
            raise ValueError(f"attacker_frames must be 1 or more, found {frames}")
        return frames


class OptimiserConfig(Settings):
    """One optimiser for one parameter group; weight_decay is decoupled from the gradient.

    head_only: a network branch keeps its extractor and trains its heads alone, for sets with far
    fewer recordings than a branch needs.
    """

    kind: Literal["adadelta", "adam"]
    lr: float
    weight_decay: float = 0.0
    head_only: bool = False


class Stage(Settings):
    """One training step of the paper as a value: data, trained groups, losses, optimisers, length.

    groups_per_batch x per_group: people x photos for "faces", recordings x frames for
    "recordings"; "expressions" draws groups_per_batch x per_group single images.
    max_val_auc: validation verification AUC above which a checkpoint is not preferred.
    keep_batch_statistics: trained networks keep their batch-norm statistics (fine tuning on a mix
    of sets would otherwise shift them).
    """

    title: str
    data: tuple[Role, ...]
    losses: tuple[Loss, ...]
    optimisers: dict[Group, OptimiserConfig]
    steps: int
    groups_per_batch: int = 16
    per_group: int = 4
    depths_per_batch: int = 4
    warmup_steps: int = 0
    cosine: bool = False
    gradient_clip: float = 5.0
    validate_every: int = 500
    start_depression_from_emotion: bool = False
    max_val_auc: float = 1.0
    keep_batch_statistics: bool = False


class SyntheticConfig(Settings):
    """Sizes of the embedded synthetic data; people ranges never overlap.

    cue_gain: 1 = cues of severity as strong as depression.md 6.3 has them; more exaggerates them.
    """

    size: int = 128
    train_people: int = 100
    photos_per_person: int = 8
    train_recordings: int = 200
    dev_recordings: int = 40
    test_recordings: int = 60
    frames: int = 8
    cue_gain: float = 1.0
    attack_people: int = 40
    attack_photos: int = 4


class SurrogateConfig(Settings):
    """The frozen recogniser inside the identity loss; never a judge of any attack.

    name: "small" trains an embedder on clean faces first (`steps`); otherwise a recogniser's name.
    """

    name: str = "small"
    steps: int = 600


class TrainingConfig(Settings):
    """How a step is computed; what it computes does not change, but for rounding (docs/scale.md).

    mixed_precision: "bf16" runs the network's layers in bfloat16; optics, sensor, the surrogate and
        all losses stay float32.
    gradient_accumulation: pieces that a batch is worked on in, one after the other; each sees only
        its own batch statistics and pairs of faces.
    loader_workers: threads that read images ahead; 0 = the step itself reads them.
    """

    mixed_precision: Literal["no", "bf16"] = "no"
    gradient_accumulation: int = Field(default=1, ge=1)
    loader_workers: int = Field(default=2, ge=0)


class Stages(Settings):
    """The four progressive steps (paper.md 7.4). Only step 1's optimisers are stated by the paper."""

    step1: Stage
    step2: Stage
    step3: Stage
    step4: Stage

    def numbered(self) -> dict[int, Stage]:
        """Step number -> stage."""
        return {1: self.step1, 2: self.step2, 3: self.step3, 4: self.step4}


def _paper_stages() -> Stages:
    adam = "adam"
    return Stages(
        step1=Stage(
            title="lens and emotion branch on faces",
            data=("faces",),
            losses=("utility", "identity"),
            optimisers={
                "lens": OptimiserConfig(kind="adadelta", lr=1.0),
                "emotion": OptimiserConfig(kind=adam, lr=0.01),
            },
            steps=25000,
            warmup_steps=500,
        ),
        step2=Stage(
            title="emotion branch on expressions",
            data=("expressions",),
            losses=("emotion",),
            optimisers={"emotion": OptimiserConfig(kind=adam, lr=1e-3)},
            steps=15000,
            cosine=True,
        ),
        step3=Stage(
            title="depression branch on recordings",
            data=("recordings",),
            losses=("depression",),
            optimisers={"depression": OptimiserConfig(kind=adam, lr=1e-4)},
            steps=5000,
            per_group=8,
            start_depression_from_emotion=True,
        ),
        step4=Stage(
            title="lens and both branches together",
            data=("recordings", "faces"),
            losses=("depression", "utility", "identity"),
            optimisers={
                "lens": OptimiserConfig(kind="adadelta", lr=0.1),
                "emotion": OptimiserConfig(kind=adam, lr=1e-5),
                "depression": OptimiserConfig(kind=adam, lr=1e-5),
            },
            steps=2000,
            max_val_auc=0.55,
            keep_batch_statistics=True,
        ),
    )


class Config(Settings):
    """Everything that a run needs to know.

    protocol: how recordings are split, see data.protocol; only "subject-disjoint" never shows the
    network a test person.
    """

    preset: str = "focused"
    seed: int = 0
    protocol: Protocol = "subject-disjoint"
    lens: LensConfig = LensConfig()
    sensor: SensorConfig = SensorConfig()
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    surrogate: SurrogateConfig = SurrogateConfig()
    training: TrainingConfig = TrainingConfig()
    synthetic: SyntheticConfig = SyntheticConfig()
    stages: Stages = _paper_stages()

    @field_validator("seed")
    @classmethod
    def _seed(cls, seed: int) -> int:
        if seed < 0:
            raise ValueError(f"seed must be 0 or above, found {seed}")
        return seed


def load_config(source: str | Path, overrides: list[str] | None = None) -> Config:
    """Reads a preset name, a TOML file or a run directory, then applies `a.b=c` overrides.

    Raises InputError for an unknown preset, a file that does not parse, an unknown key (with the
    nearest known one) or a value of the wrong kind.
    """
    tree = _read_toml(source)
    for override in overrides or []:
        key, separator, value = override.partition("=")
        if not separator:
            raise InputError(f"Expected --set KEY=VALUE, found '{override}'; write a.b=c.")
        branch = tree
        *parents, leaf = key.strip().split(".")
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                raise InputError(
                    f"Expected a section before the last dot of '{key}', found a value."
                )
        branch[leaf] = _parse_value(value.strip())
    complete = _merge(Config().model_dump(mode="json"), tree, path="")
    try:
        return Config.model_validate(complete)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ").lower()
        found = "" if isinstance(first["input"], dict) else f", found {first['input']!r}"
        raise InputError(
            f"Expected a valid value for '{key}' in {source}: {problem}{found}."
        ) from None


def save_config(config: Config, path: Path) -> None:
    """Writes the resolved tree as TOML; load_config(path) gives it back."""
    path.write_text(_to_toml(config.model_dump(mode="json")))


def _read_toml(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.is_dir():
        path = path / "config.toml"
    if path.is_file():
        data = path.read_bytes()
    elif str(source) in PRESETS:
        data = files("opticaldr").joinpath(f"presets/{source}.toml").read_bytes()
    else:
        raise InputError(
            f"Expected a preset ({', '.join(PRESETS)}), a TOML file or a run directory, found "
            f"'{source}'; check the spelling or the path."
        )
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"Expected TOML in {source}, found a problem: {error}.") from None


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word is a string


def _merge(base: dict[str, Any], changes: dict[str, Any], *, path: str) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        if key not in base and not path.endswith("optimisers."):
            nearest = difflib.get_close_matches(key, base, n=1, cutoff=0.3)
            hint = (
                f"did you mean '{path}{nearest[0]}'?" if nearest else f"known: {', '.join(base)}."
            )
            raise InputError(f"Expected a known setting, found '{path}{key}'; {hint}")
        if isinstance(value, dict) and key in base and not isinstance(base[key], dict):
            raise InputError(f"Expected a value for '{path}{key}', found a section.")
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = _merge(base[key], value, path=f"{path}{key}.")
        else:
            merged[key] = value
    return merged


def _to_toml(tree: dict[str, Any], prefix: str = "") -> str:
    lines = [f"{k} = {_literal(v)}" for k, v in tree.items() if not isinstance(v, dict)]
    for key, value in tree.items():
        if isinstance(value, dict):
            lines += ["", f"[{prefix}{key}]", _to_toml(value, f"{prefix}{key}.")]
    return "\n".join(lines) + ("\n" if not prefix else "")


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(v) for v in value) + "]"
    return repr(value)
