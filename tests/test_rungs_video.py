"""Registration of moving pictures and rung A7: what many frames add to one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from attackers import Correlation, Darkness
from opticaldr.data.faceset import FaceSet
from opticaldr.data.pairs import Pairs, all_pairs
from opticaldr.privacy.arena import Arena
from opticaldr.privacy.cameras import (
    CameraUnderAttack,
    NoiseLaw,
    NoLens,
    Optics,
    Pixelation,
    PlainBlur,
)
from opticaldr.privacy.controls import plain_auc
from opticaldr.privacy.evidence import Attempt
from opticaldr.privacy.registration import (
    MovingHead,
    StillHead,
    estimate_shift,
    head_path,
    shift,
)
from opticaldr.privacy.rungs.recordings import filters_for, recorded
from opticaldr.privacy.rungs.video import video
from opticaldr.privacy.tiers import TIERS
from opticaldr.types import FaceRecord

SIZE = 64


def texture(*seed: int, size: int = SIZE, slope: float = 1.2) -> np.ndarray:
    """(size, size, 3) in [0, 1]: random detail whose power falls with frequency as in photographs."""
    noise = np.random.default_rng(seed).standard_normal((size, size, 3))
    y, x = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :]
    fall = 1 / np.maximum(np.hypot(y, x), 1 / size) ** slope
    detail = np.fft.ifft2(np.fft.fft2(noise, axes=(0, 1)) * fall[..., None], axes=(0, 1)).real
    return np.clip(0.5 + 0.15 * detail / detail.std(), 0, 1)


def ripples(*seed: int) -> np.ndarray:
    """(SIZE, SIZE, 1), mean 0, standard deviation 1: random waves of 12 to 14 cycles a frame."""
    noise = np.random.default_rng(seed).standard_normal((SIZE, SIZE))
    cycles = SIZE * np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)[None, :])
    waves = np.fft.ifft2(np.fft.fft2(noise) * ((cycles > 12) & (cycles < 14))).real
    return (waves / waves.std())[..., None]


def rippled_people(people: int, photos: int) -> FaceSet:
    """Identity is fine detail alone; light and other fine detail belong to each photo."""
    records, images = [], {}
    for person in range(people):
        for photo in range(photos):
            key = f"p{person:03d}/{photo}"
            own = 0.05 * ripples(1, person) + 0.07 * ripples(2, person, photo)
            image = texture(3, person, photo, slope=2.5) + own
            images[key] = (255 * image.clip(0, 1)).round().astype(np.uint8)
            records.append(FaceRecord(key=key, person=f"p{person:03d}"))
    return FaceSet("ripples", tuple(records), lambda r: images[r.key], synthetic=True)


def arena_of(
    optics: Optics,
    *,
    faces: FaceSet,
    test: int,
    frames: tuple[int, ...] = (1, 100),
    read_noise: float = 0.03,
    seed: int = 0,
) -> Arena:
    """The first `test` images are for the test, the rest is the attacker's."""
    pairs = all_pairs([r.person for r in faces.records[:test]], max_nonmated=2000, seed=0)
    return Arena(
        camera=CameraUnderAttack(optics.label, optics, NoiseLaw(read_noise)),
        faces=faces,
        test=pairs,
        attacker=np.arange(test, len(faces)),
        judges=(Correlation(),),
        scene_size=SIZE,
        seed=seed,
        tier=replace(TIERS["smoke"], frames=frames, validation_people=8),
    )


@pytest.fixture(scope="module")
def people() -> FaceSet:
    return rippled_people(48, 2)


def silent(what: str, done: int, total: int) -> None:
    pass


def auc(found: list[Attempt], arena: Arena, variant: str, frames: int) -> float:
    (attempt,) = [f for f in found if f.variant.startswith(variant) and f.frames == frames]
    return plain_auc(attempt.scores, arena.test)


# Registration


def scenes(count: int, size: int = 128) -> torch.Tensor:
    drawn = np.stack([texture(3, i, size=size) for i in range(count)]).transpose(0, 3, 1, 2)
    return torch.from_numpy(drawn).float()


def test_a_shift_by_whole_pixels_moves_the_picture() -> None:
    picture = scenes(2, 33)
    moved = shift(picture, torch.tensor([[2.0, -3.0], [0.0, 0.0]]))
    # 1e-5: float32 transforms
    assert torch.allclose(moved[0, :, 2:, :-3], picture[0, :, :-2, 3:], atol=1e-5)
    assert torch.allclose(moved[1], picture[1], atol=1e-5)


