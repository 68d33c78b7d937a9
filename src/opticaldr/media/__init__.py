"""Photographs and videos in and out of the package: find, decode, crop, write. No tensors."""

from opticaldr.media.files import Input, find_inputs, kind_of, written_whole
from opticaldr.media.image import decode_image, read_image, square_crop, write_image
from opticaldr.media.video_reader import Frame, VideoReader, frames_at, read_frames, sample_times
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
    "square_crop",
    "write_image",
    "written_whole",
]
