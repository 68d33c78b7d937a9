"""Labeled Faces in the Wild (Huang et al. 2007, TR 07-49): aligned crops from a folder or a tar.

Expected layout, below any top folders: PERSON/PERSON_0001.jpg and, for verification,
pairs.txt (View 2). The crops must be aligned to the five-point template (see faces.alignment).
"""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from opticaldr.data.faceset import FaceSet
from opticaldr.data.pairs import Pairs
from opticaldr.media import decode_image
from opticaldr.types import FaceRecord, InputError

_IMAGE = re.compile(r"(?:.+/)?([^/]+)/\1_(\d{4})\.jpe?g", re.IGNORECASE)


@dataclass(frozen=True)
class _Folder:
    """Files below a folder by relative name."""

    root: Path

    def names(self) -> list[str]:
        return [path.relative_to(self.root).as_posix() for path in self.root.rglob("*.*")]

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()


@dataclass(frozen=True)
class _Tar:
    """Files in an uncompressed tar by member name, read in place.

    index: name -> (offset, size) [bytes]. The archive is opened for each read, so any number of
    threads and processes may read at once.
    """

    path: Path
    index: dict[str, tuple[int, int]]

    def names(self) -> list[str]:
        return list(self.index)

    def read(self, name: str) -> bytes:
        offset, size = self.index[name]
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)


@dataclass(frozen=True)
class _ReadImage:
    """FaceRecord in, (h, w, 3) uint8 out; a class, so that data loader processes can receive it."""

    source: _Folder | _Tar

    def __call__(self, record: FaceRecord) -> np.ndarray:
        try:
            content = self.source.read(record.key)
        except OSError as error:
            raise InputError(
                f"Expected to read {record.key}, found a problem ({error}); restore the file."
            ) from None
        return decode_image(content, record.key)


def load_lfw(path: Path) -> FaceSet:
    """All images of LFW, sorted by file name; `person` is the folder's name.

    Args:
        path: the folder, or an uncompressed .tar of it.
    """
    source = _open(path)
    found = {name: match for name in source.names() if (match := _IMAGE.fullmatch(name))}
    if not found:
        raise InputError(
            f"Expected images PERSON/PERSON_0001.jpg in {path}, found none; give the folder or "
            "tar that holds one folder per person."
        )
    records = tuple(FaceRecord(key=name, person=found[name][1]) for name in sorted(found))
    seen: dict[str, str] = {}
    for record in records:
        other = seen.setdefault(PurePosixPath(record.key).name.lower(), record.key)
        if other != record.key:
            raise InputError(
                f"Expected one image of each name in {path}, found {other} and {record.key}; "
                "give the folder of one copy of LFW."
            )
    return FaceSet(name="lfw", records=records, read=_ReadImage(source))


def load_pairs(path: Path, faces: FaceSet) -> Pairs:
    """The verification list pairs.txt (View 2: 10 folds of 300 mated and 300 non-mated pairs).

    Args:
        path: the folder or tar given to load_lfw.
        faces: what load_lfw returned; the pairs are indices into its records.
    """
    source = _open(path)
    lists = [name for name in source.names() if PurePosixPath(name).name == "pairs.txt"]
    if len(lists) != 1:
        raise InputError(
            f"Expected one pairs.txt in {path}, found {len(lists)}; put LFW's View 2 list there."
        )
    text = source.read(lists[0]).decode("utf-8", errors="replace")
    index = {PurePosixPath(record.key).stem: i for i, record in enumerate(faces.records)}
    first, second, same = [], [], []
    header, *lines = text.splitlines() or [""]
    for number, line in enumerate(lines, start=2):
        fields = line.split()
        if not fields:
            continue
        if len(fields) == 3:
            (a, i, j), b = fields, fields[0]
        elif len(fields) == 4:
            a, i, b, j = fields
        else:
            raise InputError(
                f"{lists[0]} line {number}: expected 'name n m' or 'name n name m', found '{line}'."
            )
        for column, person, image in ((first, a, i), (second, b, j)):
            name = f"{person}_{image.zfill(4)}"
            if name not in index:
                raise InputError(
                    f"{lists[0]} line {number} names {name}.jpg, which is not among the "
                    f"{len(index)} images of {path}; restore the image or use the whole set."
                )
            column.append(index[name])
        same.append(a == b)
    _check_count(header, len(same), lists[0])
    return Pairs(np.array(first), np.array(second), np.array(same))


def label_files(path: Path) -> dict[str, bytes]:
    """Content of the landmark file and the gender lists that stand beside the images, by name."""
    source = _open(path)
    wanted = ("lfw_lm68.npz", "male_names.txt", "female_names.txt")
    found = {PurePosixPath(name).name: name for name in source.names()}
    return {name: source.read(found[name]) for name in wanted if name in found}


def people_outside(faces: FaceSet, pairs: Pairs) -> FaceSet:
    """The images of people who occur in no pair: what a lens or an attacker may train on."""
    tested = {faces.records[i].person for i in np.concatenate([pairs.first, pairs.second])}
    return faces.subset([i for i, r in enumerate(faces.records) if r.person not in tested])


def _check_count(header: str, found: int, name: str) -> None:
    """The header is 'folds pairs-per-class', or 'pairs-per-class' for the development lists."""
    numbers = header.split()
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise InputError(f"{name}: expected a first line such as '10 300', found '{header}'.")
    expected = 2 * int(np.prod([int(number) for number in numbers]))
    if found != expected:
        raise InputError(
            f"{name}: expected {expected} pairs (first line '{header}'), found {found}; "
            "the list is cut short or mixed with another."
        )


def _open(path: Path) -> _Folder | _Tar:
    if path.is_dir():
        return _Folder(path)
    if not path.is_file():
        raise InputError(f"Expected LFW at {path} (folder or .tar), found nothing; check the path.")
    try:
        with path.open("rb") as file:
            file.seek(-min(512, path.stat().st_size), 2)
            if any(file.read()):  # tarfile takes an archive cut inside a header for complete
                raise tarfile.TarError("it does not end with a tar's end mark")
        with tarfile.open(path, "r:") as archive:
            index = {
                PurePosixPath(member.name).as_posix(): (member.offset_data, member.size)
                for member in archive
                if member.isfile()
            }
    except tarfile.TarError as error:
        raise InputError(
            f"Expected {path} to be an uncompressed tar of LFW, found a file that is not "
            f"({error}); unpack a .tar.gz or .zip and give its folder."
        ) from None
    return _Tar(path, index)
