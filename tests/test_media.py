"""Photographs and videos: what is read equals what was stored, and bad files give one sentence."""

from __future__ import annotations

import errno
import io
import os
import resource
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from opticaldr.media import (
    VideoReader,
    VideoWriter,
    decode_image,
    find_inputs,
    frames_at,
    read_frames,
    read_image,
    sample_times,
    square_crop,
    write_image,
)
from opticaldr.types import InputError


def scenery(height: int = 32, width: int = 48, *, shift: int = 0) -> np.ndarray:
    """(h, w, 3) uint8: smooth and unsaturated, so that codecs keep it; each corner differs."""
    y, x = np.mgrid[:height, :width]
    red = 50 + 150 * x / (width - 1)
    green = 50 + 150 * y / (height - 1)
    blue = np.broadcast_to(np.float64(shift % 256), red.shape)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def make_video(
    path: Path, *, frames: int = 30, size: tuple[int, int] = (48, 64), options: dict | None = None
) -> Path:
    """A video by PyAV alone, 30 frames a second, blue = 4 x frame number, key frame every 10."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "10", "g": "10"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(scenery(*size, shift=4 * number), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_video(
    path: Path, frames: Iterable[tuple[np.ndarray, int]], *, time_base: Fraction = Fraction(1, 30)
) -> None:
    """Writes (image, pts) pairs with the writer under test."""
    with VideoWriter(path, time_base=time_base) as out:
        for image, pts in frames:
            out.write(image, pts)


# --- images ---------------------------------------------------------------------------------


def test_png_keeps_every_value(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    write_image(tmp_path / "new" / "a.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), image)
    assert os.listdir(tmp_path / "new") == ["a.png"]  # no temporary file stays


def test_without_suffix_the_file_is_png(tmp_path: Path) -> None:
    write_image(tmp_path / "capture", scenery())
    assert (tmp_path / "capture").read_bytes().startswith(b"\x89PNG")


def test_jpeg_is_close(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", scenery())
    error = np.abs(read_image(tmp_path / "a.jpg").astype(int) - scenery())
    assert error.mean() < 2  # quality 95 of a smooth ramp: measured 0.4 grey levels


@pytest.mark.parametrize(
    ("tag", "undo"),
    [(1, lambda a: a), (3, lambda a: np.rot90(a, 2)), (6, np.rot90), (8, lambda a: np.rot90(a, 3))],
)
def test_exif_orientation_is_applied(tag: int, undo: Callable) -> None:
    upright = scenery()
    exif = Image.Exif()
    exif[0x0112] = tag
    # Tag 6 means "turn clockwise to view": the file then holds the view turned counterclockwise.
    data = encoded(Image.fromarray(np.ascontiguousarray(undo(upright))), exif=exif.tobytes())
    np.testing.assert_array_equal(decode_image(data, "photo"), upright)


def test_alpha_is_flattened_on_black() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., :3] = (200, 100, 50)
    pixels[0, :, 3] = 255
    pixels[1, :, 3] = [0, 128]
    image = decode_image(encoded(Image.fromarray(pixels)), "a")
    np.testing.assert_array_equal(image[0], [[200, 100, 50]] * 2)
    np.testing.assert_array_equal(image[1, 0], [0, 0, 0])
    np.testing.assert_allclose(image[1, 1], [100, 50, 25], atol=1)  # 128/255, rounded


def test_palette_transparency_is_black() -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    image.putpalette([255, 0, 0, 0, 255, 0])
    data = encoded(image, transparency=0)
    np.testing.assert_array_equal(decode_image(data, "a"), [[[0, 0, 0], [0, 255, 0]]])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_becomes_8_bit_rgb(kind: str) -> None:
    grey = np.array([[0, 257 * 128, 65535]], np.uint16)
    image = decode_image(encoded(Image.fromarray(grey), kind), "a")
    np.testing.assert_array_equal(image, [[[0] * 3, [128] * 3, [255] * 3]])


def test_32_bit_values_are_refused() -> None:
    image = Image.fromarray(np.zeros((2, 2), np.float32))
    with pytest.raises(InputError, match="8 or 16 bits a channel in a, found 32-bit"):
        decode_image(encoded(image, "TIFF"), "a")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"  # PNG has no CMYK
    white = Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode)
    np.testing.assert_array_equal(decode_image(encoded(white, kind), "a"), np.full((4, 5, 3), 255))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_truncated_image_is_refused(kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(InputError, match=r"whole image in photo\.x, found damaged or truncated"):
        decode_image(data[: len(data) // 2], "photo.x")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns about damaged TIFF tags
def test_damaged_image_is_refused_or_decoded_but_never_a_crash() -> None:
    rng = np.random.default_rng(2)
    refused = 0
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP"):
        data = encoded(Image.fromarray(scenery()), kind)
        for _ in range(60):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data), 8):
                damaged[place] = rng.integers(0, 256)
            try:
                assert decode_image(bytes(damaged), "a").dtype == np.uint8
            except InputError:
                refused += 1
    assert refused > 50  # both outcomes occur


def test_text_named_jpg_and_empty_file(tmp_path: Path) -> None:
    (tmp_path / "letter.jpg").write_text("Dear Sir or Madam\n" * 20)
    with pytest.raises(InputError, match=r"image in .*letter\.jpg, found data that are none of"):
        read_image(tmp_path / "letter.jpg")
    (tmp_path / "empty.png").touch()
    with pytest.raises(InputError, match="found zero bytes"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(InputError, match="No such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(InputError, match="Is a directory"):
        read_image(tmp_path)


@pytest.mark.parametrize("side", [8_001, 60_000])
def test_decompression_bomb_is_refused_before_decoding(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = encoded(Image.new("1", (1, 1)))
    bomb = data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(InputError, match="at most 64 Mpx"):
        decode_image(bomb + data[33:], "bomb.png")


def test_unknown_suffix_and_wrong_array_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found '\.xyz'; use one of \.png"):
        write_image(tmp_path / "a.xyz", scenery())
    with pytest.raises(ValueError, match="uint8"):
        write_image(tmp_path / "a.png", scenery() / 255)


def test_full_disk_keeps_the_old_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.png"
    write_image(target, scenery())
    before = target.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"write .*a\.png, found 'No space left on device'"):
        write_image(target, scenery(shift=9))
    assert os.listdir(tmp_path) == ["a.png"]
    assert target.read_bytes() == before


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"Not a directory|File exists"):
        write_image(tmp_path / "file" / "a.png", scenery())
    with pytest.raises(InputError, match=r"Not a directory|File exists"):
        VideoWriter(tmp_path / "file" / "a.mp4", time_base=Fraction(1, 30))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes to read-only folders")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            write_image(tmp_path / "a.png", scenery())
    finally:
        tmp_path.chmod(0o700)


def test_square_crop_takes_the_centre() -> None:
    image = scenery(20, 40)
    np.testing.assert_array_equal(square_crop(image, 20), image[:, 10:30])
    np.testing.assert_array_equal(
        square_crop(image.transpose(1, 0, 2), 20), image.transpose(1, 0, 2)[10:30]
    )


def test_square_crop_does_not_alias() -> None:
    """Detail above the new Nyquist frequency turns grey instead of into false stripes."""
    stripes = np.zeros((120, 120, 3), np.uint8)
    stripes[:, ::2] = 255
    small = square_crop(stripes, 40)
    # Measured 0.5 away from the border; nearest-neighbour would swing by 127.
    assert np.abs(small[:, 4:-4].astype(int) - 127.5).max() < 2


def test_square_crop_keeps_brightness() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    # Measured 0.03: the weights are normalised, only the border counts differently.
    assert abs(square_crop(noise, 30).mean() - noise.mean()) < 0.3


# --- inputs ---------------------------------------------------------------------------------


def test_find_inputs_sorts_and_skips_hidden(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.mp4", "sub/c.jpeg", ".d.png", ".hidden/e.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_inputs([tmp_path / "sub", tmp_path])
    assert [(i.kind, i.path.relative_to(tmp_path).as_posix()) for i in found] == [
        ("image", "sub/c.jpeg"),
        ("video", "a.mp4"),
        ("image", "b.PNG"),
        ("image", "sub/c.jpeg"),
    ]


def test_find_inputs_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent, found nothing; check the path"):
        find_inputs([tmp_path / "absent"])
    with pytest.raises(InputError, match=r"images or videos in folder .*, found none"):
        find_inputs([tmp_path])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"suffix '\.txt'; use one of \.jpg"):
        find_inputs([tmp_path / "notes.txt"])


# --- reading videos -------------------------------------------------------------------------


def test_reader_gives_frames_times_and_metadata(tmp_path: Path) -> None:
    with VideoReader(make_video(tmp_path / "a.mp4")) as video:
        assert (video.width, video.height, video.rate, video.frames) == (64, 48, 30, 30)
        assert video.duration_s == pytest.approx(1.0)
        frames = list(video)
        assert video.error is None
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(n, 30) for n in range(30)]
    for number, frame in enumerate(frames):
        # Measured 0.8: crf 10, and the default colour conversion truncates.
        assert abs(frame.image[10:-10, 10:-10, 2].mean() - 4 * number) < 2


def test_reader_takes_a_stream_in_memory(tmp_path: Path) -> None:
    data = make_video(tmp_path / "a.mp4").read_bytes()
    with VideoReader(io.BytesIO(data)) as video:
        assert len(list(video)) == 30
    with pytest.raises(InputError, match="the uploaded video, found zero bytes"):
        VideoReader(io.BytesIO())
    with pytest.raises(InputError, match="the uploaded video, found data that are no video"):
        VideoReader(io.BytesIO(b"hello" * 100))


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
    ids=["90 clockwise", "180", "90 counterclockwise"],
)
def test_rotation_flag_is_applied(tmp_path: Path, matrix: tuple[int, ...], turns: int) -> None:
    """The matrix is written by the QuickTime definition: x' = ax + cy, y' = bx + dy, y downwards."""
    path = make_video(tmp_path / "a.mp4", frames=3)
    with VideoReader(path) as video:
        plain = next(iter(video)).image
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # past version, times and ids, layer, volume
    a, b, c, d = (value * 0x10000 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    with VideoReader(path) as video:
        turned = next(iter(video)).image
        assert (video.height, video.width) == turned.shape[:2]
    np.testing.assert_array_equal(turned, np.rot90(plain, turns))  # turns: counterclockwise


def test_clip_of_a_phone_shape(shared_data: Path) -> None:
    with VideoReader(shared_data / "video" / "clip_a.mp4") as video:
        assert (video.width, video.height, video.rate, video.frames) == (512, 512, 30, 448)
        times = [frame.time_s for frame in video]
        assert video.error is None
    np.testing.assert_allclose(times, np.arange(448) / 30, atol=1e-9)  # constant frame rate


def test_truncated_video_yields_its_beginning(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=90, options={"movflags": "+faststart"})
    with VideoReader(path) as video:
        whole = [frame.image for frame in video]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with VideoReader(path) as video:
        part = [frame.image for frame in video]
        assert "damage" in video.error
        assert "instead of 3.00 s" in video.error
    assert 20 < len(part) < 70  # about half of the bytes
    for before, after in zip(whole, part[:-3], strict=False):
        np.testing.assert_array_equal(before, after)
    with pytest.raises(InputError, match=r"Expected a frame at \d\.\d+ s"):
        read_frames(path, 4)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_hole_in_a_video_does_not_end_it(tmp_path: Path, suffix: str) -> None:
    path = make_video(tmp_path / f"a.{suffix}", frames=90)
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 300] = np.random.default_rng(4).bytes(300)
    path.write_bytes(data)
    with VideoReader(path) as video:
        times = [frame.time_s for frame in video]
    assert len(times) > 60
    assert max(times) > 2.5  # the frames behind the hole are there
    if suffix == "mp4":  # the others resynchronise without a word
        assert "damaged pieces that were skipped or patched" in video.error


def test_what_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.touch()
    with pytest.raises(InputError, match=r"video in .*a\.mp4, found zero bytes"):
        VideoReader(path)
    path.write_text("hello\n" * 200)
    with pytest.raises(InputError, match="found data that are no video"):
        VideoReader(path)
    with pytest.raises(InputError, match="No such file"):
        VideoReader(tmp_path / "absent.mp4")
    make_video(path)
    path.write_bytes(path.read_bytes()[:800])  # the index stands at the end
    with pytest.raises(InputError, match="whose index is cut off"):
        VideoReader(path)


def test_playlist_is_not_followed(tmp_path: Path) -> None:
    """A playlist in a video's clothes would make FFmpeg open whatever it names."""
    make_video(tmp_path / "secret.ts")
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.mp4").write_text(playlist)
    with pytest.raises(InputError, match="found data that are no video"):
        VideoReader(tmp_path / "a.mp4")


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 16000), np.float32), format="fltp", layout="mono"
        )
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"video in .*a\.mp4, found sound only"):
        VideoReader(path)


