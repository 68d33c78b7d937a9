"""Photographs and videos in and out of the package: find, decode, crop, write. No tensors."""

from opticaldr.media.files import Input, find_inputs, kind_of, shown, written_whole
from opticaldr.media.frame_times import frames_at, read_frames, sample_times
from opticaldr.media.image import decode_image, read_image, square_crop, write_image
from opticaldr.media.video_reader import Frame, VideoReader
from opticaldr.media.video_writer import VideoWriter

__all__ = [
    "Frame",
    "Input",
    "VideoReader",
    "VideoWriter",
    "decode_image",
    "find_inputs",
    "frames_at",
    "kind_of",
    "read_frames",
    "read_image",
    "sample_times",
    "shown",
    "square_crop",
    "write_image",
    "written_whole",
]
