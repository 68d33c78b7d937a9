"""Dynamics: speeds against their formulas, what they must not depend on, and what they can learn."""

from __future__ import annotations

import math

import pytest
import torch

from opticaldr import losses
from opticaldr.config import NetworkConfig, load_config
from opticaldr.model import build_model, load_model, save_model
from opticaldr.networks.face_reader import FaceReader
from opticaldr.networks.motion import (
    MotionSummary,
    follow,
    mean_square_speed,
    pose,
    shift,
)
from opticaldr.types import InputError
from training import drawn_data, trainer_for, with_stage

LAG_S = 0.4
SMALL = NetworkConfig(width=2, blocks=1, hidden=8, temporal="dynamics")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sine_speed(amplitude: float, hertz: float, lag_s: float) -> float:
    """RMS of (x(t + lag) - x(t)) / lag of a sine over whole periods."""
    return amplitude * math.sqrt(1 - math.cos(2 * math.pi * hertz * lag_s)) / lag_s


def speed_of(x: torch.Tensor, time_s: torch.Tensor, lag_s: float = LAG_S) -> float:
    one = torch.zeros(len(x), dtype=torch.long)
    return float(mean_square_speed(x[:, None], one, time_s, lag_s=lag_s)[0][0].sqrt())


def sine(time_s: torch.Tensor, hertz: float = 0.5, amplitude: float = 0.1) -> torch.Tensor:
    return amplitude * torch.sin(2 * math.pi * hertz * time_s)


def faces(x: torch.Tensor, y: torch.Tensor, size: int = 32) -> torch.Tensor:
    """(b, 3, size, size): a bright oval with two dark eyes, its middle at (x, y) in crop sides."""
    place = (torch.arange(size) + 0.5) / size
    column, row = place[None, None, :] - x[:, None, None], place[None, :, None] - y[:, None, None]
    image = 0.2 + 0.6 * torch.exp(-((column / 0.25) ** 2 + (row / 0.3) ** 2))
    for side in (-0.12, 0.12):
        image = image - 0.3 * torch.exp(-((column - side) ** 2 + (row + 0.1) ** 2) / (2 * 0.08**2))
    return image[:, None].expand(-1, 3, -1, -1).clone()


# --- speed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag_s", [0.1, 0.4, 1.6])
def test_speed_of_a_sine_is_that_of_its_formula(lag_s):
    time = torch.arange(1200, dtype=torch.float64) / 30  # 20 periods
    # 3 %: the last lag of the recording is not seen, which leaves less than whole periods
    assert speed_of(sine(time), time, lag_s) == pytest.approx(sine_speed(0.1, 0.5, lag_s), rel=0.03)


def test_a_short_lag_gives_the_derivative():
    time = torch.arange(6000, dtype=torch.float64) / 100
    derivative = 0.1 * 2 * math.pi * 0.5 / math.sqrt(2)
    assert speed_of(sine(time), time, 0.02) == pytest.approx(derivative, rel=2e-3)


@pytest.mark.parametrize("rate", [2.5, 5.0, 12.5, 60.0])
def test_speed_does_not_depend_on_the_frame_rate(rate):
    time = torch.arange(0, 40, 1 / rate, dtype=torch.float64)
    # 3 %: at the ends of the recording other parts of a period are seen
    assert speed_of(sine(time), time) == pytest.approx(sine_speed(0.1, 0.5, LAG_S), rel=0.03)


def test_irregular_times_give_the_same_speed():
    time = torch.cumsum(0.02 + 0.18 * torch.rand(400, generator=seeded(), dtype=torch.float64), 0)
    # 5 %: x is interpolated between frames up to 0.2 s apart
    assert speed_of(sine(time), time) == pytest.approx(sine_speed(0.1, 0.5, LAG_S), rel=0.05)


def test_frames_lost_for_seconds_do_not_look_like_a_face_that_holds_still():
    time = torch.arange(400, dtype=torch.float64) / 10
    seen = (time % 5) < 2  # three of five seconds are missing, eight times
    whole = speed_of(sine(time, 0.7), time)
    found = speed_of(sine(time, 0.7)[seen], time[seen])
    # 5 %: other parts of the periods are seen; counting interpolation across gaps loses 11 %
    assert found == pytest.approx(whole, rel=0.05)


