"""Losses from the theory: closed forms, gradients through the optics, and what they do to a lens."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from opticaldr import theory_losses
from opticaldr.config import LensConfig, LossConfig, load_config
from opticaldr.lens import Lens
from opticaldr.model import build_model
from opticaldr.optics import bands
from opticaldr.optics.propagation import psf_direct
from opticaldr.optics.system import OpticalSystem, focus_coefficient_um
from opticaldr.privacy import certificates
from opticaldr.theory_losses import (
    Appearance,
    effective_information,
    fit_appearance,
    identity_bits,
    leaked_bits,
    soft_recoverable_band,
    spectral_losses,
    two_covariance_d2,
)
from opticaldr.train import StageLoss, Trainer, TrainingData
from opticaldr.types import FACE_SHARE, InputError

SIZE = 128
CYCLES = bands.face_frequencies(SIZE, FACE_SHARE * SIZE)
POWER = bands.face_power(SIZE, FACE_SHARE * SIZE)


def gaussian(sigma_faces):
    axis = torch.arange(SIZE, dtype=torch.float64) - SIZE // 2
    profile = torch.exp(-(axis**2) / (2 * (sigma_faces * FACE_SHARE * SIZE) ** 2))
    return profile[:, None] * profile / profile.sum() ** 2


def disc(diameter_faces):
    axis = (torch.arange(9 * SIZE, dtype=torch.float64) + 0.5) / 9 - 0.5 - SIZE // 2
    inside = axis[:, None] ** 2 + axis**2 <= (diameter_faces * FACE_SHARE * SIZE / 2) ** 2
    pooled = torch.nn.functional.avg_pool2d(inside.double()[None], 9)[0]
    return pooled / pooled.sum()


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# --- spectrum ---------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 30, 1800])
@pytest.mark.parametrize(
    ("psf", "least", "most"),
    [
        *((gaussian(sigma), -1.0, 1.0) for sigma in (0.03, 0.08, 0.17, 0.3)),
        # zeros run through the rings of a disc: each counts by the share that comes back
        *((disc(diameter), -6.0, 0.0) for diameter in (0.3, 1.0)),
    ],
)
def test_the_smooth_band_follows_the_hard_one(psf, least, most, frames):
    snr = bands.signal_to_noise(psf, POWER, noise=0.01, frames=frames)
    soft = float(soft_recoverable_band(snr, CYCLES))
    assert least < soft - int(bands.recoverable_band(snr, CYCLES)) < most


def test_the_smooth_band_at_both_ends():
    rings = int(CYCLES[0].max())
    everything, nothing = torch.full((SIZE, SIZE), 1e9), torch.zeros(SIZE, SIZE)
    assert float(soft_recoverable_band(everything, CYCLES)) == pytest.approx(rings, abs=1e-3)
    assert float(soft_recoverable_band(nothing, CYCLES)) == pytest.approx(0, abs=1e-6)
    even = torch.ones(SIZE, SIZE, dtype=torch.float64)  # R = 1/2 everywhere: 1/2 + 1/4 + ..
    assert float(soft_recoverable_band(even, CYCLES)) == pytest.approx(1, abs=1e-9)


def test_a_dark_ring_ends_the_smooth_band():
    snr = torch.full((SIZE, SIZE), 1e6, dtype=torch.float64)
    snr[(CYCLES >= 9.5) & (CYCLES < 10.5)] = 1e-6
    assert float(soft_recoverable_band(snr, CYCLES)) == pytest.approx(9, abs=1e-3)


@pytest.mark.parametrize("frames", [1, 1800])
def test_leaked_bits_are_the_bound_of_the_certificate(frames):
    psf = torch.stack([gaussian(0.05), gaussian(0.1), gaussian(0.2)])
    snr = bands.signal_to_noise(psf, POWER, noise=0.01, frames=frames)
    passed = bands.otf(psf).abs().square() * POWER
    passed[:, 0, 0] = 0  # brightness does not count
    bound = certificates.bits_hadamard(passed.numpy(), 0.01, frames=frames)
    assert float(leaked_bits(snr)) == pytest.approx(bound, rel=1e-9)


def test_detail_of_a_known_thumbnail_does_not_count():
    flat = torch.zeros(3, 16, 16, dtype=torch.float64)
    flat[:, 2, 0] = flat[:, 0, -2] = 3.0  # two cycles per frame: what 4 x 4 pixels can show
    found = [float(leaked_bits(flat, known_thumbnail=k)) for k in (0, 3, 4)]
    assert found == pytest.approx([6.0, 6.0, 0.0])  # 6 coefficients of 1/2 log2(4)


SMALL = OpticalSystem(grid=128, sensor_pixels=64)


def small_lens(**terms):
    values = torch.zeros(15, dtype=torch.float64)
    values[3] = 0.7 * focus_coefficient_um(SMALL, 1.0)
    for name, value in terms.items():
        values[int(name[1:]) - 1] = value
    return values


@pytest.mark.parametrize("name", ["leaked_bits", "recoverable_band", "fisher_bits"])
def test_gradients_through_the_optics(name):
    # only four coefficients move; window 256 for all
    free, depths = torch.tensor([3, 4, 6, 10]), torch.tensor([0.5, 1.5], dtype=torch.float64)
    base = small_lens(z5=0.05, z6=0.02, z7=0.03, z11=0.04)
    weights = LossConfig(leaked_bits=1.0, recoverable_band=1.0, attacker_frames=30)
    model = Appearance(normal(3, 3, 64, 64, seed=1), normal(2, 3, 64, 64, seed=2))

    def loss(moving):
        psf = psf_direct(base.index_put((free,), moving), depths, SMALL, window=256)
        if name != "fisher_bits":
            return spectral_losses(psf, weights, pixels=64, noise=0.01)[name]
        folded = bands.otf(bands.fold(psf[:1], 64))
        seen = torch.fft.ifft2(torch.fft.fft2(model.scenes) * folded).real
        return model.bits(seen, noise=0.05, frames=30)

    moving = base[free].clone().requires_grad_(True)
    # bits run to thousands: their gradient is checked to six digits
    assert torch.autograd.gradcheck(loss, moving, eps=1e-5, atol=1e-5, rtol=1e-5)
    assert float(torch.autograd.grad(loss(moving), moving)[0].abs().min()) > 0


# --- people -----------------------------------------------------------------------------------


def test_information_is_what_the_linear_gaussian_model_holds():
    between, within, noise, frames = normal(3, 40, seed=1), normal(4, 40, seed=2), 0.8, 7
    information = effective_information(between, within, noise=noise, frames=frames)
    unknown = within.T @ within + noise**2 / frames * torch.eye(40)
    direct = between @ torch.linalg.solve(unknown, between.T)
    torch.testing.assert_close(information, direct)  # Woodbury
    known = unknown + between.T @ between
    mutual = (torch.logdet(known) - torch.logdet(unknown)) / (2 * math.log(2))
    torch.testing.assert_close(identity_bits(information), mutual)


def test_an_unknown_nuisance_hides_what_looks_like_it():
    within = normal(4, 40, seed=2)
    between = normal(3, 40, seed=1)
    between[0] = 2 * within[1] - within[3]  # a person who differs as a pose does
    plain = effective_information(between, within, noise=1.0, nuisance_precision=0.0)
    basis = torch.linalg.qr(within.T).Q
    left = between - between @ basis @ basis.T
    torch.testing.assert_close(plain, left @ left.T)  # privacy.md 4.7: only what is orthogonal
    assert float(plain[0, 0]) == pytest.approx(0, abs=1e-9)
    informed = effective_information(between, within, noise=1.0)
    assert float(informed[0, 0]) > 0.1


def test_two_covariance_distance():
    difference, within, noise = normal(5, 30, seed=3), normal(4, 30, seed=4), 0.5
    covariance = within.T @ within + noise**2 * torch.eye(30)
    expected = [float(d @ torch.linalg.solve(covariance, d)) for d in difference]
    found = two_covariance_d2(difference, within, noise=noise)
    assert found.tolist() == pytest.approx(expected)
    none = two_covariance_d2(difference, torch.zeros(1, 30).double(), noise=noise)
    apart = certificates.d_pair(np.linalg.norm(difference.numpy(), axis=1), noise)
    assert none.tolist() == pytest.approx(apart**2)  # without nuisance, Theorem 1


def test_more_frames_and_less_noise_say_more_about_identity():
    between, within = normal(3, 40, seed=1), normal(4, 40, seed=2)
    bits = [
        float(identity_bits(effective_information(between, within, noise=s, frames=n)))
        for s, n in ((1.0, 1), (1.0, 30), (0.01, 30))
    ]
    assert bits == sorted(bits)
    assert bits[0] > 0


def test_appearance_finds_the_directions_between_and_within_people():
    axes = torch.linalg.qr(normal(3 * 8 * 8, 5)).Q.T.reshape(5, 3, 8, 8)
    who, pose = 3.0 * normal(300, 2, seed=5), normal(300 * 4, 3, seed=6)
    people = torch.arange(300).repeat_interleave(4)
    scenes = torch.einsum("bq,qchw->bchw", who[people], axes[:2])
    scenes = scenes + torch.einsum("bq,qchw->bchw", pose, axes[2:])
    found = fit_appearance(scenes, people)
    spread = found.nuisance.flatten(1).norm(dim=1).sort().values[-3:]
    # 900 degrees of freedom: deviations to 2.4 %
    assert spread.tolist() == pytest.approx([1, 1, 1], rel=0.1)
    top = found.identity.flatten(1)[-2:]
    assert top.norm(dim=1).tolist() == pytest.approx([3, 3], rel=0.15)  # 299 people: 4 %
    inside = top @ axes[:2].flatten(1).T
    # the means of four poses still vary by 1/2 in the other directions, which tilts the top two
    assert float(inside.norm() / top.norm()) > 0.99


# --- what they do to a lens -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["leaked_bits", "recoverable_band"])
def test_a_few_steps_blur_a_lens_that_is_in_focus(name):
    lens = Lens(LensConfig(sensor_pixels=64))
    weights = LossConfig(**{name: 1.0}, attacker_frames=30)
    optimiser = torch.optim.Adam(lens.parameters(), lr=0.03)
    depth, losses, widths, bits, hard = torch.tensor([1.0]), [], [], [], []
    for _ in range(6):
        psf = lens.psf(depth)
        loss = spectral_losses(psf, weights, pixels=64, noise=0.01)[name]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            snr = bands.signal_to_noise(psf, bands.face_power(64, 40), noise=0.01, frames=30)
            axis = torch.arange(psf.shape[-1]) - psf.shape[-1] // 2
            widths.append(float((psf[0].sum((0, 1)) * axis**2).sum() / 3) ** 0.5)
            bits.append(float(leaked_bits(snr)))
            cycles = bands.face_frequencies(64, 40)
            hard.append(int(bands.recoverable_band(snr.sum(1), cycles)))
        losses.append(float(loss.detach()))
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 6
    assert widths == sorted(widths)
    assert bits == sorted(bits, reverse=True)
    assert hard == sorted(hard, reverse=True)
    assert (lens.coefficients.grad[:3] == 0).all()


WEIGHTS = ["losses.leaked_bits=1e-5", "losses.recoverable_band=1e-3", "losses.fisher_bits=1e-3"]


def test_the_trainer_adds_what_has_a_weight_where_the_lens_learns():
    config = load_config("tiny", [*WEIGHTS, "losses.attacker_frames=30"])
    model = build_model(config)
    stage = config.stages.step1.model_copy(update={"losses": ()})
    appearance = fit_appearance(normal(8, 3, 32, 32).float(), torch.arange(8) // 2)
    depths = {"faces": torch.tensor([1.0, 0.5, 1.0])}
    loss = StageLoss(model, stage, config.losses, None, appearance)
    terms = loss({}, depths, torch.Generator())
    assert set(terms) == {"leaked_bits", "recoverable_band", "fisher_bits", "loss"}
    psf = model.camera.lens.psf(torch.tensor([0.5, 1.0]))
    noise = config.sensor.read_noise_test
    expected = spectral_losses(psf, config.losses, pixels=32, noise=noise)
    torch.testing.assert_close(terms["leaked_bits"], expected["leaked_bits"])
    weighted = sum(getattr(config.losses, name) * terms[name] for name in terms if name != "loss")
    torch.testing.assert_close(terms["loss"], weighted)
    terms["loss"].backward()
    assert float(model.camera.lens.coefficients.grad[3]) != 0
    silent = StageLoss(model, stage, replace_weights(config.losses, 0.0), None)
    with pytest.raises(RuntimeError):  # nothing has a weight: there is no term to add up
        silent({}, depths, torch.Generator())


def replace_weights(weights, value):
    return weights.model_copy(update=dict.fromkeys(theory_losses.wanted_terms(weights), value))


def test_steps_1_and_4_train_with_them(draw_faces, tmp_path):
    overrides = ['network.attribute_names=["light"]', *WEIGHTS, "losses.identity=0.0"]
    config = load_config("tiny", overrides)
    stages = {
        f"step{n}": config.stages.numbered()[n].model_copy(update={"steps": 2, "losses": losses})
        for n, losses in ((1, ("utility",)), (4, ("depression", "utility")))
    }
    config = config.model_copy(update={"stages": config.stages.model_copy(update=stages)})
    faces, dev = draw_faces(range(6), 4), draw_faces(range(20, 24), 4)
    data = TrainingData(
        {"faces": faces, "recordings": draw_faces(range(6, 12), 3, recordings=True)},
        {"faces": dev, "recordings": draw_faces(range(24, 28), 3, recordings=True)},
    )
    seen = []
    trainer = Trainer(
        build_model(config), config, data, tmp_path, surrogate=None,
        on_step=lambda number, stage, done, metrics: seen.append((number, metrics)),
    )  # fmt: skip
    trainer.fit([1, 4])
    for number in (1, 4):
        rows = [metrics for n, metrics in seen if n == number]
        assert all(row["leaked_bits"] > 0 and row["fisher_bits"] > 0 for row in rows)
        assert all(row["recoverable_band"] > 0 for row in rows)
    without = TrainingData(
        {"recordings": data.training["recordings"]}, {"recordings": data.validation["recordings"]}
    )
    lonely = config.stages.step4.model_copy(update={"data": ("recordings",)})
    stages = config.stages.model_copy(update={"step4": lonely})
    config = config.model_copy(update={"stages": stages})
    trainer = Trainer(build_model(config), config, without, tmp_path / "b", surrogate=None)
    with pytest.raises(InputError, match=r"'faces' in stage 4, which losses\.fisher_bits"):
        trainer.fit([4])


def test_an_attacker_has_at_least_one_frame():
    with pytest.raises(InputError, match="attacker_frames must be 1 or more"):
        load_config("tiny", ["losses.attacker_frames=0"])
    assert theory_losses.wanted_terms(LossConfig()) == []
    small = replace(SMALL, sensor_pixels=32)
    psf = psf_direct(small_lens(), torch.ones(1, dtype=torch.float64), small)
    assert spectral_losses(psf, LossConfig(), pixels=32, noise=0.01) == {}
