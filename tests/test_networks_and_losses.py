"""SANet against its published size; losses against their definitions and their signs."""

import math

import pytest
import torch
from torch.nn import functional

from opticaldr import losses
from opticaldr.config import NetworkConfig
from opticaldr.networks.face_reader import FaceReader, moments
from opticaldr.networks.sanet import SANet, SpatialAttention


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_sanet_has_the_published_size():
    assert parameters(SANet(width=16, blocks=4, groups=2)) == pytest.approx(2.66e6, abs=5e3)


def test_sanet_maps_any_frame_to_32_f_features():
    net = SANet(width=2, blocks=1, groups=2).eval()
    assert net.features == 64
    assert net(torch.rand(2, 3, 64, 64)).shape == (2, 64)


def test_attention_weights_sum_to_one_over_the_groups():
    # a features tensor of ones is scaled by weights that sum to 1 over the two groups
    block = SpatialAttention(8, groups=2, stride=1).eval()
    features = torch.rand(3, 8, 5, 5)
    raw = torch.relu(block.norm(block.conv(features)))
    ratio = (block(features) / raw.clamp_min(1e-9)).view(3, 2, 4, 5, 5)
    both_lit = (raw.view(3, 2, 4, 5, 5) > 1e-3).all(1)
    torch.testing.assert_close(ratio.sum(1)[both_lit], torch.ones(int(both_lit.sum())), atol=1e-4,
                               rtol=0)  # fmt: skip


def test_prediction_heads_and_the_frozen_split():
    reader = FaceReader(NetworkConfig(width=2, blocks=1, hidden=8, attribute_names=("a", "b")))
    found = reader(torch.rand(4, 3, 32, 32))
    assert found.attributes.shape == (4, 2)
    assert found.landmarks.shape == (4, 10)
    assert found.emotion.shape == (4, 7)
    assert found.severity.shape == (4,)
    found.severity.sum().backward()
    # the depression head sees both branches; its gradient reaches the emotion branch unless frozen
    assert reader.depression.head[-1].bias.grad is not None
    assert float(found.landmarks.detach().mean()) == pytest.approx(0.5, abs=1e-6)


def unit(*rows):
    return functional.normalize(torch.tensor(rows, dtype=torch.float64), dim=1)


PEOPLE = torch.tensor([0, 0, 1, 1])
STRICT = {"margin": 0.0, "verification": 1.0}


def test_identity_loss_by_hand():
    clean = unit((1, 0, 0), (1, 0, 0), (0, 1, 0), (0, 1, 0))
    # captures equal to the photographs: resemblance 1, mated 1, non-mated 0
    assert float(losses.identity_loss(clean, clean, PEOPLE, **STRICT)) == pytest.approx(2.0)
    # captures all alike and orthogonal to every photograph: nothing left
    same = unit((0, 0, 1)).expand(4, 3)
    assert float(losses.identity_loss(clean, same, PEOPLE, **STRICT)) == pytest.approx(0.0)
    # opposed to the photograph but still separable: only the verification term sees it
    assert float(losses.identity_loss(clean, -clean, PEOPLE, **STRICT)) == pytest.approx(1.0)
    without = losses.identity_loss(clean, -clean, PEOPLE, margin=0.0, verification=0.0)
    assert float(without) == 0.0


def test_identity_loss_without_mated_pairs_has_only_its_first_term():
    clean = unit((1, 0), (0, 1))
    loss = losses.identity_loss(clean, clean, torch.tensor([0, 1]), **STRICT)
    assert float(loss) == pytest.approx(1.0)


@pytest.mark.parametrize("verification", [0.0, 1.0])
def test_a_gradient_step_lowers_the_identity_loss(verification):
    generator = torch.Generator().manual_seed(0)
    clean = functional.normalize(torch.randn(4, 8, generator=generator), dim=1)
    raw = (clean + 0.1 * torch.randn(4, 8, generator=generator)).requires_grad_()
    weights = {"margin": 0.0, "verification": verification}
    before = losses.identity_loss(clean, functional.normalize(raw, dim=1), PEOPLE, **weights)
    before.backward()
    moved = functional.normalize(raw.detach() - 0.1 * raw.grad, dim=1)
    after = losses.identity_loss(clean, moved, PEOPLE, **weights)
    # a step of 0.1 along the gradient: at least a tenth of |g|^2 times the step
    assert float(before.detach() - after) > 0.01 * float(raw.grad.square().sum())


def test_contrast_stretch_spans_zero_to_one():
    photos = 0.4 + 0.1 * torch.rand(2, 3, 8, 8)
    stretched = losses.stretch_contrast(photos)
    assert stretched.amin((1, 2, 3)).tolist() == [0.0, 0.0]
    assert stretched.amax((1, 2, 3)).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)


def test_depression_loss_averages_frames_before_comparing():
    # two recordings: frames 10, 30 (label 20: error 0) and 40, 40 (label 30: error 10)
    scores = torch.tensor([10.0, 30.0, 40.0, 40.0])
    labels = torch.tensor([20.0, 20.0, 30.0, 30.0])
    recordings = torch.tensor([7, 7, 9, 9])
    error = 10 / 63
    expected = (error**2 + 0.5 * error**2) / 2  # MSE + SmoothL1 (quadratic below 1), mean of two
    assert float(losses.depression_loss(scores, labels, recordings)) == pytest.approx(expected)


def test_unknown_labels_take_no_part():
    nan = math.nan
    known = losses.depression_loss(
        torch.tensor([10.0, 60.0]), torch.tensor([10.0, nan]), torch.tensor([0, 1])
    )
    assert float(known) == 0.0
    logits = torch.tensor([[2.0, -3.0]], requires_grad=True)
    one = losses.attribute_loss(logits, torch.tensor([[1.0, nan]]))
    assert float(one.detach()) == pytest.approx(math.log1p(math.exp(-2.0)))
    nothing = losses.attribute_loss(logits, torch.full((1, 2), nan))
    nothing.backward()
    assert float(logits.grad.abs().max()) == 0.0
    assert float(losses.landmark_loss(torch.zeros(1, 10), torch.full((1, 10), nan))) == 0.0
    emotion = losses.emotion_loss(torch.zeros(2, 7), torch.tensor([3, -1]))
    assert float(emotion) == pytest.approx(math.log(7))


def test_moments_are_mean_and_log_variance_of_each_recording():
    features = torch.tensor([[1.0, 5.0], [3.0, 5.0], [10.0, 0.0]])
    found = moments(features, torch.tensor([4, 4, 9]))
    moved, still = math.log(1 + 1e-4), math.log(1e-4)
    expected = [[2.0, 5.0, moved, still], [2.0, 5.0, moved, still], [10.0, 0.0, still, still]]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=0)


def test_moments_head_sees_motion_that_a_frame_head_cannot():
    config = NetworkConfig(width=2, blocks=1, hidden=8, temporal="moments")
    reader = FaceReader(config).eval()
    with torch.no_grad():  # the last layer starts at zero; give it something to say
        reader.depression.head[-1].weight.fill_(1.0)
    still = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    frames = torch.cat([still, still.flip(-1)])
    apart = reader(frames).severity
    together = reader(frames, torch.tensor([0, 0])).severity
    assert torch.equal(together[0], together[1])  # one recording, one score
    assert float((together - apart).abs().max()) > 1e-3