def test_the_order_of_rows_does_not_matter_and_recordings_do_not_mix():
    time = torch.rand(60, generator=seeded(), dtype=torch.float64) * 9
    x = torch.randn(60, 3, generator=seeded(1))
    which = torch.randint(4, (60,), generator=seeded(2))
    speed, known = mean_square_speed(x, which, time, lag_s=LAG_S)
    assert speed.shape == (4, 3)
    assert known.flatten().tolist() == [1, 1, 1, 1]
    mixed = torch.randperm(60, generator=seeded(3))
    again, _ = mean_square_speed(x[mixed], which[mixed], time[mixed], lag_s=LAG_S)
    torch.testing.assert_close(again, speed, rtol=1e-5, atol=0)  # float32 sums
    for recording in range(4):
        own = which == recording
        alone, _ = mean_square_speed(x[own], which[own] * 0, time[own], lag_s=LAG_S)
        torch.testing.assert_close(alone[0], speed[recording], rtol=1e-5, atol=0)


def test_when_a_recording_begins_does_not_matter():
    time = torch.arange(50, dtype=torch.float64) / 10
    # a day later, in float64 seconds: 1e-11 s
    assert speed_of(sine(time), time + 86400) == pytest.approx(speed_of(sine(time), time), rel=1e-5)


def test_a_recording_shorter_than_the_lag_is_compared_over_its_length():
    time = torch.tensor([0.0, 0.1, 0.2])
    assert speed_of(torch.tensor([0.0, 0.3, 0.4]), time, 1.6) == pytest.approx(0.4 / 0.2)


def test_without_motion_in_time_speed_is_unknown_and_finite():
    x = torch.randn(5, 2, generator=seeded()).requires_grad_()
    which = torch.tensor([0, 1, 1, 2, 2])  # one frame; two of the same time; two of two times
    time = torch.tensor([3.0, 1.0, 1.0, 0.0, 1.0])
    speed, known = mean_square_speed(x, which, time, lag_s=LAG_S)
    assert known.flatten().tolist() == [0, 0, 1]
    assert float(speed[:2].detach().abs().max()) == 0
    speed.sum().backward()
    assert bool(x.grad.isfinite().all())
    assert float(x.grad[3:].abs().min()) > 0


# --- what is followed ---------------------------------------------------------------------------


def test_shift_follows_a_moving_face():
    time = torch.arange(0, 20, 0.1, dtype=torch.float64)
    x = 0.5 + sine(time, 0.35, 0.03).float()
    y = 0.5 + sine(time, 0.8, 0.02).float()
    which = torch.zeros(len(time), dtype=torch.long)
    found = shift(faces(x, y), which)
    for column, truth, hertz, amplitude in ((0, x, 0.35, 0.03), (1, y, 0.8, 0.02)):
        # slopes are differences over an eighth of a side, and the eyes are not much larger: 15 %
        slope = float((found[:, column] * (truth - 0.5)).sum() / (truth - 0.5).square().sum())
        assert slope == pytest.approx(1.0, abs=0.15)
        speed = float(mean_square_speed(found, which, time, lag_s=LAG_S)[0][0, column].sqrt())
        assert speed == pytest.approx(sine_speed(amplitude, hertz, LAG_S), rel=0.15)


def test_shift_depends_on_neither_contrast_nor_brightness():
    x, y = 0.5 + 0.03 * torch.randn(2, 12, generator=seeded())
    which = torch.zeros(12, dtype=torch.long)
    images = faces(x, y)
    # the floor of the least squares weighs 1e-6 more against a third of the contrast
    torch.testing.assert_close(
        shift(0.3 * images + 0.4, which), shift(images, which), atol=1e-4, rtol=1e-3
    )


def test_shift_survives_blur():
    x, y = 0.5 + 0.03 * torch.randn(2, 40, generator=seeded())
    which = torch.zeros(40, dtype=torch.long)
    sharp = faces(x, y, 64)
    kernel = torch.exp(-((torch.arange(33) - 16) ** 2) / (2 * 6.4**2))  # one SD = a tenth of a side
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    wide = torch.nn.functional.pad(sharp, (16,) * 4, mode="replicate")
    blurred = torch.nn.functional.conv2d(wide, kernel, groups=3)
    blurred = torch.nn.functional.conv2d(blurred, kernel.mT, groups=3)
    found = shift(blurred, which)
    for column, truth in ((0, x), (1, y)):
        both = torch.stack([found[:, column], truth])
        assert float(torch.corrcoef(both)[0, 1]) > 0.95  # 0.05: enlargement takes a part of it


def test_an_even_picture_and_a_single_frame_do_not_move():
    even = torch.full((4, 3, 32, 32), 0.3)
    assert float(shift(even, torch.zeros(4, dtype=torch.long)).abs().max()) == pytest.approx(
        0, abs=1e-6
    )
    alone = shift(torch.rand(3, 3, 32, 32, generator=seeded()), torch.arange(3))
    assert float(alone.abs().max()) == pytest.approx(0, abs=1e-6)  # float32