# --- picking frames -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
def test_frames_at_equals_a_full_pass(tmp_path: Path, suffix: str) -> None:
    """Seeking (frames lie more than 4 s apart) finds the frames that decoding everything finds."""
    path = make_video(tmp_path / f"a.{suffix}", frames=400)
    with VideoReader(path) as video:
        every = {frame.pts: frame for frame in video}
    wanted = sample_times(path, 3)
    found = frames_at(path, wanted)
    for time, frame in zip(wanted, found, strict=True):
        best = min(every.values(), key=lambda candidate: abs(candidate.time_s - time))
        assert abs(frame.time_s - time) == pytest.approx(abs(best.time_s - time), abs=1e-9)
        np.testing.assert_array_equal(frame.image, every[frame.pts].image)


def test_sample_times_are_the_middles(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=120)
    assert sample_times(path, 4) == (0.5, 1.5, 2.5, 3.5)
    assert [frame.time_s for frame in read_frames(path, 4)] == [0.5, 1.5, 2.5, 3.5]


def test_sample_times_without_a_stated_length(tmp_path: Path) -> None:
    """Browsers record Matroska whose header has no duration."""
    path = make_video(tmp_path / "a.mkv", frames=61, options={"live": "1"})
    with VideoReader(path) as video:
        assert video.duration_s is None
    assert sample_times(path, 2) == (0.5, 1.5)


