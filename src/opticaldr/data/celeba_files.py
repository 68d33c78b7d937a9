"""Where CelebA's pictures lie: a folder, a zip that is read in place, or Parquet shards."""

from __future__ import annotations

import bisect
import re
import struct
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Protocol

from opticaldr.media import shown
from opticaldr.types import InputError

CACHE_BYTES = 256 * 2**20
"""Row groups of Parquet shards that are kept per process."""

PICTURE = re.compile(r"\d{6}\.(jpe?g|png)", re.IGNORECASE)
"""Name of a picture; the label files give it with .jpg, some copies hold .png."""

LOCAL_HEADER = struct.Struct("<26xHH")
"""Of a zip member: lengths of name and extra field end it (APPNOTE 4.3.7)."""


class Files(Protocol):
    """Files by name; may be sent to another process and read there."""

    def read(self, name: str) -> bytes: ...


@dataclass(frozen=True)
class Folder:
    """Files below a folder."""

    root: Path

    def names(self) -> list[str]:
        """All files, relative to the folder."""
        return [path.relative_to(self.root).as_posix() for path in self.root.rglob("*.*")]

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise InputError(
                f"Expected to read {shown(self.root / name)}, found '{error.strerror}'; "
                "restore the file."
            ) from None


@dataclass(frozen=True)
class Zip:
    """Members of a zip, read in place; the file is opened for each read, so processes may share it.

    index: name -> (offset of the local header, stored size [bytes], method).
    """

    path: Path
    index: dict[str, tuple[int, int, int]]

    def names(self) -> list[str]:
        return list(self.index)

    def read(self, name: str) -> bytes:
        offset, size, method = self.index[name]
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                skipped = sum(LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size)))
                file.seek(skipped, 1)
                content = file.read(size)
            return content if method == zipfile.ZIP_STORED else zlib.decompress(content, -15)
        except (OSError, struct.error, zlib.error) as error:
            raise InputError(
                f"Expected {name} in {shown(self.path)}, found damage ({error}); "
                "download the zip again."
            ) from None


def open_zip(path: Path) -> Zip:
    """The members of a zip.

    Raises:
        InputError: a web page that was saved under this name, or a damaged or incomplete zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        with path.open("rb") as file:
            refuse_web_page(file.read(200), shown(path))
        raise InputError(
            f"Expected a zip at {shown(path)}, found a file that is none or is incomplete "
            f"({error}); download it again."
        ) from None
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                f"Expected stored or deflated files in {shown(path)}, found another method for "
                f"{member.filename}; unpack the zip and give its folder."
            )
    return Zip(
        path, {m.filename: (m.header_offset, m.compress_size, m.compress_type) for m in members}
    )


def refuse_web_page(content: bytes, name: str) -> None:
    """Raises InputError for HTML: what a server sends when a download quota is used up."""
    if content.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise InputError(
            f"Expected CelebA data in {name}, found a web page: the server sent a notice (such as "
            "'quota exceeded') instead of the file; open it in a browser and download again."
        )


@dataclass
class Shards:
    """Pictures in Parquet shards with a column image = struct(bytes, ...); names are shard#row.

    starts: shard -> number of the first row of each row group. Row groups are read whole and kept
    until CACHE_BYTES are used.
    """

    root: Path
    starts: dict[str, tuple[int, ...]]
    _kept: OrderedDict[tuple[str, int], list[bytes]] = field(
        default_factory=OrderedDict, repr=False
    )
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)  # threads read ahead

    def read(self, name: str) -> bytes:
        shard, _, row = name.rpartition("#")
        starts = self.starts[shard]
        group = bisect.bisect_right(starts, int(row)) - 1
        with self._lock:
            if (shard, group) not in self._kept:
                self._kept[shard, group] = self._images(shard, group)
                while len(self._kept) > 1 and self._kept_bytes() > CACHE_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end((shard, group))
            return self._kept[shard, group][int(row) - starts[group]]

    def _images(self, shard: str, group: int) -> list[bytes]:
        from pyarrow import ArrowException, parquet

        try:
            with parquet.ParquetFile(self.root / shard) as file:
                table = file.read_row_group(group, columns=["image.bytes"])
        except (OSError, ArrowException) as error:
            raise InputError(
                f"Expected images in {shown(self.root / shard)}, found damage ({error}); "
                "download the shard again."
            ) from None
        return [image["bytes"] or b"" for image in table.column("image").to_pylist()]

    def _kept_bytes(self) -> int:
        return sum(len(image) for images in self._kept.values() for image in images)


def stem(name: str) -> str:
    """File name without folder and suffix: "000001" of "img_align_celeba/000001.jpg"."""
    return PurePosixPath(name).stem