def test_shifting_there_and_back_keeps_a_smooth_picture() -> None:
    light = PlainBlur("gaussian", 0.05, 64)(scenes(3, 64))
    offsets = torch.tensor([[0.5, -0.3], [1.7, 2.2], [-3.4, 0.1]])
    back = shift(shift(light, offsets), -offsets)
    inner = (..., slice(6, -6), slice(6, -6))
    # a mirrored edge has a kink, which rings; inside it is below one step of 8 bits
    assert (back - light)[inner].abs().max() < 1 / 255


@pytest.mark.parametrize(
    ("optics", "frames", "accuracy"),
    [
        (NoLens(), 1, 0.01),
        (PlainBlur("disc", 1.0, 128), 1, 0.15),
        (PlainBlur("disc", 1.0, 128), 30, 0.03),
        (PlainBlur("gaussian", 0.3, 128), 30, 0.03),
    ],
)
def test_blind_registration_finds_subpixel_motion(
    optics: Optics, frames: int, accuracy: float
) -> None:
    """RMS error [px] at 1 % noise; 30 frames must be sqrt(30) times as good as one."""
    generator = torch.Generator().manual_seed(0)
    light, offsets = optics(scenes(8)), 2 * torch.randn(8, 2, generator=generator)
    here, there = (
        NoiseLaw(0.01).record(picture, generator=generator, frames=frames)
        for picture in (light, shift(light, offsets))
    )
    error = estimate_shift(here, there) - offsets
    assert error.square().mean().sqrt() < accuracy
    assert offsets.square().mean().sqrt() > 1.5  # the motion itself is far larger