def test_pose_of_five_points_by_hand():
    points = torch.tensor([[0.3, 0.4, 0.7, 0.5, 0.55, 0.6, 0.4, 0.8, 0.6, 0.8]])
    # eyes (.5, .45), mouth (.5, .8), middle (.5, .625); eyes .4 apart, face .35 high
    expected = torch.tensor([[0.5, 0.625, 0.375, 0.1, 0.05, -0.025]])
    torch.testing.assert_close(pose(points), expected, atol=1e-6, rtol=0)


# --- summary and network ------------------------------------------------------------------------


def test_an_unknown_speed_is_neutral():
    summary = MotionSummary(12, lags_s=(0.4, 1.6))
    features, tracks = torch.rand(3, 12, generator=seeded()), torch.rand(3, 10)
    alone = summary(features, tracks, torch.arange(3), torch.rand(3))
    assert alone.shape == (3, summary.width)
    assert float(alone.abs().max()) == 0.0
    together = summary(features, tracks, torch.zeros(3).long(), torch.arange(3.0))
    assert together.shape == (1, summary.width)
    assert float(together.abs().min()) > 0.0


def test_a_face_that_holds_still_is_known_to():
    summary = MotionSummary(12, lags_s=(0.4, 1.6))
    still = summary(torch.ones(5, 12), torch.ones(5, 10), torch.zeros(5).long(), torch.arange(5.0))
    floor = torch.tensor([0.4, 1.6]).repeat_interleave(13) / 15  # 1e-3 a second over 0.015
    torch.testing.assert_close(still[0], 2 * floor.log(), atol=1e-4, rtol=0)  # float32


def reader_with_a_head() -> FaceReader:
    torch.manual_seed(0)
    reader = FaceReader(SMALL).eval()
    with torch.no_grad():  # heads start at zero weights; give them something to say
        reader.emotion.landmarks.weight.normal_(0, 0.05)
        reader.depression.head[-1].weight.copy_(torch.linspace(-0.02, 0.03, 26))
    return reader


def test_dynamics_are_read_by_a_few_weights():
    branch = FaceReader(NetworkConfig(temporal="dynamics")).depression
    own = [p.numel() for name, p in branch.named_parameters() if not name.startswith("extract")]
    assert sum(own) == 27  # as the docstring of DepressionBranch says


def test_a_recording_gets_one_score_in_any_order_and_any_company():
    reader = reader_with_a_head()
    capture = torch.rand(9, 3, 32, 32, generator=seeded())
    recordings, times = torch.tensor([5, 5, 5, 5, 2, 2, 2, 2, 7]), torch.rand(9) * 4
    scores = reader(capture, recordings, times).severity.detach()
    assert len(scores.unique()) == 3
    mixed = torch.randperm(9, generator=seeded(1))
    again = reader(capture[mixed], recordings[mixed], times[mixed]).severity.detach()
    torch.testing.assert_close(again, scores[mixed], atol=1e-3, rtol=0)  # float32, points of BDI
    alone = reader(capture[:4], recordings[:4], times[:4] + 100.0).severity.detach()
    torch.testing.assert_close(alone, scores[:4], atol=1e-3, rtol=0)


def test_times_matter_and_their_absence_is_allowed():
    reader = reader_with_a_head()
    capture, one = torch.rand(4, 3, 32, 32, generator=seeded()), torch.zeros(4, dtype=torch.long)
    slow, fast = (reader(capture, one, torch.arange(4.0) * step).severity for step in (1.0, 0.2))
    assert float((slow - fast).detach().abs().min()) > 0.1
    for severity in (
        reader(capture).severity,
        reader(capture, one).severity,
        reader(capture[:1], one[:1], torch.zeros(1)).severity,
    ):
        assert bool(severity.isfinite().all())


def test_gradients_reach_both_branches_and_the_capture():
    reader = reader_with_a_head().train()
    capture = torch.rand(6, 3, 32, 32, generator=seeded()).requires_grad_()
    recordings, times = torch.tensor([0, 0, 0, 1, 1, 1]), torch.arange(6.0)
    reader(capture, recordings, times).severity.sum().backward()
    for gradient in (
        capture.grad,
        reader.depression.extract.stem[0].weight.grad,
        reader.emotion.extract.stem[0].weight.grad,
        reader.emotion.landmarks.weight.grad,
    ):
        assert bool(gradient.isfinite().all())
        assert float(gradient.abs().max()) > 0


