"""Batches: who belongs together, what is drawn, what augmentation does to picture and labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from opticaldr.data.batches import Batch, GroupedFaces, augment, load_batch, resize
from opticaldr.data.faceset import FaceSet
from opticaldr.types import FaceRecord

COLOURS = torch.tensor(
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]
)
"""One colour a landmark: left eye, right eye, nose, left and right mouth corner."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def table(people: dict[str, int], *, recordings: bool = False) -> FaceSet:
    """Grey pictures of 8 px; people: name -> images."""
    records = tuple(
        FaceRecord(key=f"{name}/{i}", person=name, recording=f"{name}-s{i % 2}" * recordings)
        for name, images in people.items()
        for i in range(images)
    )
    return FaceSet("table", records, lambda record: np.full((8, 8, 3), 128, np.uint8))


def batch_of(photos: torch.Tensor, **labels: torch.Tensor) -> Batch:
    count = len(photos)
    blank = {
        "group": torch.arange(count),
        "time_s": torch.zeros(count, dtype=torch.float64),
        "emotion": torch.zeros(count, dtype=torch.long),
        "severity": torch.zeros(count),
        "attributes": torch.zeros(count, 0),
        "landmarks": torch.full((count, 10), torch.nan),
    }
    return Batch(photos=photos, **{**blank, **labels})


# --- groups and draws -------------------------------------------------------------------------


def test_groups_follow_the_role():
    faces = table({"ann": 4, "bo": 1}, recordings=True)
    assert GroupedFaces.of(faces, "faces").groups == ((0, 1, 2, 3), (4,))
    assert GroupedFaces.of(faces, "recordings").groups == ((0, 2), (1, 3), (4,))
    assert GroupedFaces.of(faces, "expressions").groups == ((0,), (1,), (2,), (3,), (4,))


def test_a_draw_has_distinct_groups_and_their_members():
    people = {f"p{n}": 5 for n in range(10)}
    grouped = GroupedFaces.of(table(people), "faces")
    indices, numbers = grouped.draw(groups=6, per_group=3, generator=seeded())
    assert len(indices) == len(numbers) == 18
    assert len(set(numbers)) == 6
    assert len(set(indices)) == 18  # five images are enough: nothing repeats
    assert all(index in grouped.groups[number] for index, number in zip(indices, numbers))  # noqa: B905
    assert numbers == [n for n in dict.fromkeys(numbers) for _ in range(3)]


def test_small_groups_repeat_evenly():
    grouped = GroupedFaces.of(table({"ann": 2, "bo": 2}), "faces")
    indices, _ = grouped.draw(groups=2, per_group=5, generator=seeded())
    assert sorted(indices.count(i) for i in range(4)) == [2, 2, 3, 3]


def test_more_groups_than_there_are_gives_all_of_them():
    grouped = GroupedFaces.of(table({"ann": 2, "bo": 2}), "faces")
    indices, numbers = grouped.draw(groups=9, per_group=2, generator=seeded())
    assert sorted(indices) == [0, 1, 2, 3]
    assert sorted(numbers) == [0, 0, 1, 1]


def test_expressions_draw_single_images():
    grouped = GroupedFaces.of(table({"ann": 30}), "expressions")
    indices, numbers = grouped.draw(groups=4, per_group=5, generator=seeded())
    assert len(set(indices)) == len(set(numbers)) == 20


def test_the_generator_alone_decides_the_draw():
    grouped = GroupedFaces.of(table({f"p{n}": 5 for n in range(10)}), "faces")

    def drawn(seed: int) -> tuple[list[int], list[int]]:
        return grouped.draw(groups=4, per_group=3, generator=seeded(seed))

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_load_batch_reads_labels_and_resizes(draw_faces):
    faces = draw_faces(range(2), 2)
    batch = load_batch(faces, [3, 0], [1, 0], size=16)
    assert batch.photos.shape == (2, 3, 16, 16)
    assert batch.group.tolist() == [1, 0]
    assert batch.emotion.tolist() == [faces.records[3].emotion, faces.records[0].emotion]
    # float32 of the same numbers
    expected = torch.tensor([faces.records[3].landmarks, faces.records[0].landmarks])
    torch.testing.assert_close(batch.landmarks, expected, atol=1e-7, rtol=0)
    assert bool(batch.severity.isnan().all())
    whole = load_batch(faces, [3], [0], size=32).photos[0]
    assert torch.equal((whole * 255).round().byte().permute(1, 2, 0), torch.tensor(faces.image(3)))


def test_resize_does_not_alias():
    lines = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)  # one-pixel lines
    small = resize(lines, 16)
    # above the new Nyquist frequency: grey remains (a filter of finite width leaves 3 %)
    assert float((small[..., 2:-2] - 0.5).abs().max()) < 0.03


# --- augmentation -----------------------------------------------------------------------------


def dotted() -> tuple[torch.Tensor, torch.Tensor]:
    """(photos (1, 3, 40, 40), landmarks (1, 10)): one coloured pixel per landmark, on pixel centres."""
    columns, rows = [8, 28, 21, 11, 26], [12, 14, 22, 30, 31]
    photo = torch.zeros(3, 40, 40)
    for colour, x, y in zip(COLOURS, columns, rows, strict=True):
        photo[:, y, x] = colour
    points = torch.tensor([[(x + 0.5) / 40, (y + 0.5) / 40] for x, y in zip(columns, rows)])  # noqa: B905
    return photo[None], points.reshape(1, 10)