# --- writing videos -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time_base", "pts"),
    [
        (Fraction(1, 90000), [0, 3003, 6006, 9009]),
        (Fraction(1, 1000), [37, 70, 71, 500, 2500, 2501]),  # variable, late start
        (Fraction(1, 30), [5, 6, 7, 9]),
        (Fraction(1001, 30000), [0, 1, 2, 3]),
        (Fraction(1, 1_000_000), [123_457, 156_790, 999_999]),
        (Fraction(1, 10), [0, 10, 11, 12]),  # a tick is longer than a frame usually lasts
    ],
)
def test_writer_keeps_times_exactly(tmp_path: Path, time_base: Fraction, pts: list[int]) -> None:
    frames = [(scenery(shift=20 * number), tick) for number, tick in enumerate(pts)]
    write_video(tmp_path / "a.mp4", frames, time_base=time_base)
    with VideoReader(tmp_path / "a.mp4") as video:
        found = [frame.pts * frame.time_base for frame in video]
        assert video.error is None
    assert found == [tick * time_base for tick in pts]
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_copying_a_video_keeps_pictures_times_and_drops_sound(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=25, options={"crf": "10"})
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(scenery(48, 64, shift=9 * number), format="rgb24")
            container.mux(picture.encode(frame))
        noise = np.random.default_rng(5).normal(0, 0.1, (1, 6400)).astype(np.float32)
        block = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
        block.sample_rate = 16000
        container.mux(sound.encode(block))
        container.mux(sound.encode(None))
        container.mux(picture.encode(None))
    with (
        VideoReader(path) as video,
        VideoWriter(tmp_path / "out.mp4", time_base=video.time_base, rate=video.rate) as out,
    ):
        before = list(video)
        for frame in before:
            out.write(frame.image, frame.pts)
    with VideoReader(tmp_path / "out.mp4") as video:
        after = list(video)
        assert (video.rate, video.frames) == (25, 10)
    assert [(f.pts, f.time_base) for f in after] == [(f.pts, f.time_base) for f in before]
    error = np.stack([a.image.astype(int) - b.image for a, b in zip(after, before, strict=True)])
    assert np.abs(error).mean() < 2  # measured 0.9: crf 12 and halved colour resolution
    # Measured 0.3. Truncating conversion would give 1.1, colour half a pixel to the side 1.0.
    assert np.abs(error.mean(axis=(0, 1, 2))).max() < 0.5
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 255), (200, 150, 120), (0, 0, 0)])
def test_writer_tags_the_colours_it_uses(tmp_path: Path, colour: tuple[int, ...]) -> None:
    write_video(tmp_path / "a.mp4", [(np.full((32, 32, 3), colour, np.uint8), 0)])
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.colorspace == 1  # BT.709
    with VideoReader(tmp_path / "a.mp4") as video:
        image = next(iter(video)).image
    assert np.abs(image.astype(int) - colour).max() <= 2  # 8-bit limited range: one step is 1.16