def test_a_model_with_dynamics_survives_the_disk(tmp_path):
    config = load_config("tiny", ["network.temporal=dynamics", "network.lags_s=[0.3, 2.0]"])
    model = build_model(config)
    save_model(model, config, tmp_path)
    again = load_model(tmp_path).network
    assert again.depression.motion.lags_s == (0.3, 2.0)
    capture, one = torch.rand(3, 3, 32, 32, generator=seeded()), torch.zeros(3)
    model.network.eval()
    expected = model.network(capture, one, torch.arange(3.0)).severity.detach()
    assert torch.equal(again(capture, one, torch.arange(3.0)).severity, expected)


@pytest.mark.parametrize("lags", ["[]", "[0.4, 0.0]"])
def test_lags_must_be_times(lags):
    with pytest.raises(InputError, match="lags_s"):
        load_config("tiny", [f"network.lags_s={lags}"])


# --- learning -----------------------------------------------------------------------------------


def planted(recordings: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Captures, recording, time [s], severity: the worse, the slower; every single frame alike.

    Heads swing equally far and begin anywhere, so neither frames nor their spread tell severity.
    """
    generator = seeded(seed)
    frames = 12
    severity = 63 * torch.rand(recordings, generator=generator)
    hertz = 0.9 * torch.exp(-1.2 * severity / 63)
    time = torch.arange(frames) * 0.35
    phase = 2 * math.pi * torch.rand(recordings, 2, generator=generator)
    swing = 2 * math.pi * hertz[:, None, None] * time[None, :, None] + phase[:, None]
    middle = 0.5 + 0.05 * torch.sin(swing).reshape(-1, 2)
    captures = faces(*middle.T, size=32)
    captures = (captures + 0.01 * torch.randn(captures.shape, generator=generator)).clamp(0, 1)
    which = torch.arange(recordings).repeat_interleave(frames)
    return captures, which, time.repeat(recordings), severity.repeat_interleave(frames)


def explained(temporal: str) -> float:
    """Share of the variance of severity that a head trained on 60 recordings explains in 60 others."""
    torch.manual_seed(0)
    reader = FaceReader(SMALL.model_copy(update={"temporal": temporal})).eval()
    capture, which, time, severity = planted(60, 1)
    branch = reader.depression
    torch.nn.init.constant_(branch.head[-1].bias, float(severity.mean()) / 63)
    trained = [p for name, p in branch.named_parameters() if not name.startswith("extract")]
    optimiser = torch.optim.AdamW(trained, lr=0.02, weight_decay=0.1)

    @torch.no_grad()
    def frozen(capture, which):  # extractors do not learn: their features are computed once
        shared = reader.emotion.extract(capture)
        features = torch.cat([shared, branch.extract(capture)], dim=1)
        return features, follow(capture, reader.emotion.landmarks(shared), which)

    seen = frozen(capture, which)
    branch.head.train()
    for _ in range(150):
        loss = losses.depression_loss(branch.score(*seen, which, time), severity, which)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    branch.head.eval()
    capture, which, time, severity = planted(60, 2)
    with torch.no_grad():
        found = branch.score(*frozen(capture, which), which, time)
    found, severity = (v.view(60, -1).mean(1) for v in (found, severity))
    return 1 - float((found - severity).square().mean() / severity.var(correction=0))


def test_dynamics_learn_what_frames_cannot_show():
    # .68 found: three random directions of an untrained network see most of the planted motion
    assert explained("dynamics") > 0.6
    # chance is 0 (or below, by what a head fits to noise); 0.25 is two standard errors at n = 60
    assert explained("frames") < 0.25


def test_stage_3_trains_dynamics_on_clips(tiny_config, tmp_path, monkeypatch):
    network = tiny_config.network.model_copy(update={"temporal": "dynamics"})
    config = tiny_config.model_copy(update={"network": network})
    config = with_stage(config, 3, steps=2, validate_every=1, groups_per_batch=3, per_group=2)
    trainer = trainer_for(config, drawn_data(), tmp_path)  # recordings of 3 frames, 1 s apart
    seen, real = [], FaceReader.forward

    def watched(self, capture, recordings=None, times=None):
        seen.append((self.depression.head.training, recordings, times))
        return real(self, capture, recordings, times)

    monkeypatch.setattr(FaceReader, "forward", watched)
    trainer.fit([3])
    steps = [rest for training, *rest in seen if training]
    assert len(steps) == 2
    for recordings, times in steps:
        for recording in recordings.unique():
            assert times[recordings == recording].diff().tolist() == [1.0]
    tested = [times for training, _, times in seen if not training]
    assert all(times is not None for times in tested)