def test_head_path_sways_about_its_place() -> None:
    path = head_path(5, 40, sway=1.5, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(path.mean(1), torch.zeros(5, 2), atol=1e-5)
    assert torch.allclose(path.square().mean(1).sqrt(), torch.full((5, 2), 1.5), atol=1e-5)
    steps = path.diff(dim=1).square().mean().sqrt()
    assert steps < 1.0  # neighbours in time are neighbours in space; independent places: 2.1


def test_a_convolution_looks_the_same_whether_the_head_moves_or_not() -> None:
    camera = CameraUnderAttack("blur", PlainBlur("gaussian", 0.05, SIZE), NoiseLaw(0.01, bits=0))
    scene = scenes(4, SIZE)
    (still,) = StillHead(camera, (400,))(scene, torch.Generator().manual_seed(0))
    (moved,) = MovingHead(camera, (400,), 4)(scene, torch.Generator().manual_seed(1))
    # two independent means: 0.01 sqrt(2 / 400) = 7e-4, and the ringing of the edge
    assert (moved - still).std() < 1.2e-3
    # the outermost rows come from the frames that saw them, not from mirror images
    assert (moved - still)[..., :2, :].std() < 2e-3


def test_every_frame_of_a_take_is_counted_once() -> None:
    camera = CameraUnderAttack("clear", NoLens(), NoiseLaw(0.02, bits=0))
    scene = torch.full((1, 3, SIZE, SIZE), 0.5)
    for take in (1, 3, 50):  # fewer and more frames than places
        (mean,) = MovingHead(camera, (take,), 4)(scene, torch.Generator().manual_seed(0))
        assert float(mean.mean()) == pytest.approx(0.5, abs=1e-3)
        # 7,000 samples give the standard deviation to 1 %; the shift keeps white noise white, and
        # fewer frames see the edge
        assert float(mean[..., 8:-8, 8:-8].std()) == pytest.approx(0.02 / take**0.5, rel=0.05)


# A7


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_more_frames_of_a_still_head_identify_better(people: FaceSet, seed: int) -> None:
    blur = PlainBlur("disc", 0.25, SIZE)
    arena = arena_of(blur, faces=people, test=48, frames=(1, 10, 1000), read_noise=0.1, seed=seed)
    found = list(video(arena, progress=silent))
    curve = [auc(found, arena, "mean, wiener", n) for n in (1, 10, 1000)]
    assert curve[0] < 0.9  # there is something to gain
    assert curve[1] > curve[0] - 0.02  # 24 mated pairs: one pair out of place moves it by .02
    assert curve[2] > max(0.97, curve[0] + 0.1)
    assert auc(found, arena, "fused, wiener", 5) > curve[0]
    assert auc(found, arena, "moving, wiener", 1000) > 0.97


def test_time_to_identify_is_the_first_n_whose_lower_limit_exceeds_the_mark(
    people: FaceSet,
) -> None:
    facts = {}
    for optics in (NoLens(), PlainBlur("gaussian", 0.5, SIZE)):
        arena = arena_of(optics, faces=people, test=40, frames=(1, 30))
        found = list(video(arena, progress=silent))
        named = [f for f in found if "time_to_identify_frames" in f.facts]
        assert [(f.variant, f.frames) for f in named] == [("mean, wiener, correlation", 30)]
        facts[optics.label] = named[0].facts
    assert facts["no lens"]["time_to_identify_frames"] == 1
    assert facts["no lens"]["time_to_identify_s"] == pytest.approx(1 / 30, abs=1e-3)  # rounded
    assert facts["gaussian 0.5"]["time_to_identify_frames"] is None
    assert facts["gaussian 0.5"]["time_to_identify_s"] is None


def test_a_pixelated_video_leaks_more_than_a_still(people: FaceSet) -> None:
    """Motion samples the face between the blocks; a still head gives the same blocks for ever."""
    arena = arena_of(Pixelation(9), faces=people, test=48, frames=(1, 100), read_noise=0.01)
    found = list(video(arena, progress=silent))
    still, moved = (auc(found, arena, f"{what}, wiener", 100) for what in ("mean", "moving"))
    assert auc(found, arena, "mean, naive", 100) < moved
    assert moved > still + 0.04  # .08 with two other seeds
    strongest = [f.variant for f in found if "time_to_identify_frames" in f.facts]
    assert strongest == ["moving, wiener, correlation"]


def test_the_fitted_filter_restores_what_a_known_psf_does(people: FaceSet) -> None:
    """Without a PSF the filter is learnt from examples; with one, both must agree."""
    blur = PlainBlur("disc", 0.25, SIZE)

    class Sealed(PlainBlur):
        psf = None

        def __call__(self, scene: torch.Tensor) -> torch.Tensor:
            return blur(scene)

    errors = {}
    for optics in (blur, Sealed("disc", 0.25, SIZE)):
        arena = arena_of(optics, faces=people, test=48)
        head = StillHead(arena.camera, (100,))
        restore = filters_for(arena, head)[100].restore
        batches = recorded(arena, arena.test.images, head, "check")
        pairs = [(scene, restore(record), record) for scene, (record,) in batches]
        scene, restored, record = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        errors[type(optics).__name__] = float((restored - scene).square().mean().sqrt())
        assert errors[type(optics).__name__] < 0.8 * float((record - scene).square().mean().sqrt())
    assert errors["Sealed"] == pytest.approx(errors["PlainBlur"], rel=0.1)


def test_a_black_record_gives_chance(people: FaceSet) -> None:
    arena = arena_of(Darkness(), faces=people, test=64)
    found = list(video(arena, progress=silent))
    # 32 mated pairs: standard deviation of an AUC at chance .052
    assert all(abs(plain_auc(f.scores, arena.test) - 0.5) < 0.15 for f in found)
    assert all(np.isfinite(f.scores).all() for f in found)


def test_other_judges_see_the_strongest_variant_alone(people: FaceSet) -> None:
    other = Correlation()
    other.name = "other"
    arena = arena_of(PlainBlur("disc", 0.25, SIZE), faces=people, test=24)
    found = list(video(replace(arena, judges=(Correlation(), other)), progress=silent))
    seen = [(f.variant, f.frames) for f in found if f.variant.endswith("other")]
    assert seen == [("mean, wiener, other", 100)]


def test_a_rung_depends_on_the_seed_alone(people: FaceSet) -> None:
    arena = arena_of(PlainBlur("disc", 0.25, SIZE), faces=people, test=24, frames=(1, 20))
    once, again = (list(video(arena, progress=silent)) for _ in range(2))
    changed = list(video(replace(arena, seed=1), progress=silent))
    assert [f.variant for f in once] == [f.variant for f in again]
    assert all((a.scores == b.scores).all() for a, b in zip(once, again, strict=True))
    assert any((a.scores != b.scores).any() for a, b in zip(once, changed, strict=True))


def test_pairs_of_the_arena_are_answered_in_their_order(people: FaceSet) -> None:
    arena = arena_of(NoLens(), faces=people, test=24, frames=(1, 20), read_noise=0.01)
    order = np.arange(len(arena.test))[::-1]
    turned = Pairs(arena.test.first[order], arena.test.second[order], arena.test.same[order])
    straight = next(iter(video(arena, progress=silent))).scores
    reverse = next(iter(video(replace(arena, test=turned), progress=silent))).scores
    assert (straight == reverse[::-1]).all()