def test_odd_sizes_grow_by_one(tmp_path: Path) -> None:
    image = scenery(33, 47)
    write_video(tmp_path / "a.mp4", [(image, 0)])
    with VideoReader(tmp_path / "a.mp4") as video:
        found = next(iter(video)).image
    assert found.shape == (34, 48, 3)
    # Measured 0.8: ramps this small cost more than a face does.
    assert np.abs(found[:33, :47].astype(int) - image).mean() < 3


def test_times_that_do_not_advance_move_on(tmp_path: Path) -> None:
    frames = [(scenery(), pts) for pts in (-40, 0, 0, 40)]
    write_video(tmp_path / "a.mp4", frames, time_base=Fraction(1, 1000))
    with VideoReader(tmp_path / "a.mp4") as video:
        assert [frame.pts for frame in video] == [0, 40, 41, 80]


def test_writer_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.mp4, found a\.gif"):
        write_video(tmp_path / "a.gif", [])
    with pytest.raises(InputError, match="at least one frame"):
        write_video(tmp_path / "a.mp4", [])
    with pytest.raises(ValueError, match=r"Expected frames \(32, 48, 3\)"):
        write_video(tmp_path / "a.mp4", [(scenery(), 0), (scenery(48, 32), 1)])
    assert os.listdir(tmp_path) == []