def colour_at(photo: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    x, y = (point * 40).long().tolist()
    return photo[:, y, x]


def test_a_flip_moves_the_points_with_the_picture():
    photos, landmarks = dotted()
    many = batch_of(photos.repeat(20, 1, 1, 1), landmarks=landmarks.repeat(20, 1))
    after = augment(many, per_group=False, generator=seeded(), strength=0.0)
    flipped = [not torch.equal(p, photos[0]) for p in after.photos]
    assert 4 <= sum(flipped) <= 16  # 20 fair coins: outside with probability 0.3 %
    swapped = COLOURS[[1, 0, 2, 4, 3]]  # the right eye stands on the left now
    for photo, points, mirrored in zip(after.photos, after.landmarks, flipped, strict=True):
        expected = swapped if mirrored else COLOURS
        found = torch.stack([colour_at(photo, point) for point in points.view(5, 2)])
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)  # mean and back in float32
        assert float(points[0]) < float(points[2])  # image left first, as types.py promises


def test_unknown_points_stay_unknown():
    after = augment(
        batch_of(torch.rand(8, 3, 4, 4, generator=seeded())), per_group=False, generator=seeded()
    )
    assert bool(after.landmarks.isnan().all())


def test_jitter_keeps_photos_in_range_and_really_changes_them():
    photos = torch.rand(16, 3, 8, 8, generator=seeded()).round()  # black and white: the worst case
    after = augment(batch_of(photos), per_group=False, generator=seeded(1), strength=0.5)
    assert float(after.photos.min()) >= 0.0
    assert float(after.photos.max()) <= 1.0
    assert float((after.photos - photos).abs().mean()) > 0.02


def test_frames_of_a_group_share_one_draw():
    frame = torch.rand(1, 3, 8, 8, generator=seeded()) * 0.5 + 0.25
    group = torch.tensor([7, 3, 7, 3, 9, 9])
    same = batch_of(frame.repeat(6, 1, 1, 1), group=group)
    after = augment(same, per_group=True, generator=seeded(2)).photos
    for a, b in ((0, 2), (1, 3), (4, 5)):
        assert torch.equal(after[a], after[b])
    assert not torch.equal(after[0], after[1])
    alone = augment(same, per_group=False, generator=seeded(2)).photos
    assert not torch.equal(alone[0], alone[2])


@pytest.mark.parametrize("per_group", [False, True])
def test_augmentation_repeats_and_keeps_the_labels(draw_faces, per_group):
    faces = draw_faces(range(3), 4)
    batch = load_batch(faces, list(range(12)), [i // 4 for i in range(12)], size=32)
    first = augment(batch, per_group=per_group, generator=seeded(5))
    again = augment(batch, per_group=per_group, generator=seeded(5))
    for field in dataclasses.fields(Batch):
        torch.testing.assert_close(
            getattr(first, field.name), getattr(again, field.name), rtol=0, atol=0, equal_nan=True
        )
    for name in ("group", "time_s", "emotion", "attributes"):
        assert torch.equal(getattr(first, name), getattr(batch, name))


# --- clips --------------------------------------------------------------------------------------


def recorded(frames: dict[str, int]) -> FaceSet:
    """Recordings with their frames in no order, 0.5 s apart; frames: name -> frames."""
    records = tuple(
        FaceRecord(key=f"{name}/{i}", person=name, recording=name, time_s=0.5 * (7 * i % count))
        for name, count in frames.items()
        for i in range(count)
    )
    return FaceSet("recorded", records, lambda record: np.full((8, 8, 3), 128, np.uint8))


def test_a_clip_is_a_run_of_frames_in_time():
    faces = recorded({f"p{n}": 11 for n in range(6)})
    grouped = GroupedFaces.of(faces, "recordings")
    starts = set()
    for seed in range(20):
        indices, numbers = grouped.draw(groups=3, per_group=4, generator=seeded(seed), clips=True)
        assert len(set(numbers)) == 3
        for number in set(numbers):
            clip = [i for i, n in zip(indices, numbers, strict=True) if n == number]
            times = [faces.records[i].time_s for i in clip]
            assert np.diff(times).tolist() == [0.5, 0.5, 0.5]
            assert set(clip) <= set(grouped.groups[number])
            starts.add(times[0])
    # 60 clips: each of 8 starts misses with probability (7/8)^60 = 3e-4
    assert starts == {0.5 * start for start in range(8)}


def test_a_recording_shorter_than_a_clip_gives_its_frames_once():
    grouped = GroupedFaces.of(recorded({"ann": 3, "bo": 9}), "recordings")
    indices, numbers = grouped.draw(groups=2, per_group=5, generator=seeded(), clips=True)
    assert sorted(i for i, n in zip(indices, numbers, strict=True) if n == 0) == [0, 1, 2]
    assert numbers.count(1) == 5


def test_the_generator_alone_decides_the_clips():
    grouped = GroupedFaces.of(recorded({f"p{n}": 30 for n in range(5)}), "recordings")

    def drawn(seed: int) -> tuple[list[int], list[int]]:
        return grouped.draw(groups=3, per_group=4, generator=seeded(seed), clips=True)

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_photographs_have_no_clips():
    grouped = GroupedFaces.of(table({f"p{n}": 5 for n in range(10)}), "faces")
    plain = grouped.draw(groups=4, per_group=3, generator=seeded())
    assert grouped.draw(groups=4, per_group=3, generator=seeded(), clips=True) == plain


def test_a_batch_knows_the_time_of_its_frames():
    faces = recorded({"ann": 5})
    batch = load_batch(faces, [1, 3], [0, 0], size=8)
    assert batch.time_s.tolist() == [faces.records[1].time_s, faces.records[3].time_s] == [1.0, 0.5]
