"""CelebA (Liu et al., ICCV 2015): people, 40 attributes, landmarks and the official partition.

| layout (depression.md 3.1) | what is read |
|---|---|
| pictures | img_align_celeba/000001.jpg, the folder inside itself, or img_align_celeba.zip |
| labels, .txt | list_attr_celeba, identity_CelebA, list_eval_partition, list_landmarks_align_celeba |
| labels, .csv | the same names, comma-separated with a column image_id (no identities there) |
| Parquet | shards named train*, valid*, test* with image, celeb_id and a column per attribute |

Labels may lie in any folder below the given one. No checksum is asked for: what is there is
counted and compared with what CelebA has. list_bbox_celeba is not read: its boxes do not fit the
aligned pictures. Research use only, under CelebA's terms; no picture comes with this package.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from opticaldr.data.celeba_crops import CropReader, in_crop
from opticaldr.data.celeba_files import PICTURE, Folder, Zip, open_zip, stem
from opticaldr.data.celeba_labels import (
    LABEL_FILES,
    WITHOUT,
    Labels,
    attributes_of,
    consistency,
    parse_labels,
    points_of,
    split_named,
)
from opticaldr.data.celeba_parquet import survey_shards
from opticaldr.data.faceset import FaceSet
from opticaldr.data.survey import Survey
from opticaldr.faces.alignment import REFERENCE_SIDE
from opticaldr.media import shown
from opticaldr.types import FaceRecord, InputError

EXPECTED = """\
ROOT/
  img_align_celeba/000001.jpg ...   (or img_align_celeba.zip, as downloaded)
  identity_CelebA.txt
  list_attr_celeba.txt              (or .csv)
  list_eval_partition.txt           (or .csv)
  list_landmarks_align_celeba.txt   (or .csv)
  or: train*.parquet, valid*.parquet, test*.parquet with image, celeb_id and the attributes"""


def load_celeba(path: Path, *, size: int = REFERENCE_SIDE) -> FaceSet:
    """The faces of CelebA; see survey_celeba."""
    return survey_celeba(path, size=size).faces


def survey_celeba(path: Path, *, size: int = REFERENCE_SIDE) -> Survey:
    """The faces of CelebA, aligned to the five-point template, and what is missing or odd.

    `person` is the original identity number, or the picture's name where identities are unknown;
    attributes are 0 or 1; landmarks are fractions of the crop.

    Args:
        path: the folder, the zip of pictures, or a Parquet file.
        size: side of the crop [px].

    Raises:
        InputError: no pictures, a web page saved under a file's name, or a label file that is cut
            short or holds other values.
    """
    if not path.exists():
        raise InputError(f"Expected CelebA at {shown(path)}, found nothing; check the path.")
    if shards := sorted(path.rglob("*.parquet")) if path.is_dir() else _if_parquet(path):
        return survey_shards(shards, path if path.is_dir() else path.parent, size)
    files, pictures, label_files = _find(path)
    labels = {
        kind: parse_labels(content, name, named=kind == "attributes")
        for kind, (name, content) in label_files.items()
    }
    listed = set().union(*(label.rows for label in labels.values())) if labels else set()
    left_out = {
        "listed, but the picture is absent": sorted(listed - pictures.keys()),
        "in no label file": sorted(pictures.keys() - listed) if labels else [],
    }
    present = sorted(pictures.keys() & listed) if labels else sorted(pictures)
    if "identities" in labels:
        left_out["no identity"] = [p for p in present if p not in labels["identities"].rows]
        present = [p for p in present if p in labels["identities"].rows]
    points, row = points_of(labels.get("landmarks", Labels()), present)
    landmarks = in_crop(points)
    known = {kind: labels.get(kind, Labels()).rows for kind in LABEL_FILES.values()}
    records = tuple(
        FaceRecord(
            key=pictures[name],
            person=known["identities"][name][0] if "identities" in labels else name,
            split=split_named(known["partition"].get(name, [""])[0]),
            attributes=attributes_of(name, known["attributes"].get(name)),
            landmarks=tuple(landmarks[row[name]].tolist()) if name in row else (),
        )
        for name in present
    )
    faces = FaceSet(
        "celeba",
        records,
        CropReader(files, size, points, row),
        labels.get("attributes", Labels()).columns,
    )
    missing = [text for kind, text in WITHOUT.items() if kind not in labels]
    kept = {reason: tuple(names) for reason, names in left_out.items() if names}
    return Survey(faces, kept, (*missing, *consistency(records, identities="identities" in labels)))


def _find(path: Path) -> tuple[Folder | Zip, dict[str, str], dict[str, tuple[str, bytes]]]:
    """The pictures' home, stem -> name of each picture, and kind -> (name, content) of labels."""
    files: Folder | Zip = Folder(path) if path.is_dir() else open_zip(path)
    names = files.names()
    labels = _label_files(files, names)
    pictures = _pictures(names)
    zips = [name for name in names if PurePosixPath(name).name.lower() == "img_align_celeba.zip"]
    if not pictures and zips and isinstance(files, Folder):
        files = open_zip(path / zips[0])
        pictures = _pictures(files.names())
    elif isinstance(files, Zip):
        beside = Folder(path.parent)
        there = [file.name for file in path.parent.iterdir() if file.is_file()]
        labels = _label_files(beside, there) | labels
    if not pictures:
        raise InputError(
            f"Expected pictures 000001.jpg ... in {shown(path)}, found none; arrange the folder as "
            f"follows.\n{EXPECTED}"
        )
    return files, pictures, labels


def _pictures(names: Iterable[str]) -> dict[str, str]:
    """stem -> name; the aligned pictures, should the original ones stand beside them."""
    found = [name for name in names if PICTURE.fullmatch(PurePosixPath(name).name)]
    aligned = [name for name in found if "img_align_celeba" in name.lower()]
    return {stem(name): name for name in sorted(aligned or found)}


def _label_files(files: Folder | Zip, names: Iterable[str]) -> dict[str, tuple[str, bytes]]:
    found = {}
    for name in sorted(names):
        kind = LABEL_FILES.get(stem(name).lower())
        if kind and name.lower().endswith((".txt", ".csv")):
            found.setdefault(kind, (shown(name), files.read(name)))
    return found


def _if_parquet(path: Path) -> list[Path]:
    return [path] if path.suffix.lower() == ".parquet" else []