def test_interruption_keeps_the_old_video(tmp_path: Path) -> None:
    def interrupted() -> Iterator[tuple[np.ndarray, int]]:
        yield scenery(), 0
        raise KeyboardInterrupt

    path = make_video(tmp_path / "a.mp4")
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_video(path, interrupted())
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("limit", [0, 30_000])
def test_disk_that_stops_taking_bytes(tmp_path: Path, limit: int) -> None:
    """The file size limit makes the kernel refuse writes inside FFmpeg, as a full disk does."""
    noise = np.random.default_rng(6).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    frames = [(np.roll(noise, 7 * pts, axis=0), pts) for pts in range(10)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(InputError, match=r"write .*a\.mp4, found 'File too large'; free some"):
            write_video(tmp_path / "a.mp4", frames)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


# --- a fixed step in time -------------------------------------------------------------------


def times_at(path: Path, step_s: float) -> list[float]:
    with VideoReader(path) as video:
        return [round(frame.time_s, 6) for frame in video.sampled(step_s)]


def test_a_time_step_takes_every_sixth_frame_of_30_a_second(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=31)
    with VideoReader(path) as video:
        frames = list(video.sampled(0.2))
        assert video.error is None
    assert [frame.number for frame in frames] == [0, 6, 12, 18, 24, 30]
    assert [round(frame.time_s, 6) for frame in frames] == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    with VideoReader(path) as video:
        whole = {frame.number: frame.image for frame in video}
    for frame in frames:
        np.testing.assert_array_equal(frame.image, whole[frame.number])


def test_a_time_step_counts_time_not_frames(tmp_path: Path) -> None:
    """10 a second, then 50, then a gap of 2 s: as many frames a second as asked for, none twice."""
    ticks = [*range(0, 1000, 100), *range(1000, 2000, 20), *range(4000, 4500, 100)]
    frames = ((scenery(shift=number), tick) for number, tick in enumerate(ticks))
    write_video(tmp_path / "a.mp4", frames, time_base=Fraction(1, 1000))
    found = times_at(tmp_path / "a.mp4", 0.2)
    expected = [round(0.2 * n, 1) for n in range(10)]
    # in the gap the nearest frames are its two ends
    assert found == [*expected, 1.98, 4.0, 4.2, 4.4]
    assert times_at(tmp_path / "a.mp4", 0.25) == [
        *(0, 0.2, 0.5, 0.7, 1.0, 1.24, 1.5, 1.74),
        *(1.98, 4.0, 4.2),
    ]


def test_a_time_step_below_the_frame_distance_gives_every_frame_once(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=12)
    assert times_at(path, 0.001) == [round(n / 30, 6) for n in range(12)]


def test_a_leap_of_the_clock_is_one_step(tmp_path: Path) -> None:
    """A day between two frames must not be walked through step by step (1e11 of them)."""
    frames = [(scenery(), 0), (scenery(), 10), (scenery(), 864_000), (scenery(), 864_001)]
    write_video(tmp_path / "a.mp4", frames, time_base=Fraction(1, 10))
    assert times_at(tmp_path / "a.mp4", 1e-6) == [0, 1, 86_400, 86_400.1]


@pytest.mark.parametrize("step_s", [0.0, -1.0, float("nan")])
def test_a_time_step_must_be_positive(tmp_path: Path, step_s: float) -> None:
    with (
        VideoReader(make_video(tmp_path / "a.mp4", frames=2)) as video,
        pytest.raises(InputError, match="time step above 0 s"),
    ):
        next(video.sampled(step_s))


def test_names_outside_utf8_are_read_and_shown(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    os.rename(make_video(tmp_path / "a.mp4", frames=3), path)
    with VideoReader(path) as video:
        assert len(list(video)) == 3
        assert video.name.endswith(r"caf\xe9.mp4")
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"caf\\xe9\.mp4, found zero bytes"):
        VideoReader(path)


def test_pictures_that_grow_on_the_way_are_refused(tmp_path: Path) -> None:
    """The container states the first size only; the second comes with the stream itself."""
    path = tmp_path / "grows.ts"
    with av.open(str(path), "w", format="mpegts") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.pix_fmt = "yuv420p"
        stream.width = stream.height = 48
        grown = av.CodecContext.create("libx264", "w")
        grown.pix_fmt, grown.time_base, grown.framerate = "yuv420p", Fraction(1, 25), 25
        grown.width = grown.height = 160
        for encoder, side, start in ((stream, 48, 0), (grown, 160, 20)):
            packets = []
            for number in range(10):
                grey = np.full((side, side, 3), 90, np.uint8)
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                frame.pts, frame.time_base = start + number, Fraction(1, 25)
                packets += encoder.encode(frame)
            for packet in [*packets, *encoder.encode(None)]:
                packet.stream = stream
                out.mux(packet)
    with VideoReader(path) as whole:
        assert [frame.image.shape[0] for frame in whole] == [48] * 10 + [160] * 10
    with (
        VideoReader(path, max_pixels=100 * 100) as limited,
        pytest.raises(InputError, match="found 160 x 160 pixels"),
    ):
        list(limited)
