"""The service: what every path answers, and that it is what the library gives."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import torch

from opticaldr.camera import describe_camera, load_camera
from opticaldr.capture import capture_photos, to_images, to_photos
from opticaldr.notices import DISCLAIMER, PATENTS
from opticaldr.optics.colour import linear_to_srgb, srgb_to_linear
from opticaldr.results import write_json
from opticaldr.sensor import quantise
from opticaldr.serve import optics
from opticaldr.serve.app import Settings, create_app
from opticaldr.serve.optics import LiveCamera, Shot, face_prior
from opticaldr.types import InputError
from serving import client, decoded, encoded, file, picture, refused, watched_writes


@pytest.fixture(scope="module")
def service():
    with client() as opened:
        yield opened


@pytest.fixture(scope="module")
def camera():
    return load_camera("focused")


def library_capture(camera, image, *, depth_m, seed):
    """What `opticaldr capture` writes of a picture."""
    stored = capture_photos(
        camera,
        to_photos([image], camera.lens.config.sensor_pixels),
        depth_m=depth_m,
        generator=torch.Generator().manual_seed(seed),
    )
    return to_images(linear_to_srgb(stored))[0]


# --- what describes -----------------------------------------------------------------------------


def test_health_states_limits_lens_and_room(service, camera):
    found = service.get("/api/health").json()
    assert found["status"] == "ok"
    assert found["model"] is False
    assert found["jobs"] == {"running": 0, "most": found["limits"]["jobs"]}
    assert found["lens_sha256"] == service.get("/api/lens").json()["sha256"]
    assert found["limits"]["image_bytes"] == 16 * 2**20


def test_lens_is_lens_json_with_ranges_and_notices(service, camera):
    found = service.get("/api/lens").json()
    assert found["sensor_pixels"] == 256
    assert found["depth_range_m"] == [0.2, 3.0]
    assert found["designed_depth_range_m"] == list(camera.lens.config.depth_range_m)
    assert found["sizes"] == [64, 128, 256]
    assert found["coefficients_um"] == pytest.approx(camera.lens.coefficients.tolist())
    assert found["notices"] == {"disclaimer": DISCLAIMER, "patents": PATENTS}


def test_every_answer_is_kept_nowhere_and_shown_nowhere_else(service):
    for path in ("/", "/api/health", "/api/psf.png", "/api/nothing", "/openapi.json"):
        headers = service.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_card_is_the_run_s_own_or_a_404_that_says_what_to_do(run_folder, service):
    assert "no card yet: run opticaldr attack" in refused(service.get("/api/card"), 404, "no_card")
    card = {"schema_version": "1.0", "grade": "P1", "tier": "smoke", "rungs": []}
    write_json(run_folder / "privacy_card.json", card)
    with client(Settings(run_folder)) as trained:
        assert trained.get("/api/card").json() == card


def test_a_lens_alone_is_shown_by_its_name_and_gives_no_score(run_folder, service):
    assert service.get("/api/health").json()["lens"] == "focused"
    for source, name in (("literal", "literal"), (str(run_folder / "lens.json"), "lens.json")):
        with client(Settings(lens=source)) as alone:
            found = alone.get("/api/health").json()
            assert (found["lens"], found["model"], found["card"]) == (name, False, False)
            assert found["lens_sha256"] == describe_camera(load_camera(source))["sha256"]
            answer = alone.post("/api/predict", files=file(encoded(picture())))
            assert "a lens alone" in refused(answer, 409, "no_model")
    with client(Settings(run_folder)) as trained:
        assert trained.get("/api/health").json()["lens"] == run_folder.name


def test_a_run_is_shown_with_its_own_lens_only(run_folder):
    with pytest.raises(InputError, match="found both"):
        create_app(Settings(run_folder, "literal"))
    with pytest.raises(InputError, match=r"preset .* found 'litteral'"):
        create_app(Settings(lens="litteral"))


def test_a_misspelt_parameter_is_refused(service):
    upload = file(encoded(picture()))
    answer = service.post("/api/capture?depht_m=1", files=upload)
    assert "depth_m" in refused(answer, 422, "bad_parameter")
    assert "no parameter, found 'size'" in refused(
        service.get("/api/health?size=2"), 422, "bad_parameter"
    )


def test_psf_is_a_disc_that_grows_out_of_focus(service):
    def lit(query):  # pixels above half of the scale of light: more than background
        shown = decoded(service.get(f"/api/psf.png?{query}").content).astype(int).sum(2)
        assert shown.shape == (256, 256)
        return int((shown > 400).sum())

    assert lit("depth_m=1&strength=0") <= 4  # an Airy disc is smaller than a pixel
    assert lit("depth_m=0.2") > 500  # 36 px across, see geometric optics: 5 dioptres off focus
    assert lit("depth_m=0.2&strength=0") <= 4


def test_surface_is_a_round_plate(service):
    answer = service.get("/api/surface.png")
    opaque = decoded(answer.content)[..., 3] == 255
    assert opaque.mean() == pytest.approx(np.pi / 4, abs=0.01)  # a disc in its square
    assert float(answer.headers["x-height-um"]) > 1


def test_person_is_labelled_and_touches_no_cache(service, monkeypatch, tmp_path):
    monkeypatch.setenv("OPTICALDR_CACHE", str(tmp_path / "cache"))
    first = service.get("/api/person.png?seed=5&size=48")
    assert first.headers["x-synthetic"] == "true"
    assert b"Synthetic person" in first.content
    assert decoded(first.content).shape == (48, 48, 3)
    assert first.content == service.get("/api/person.png?seed=5&size=48").content
    assert first.content != service.get("/api/person.png?seed=6&size=48").content
    assert not (tmp_path / "cache").exists()


# --- captures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("depth_m", [0.33, 1.27])
def test_capture_is_the_library_s_bit_for_bit(service, camera, depth_m):
    image = picture(300)
    answer = service.post(f"/api/capture?depth_m={depth_m}&seed=7", files=file(encoded(image)))
    expected = library_capture(camera, image, depth_m=depth_m, seed=7)
    np.testing.assert_array_equal(decoded(answer.content), expected)


def test_strength_0_is_in_focus_and_strength_blurs(service):
    image = picture(256)
    scene = srgb_to_linear(to_photos([image], 256))
    perfect = to_images(linear_to_srgb(quantise(scene, 8)))[0].astype(int)  # no lens, same bits

    def error(strength):
        query = f"depth_m=0.25&noise=0&strength={strength}"
        answer = service.post(f"/api/capture?{query}", files=file(encoded(image)))
        # green: a plate of one material focuses one colour. Beyond the frame lies darkness.
        inner = (slice(40, -40), slice(40, -40), 1)
        return np.abs(decoded(answer.content).astype(int) - perfect)[inner].mean()

    errors = [error(strength) for strength in (0, 0.3, 1)]
    # diffraction takes 14 % of a pixel's light to its neighbours, which differ by 12 levels
    assert errors[0] < 3
    assert errors[0] < 0.5 * errors[1] < 0.5 * errors[2]


def test_empty_noise_is_the_sensor_s_own(service):
    data = file(encoded(picture()))
    answers = [
        service.post(f"/api/capture?{query}", files=data).content
        for query in ("size=64", "size=64&noise=", "size=64&noise=0.01", "size=64&noise=0.1")
    ]
    assert answers[0] == answers[1] == answers[2]  # the preset's read noise is 0.01
    assert answers[3] != answers[0]


def test_size_is_another_sensor_behind_the_same_lens(service, camera):
    image = picture(200)
    answer = service.post("/api/capture?size=64&depth_m=0.4&seed=1", files=file(encoded(image)))
    expected = library_capture(load_camera("focused", sensor_pixels=64), image, depth_m=0.4, seed=1)
    np.testing.assert_array_equal(decoded(answer.content), expected)


def test_psfs_are_kept_but_not_without_end(camera, monkeypatch):
    live = LiveCamera(camera)
    first = live.psf(Shot(64, 0.5))
    assert live.psf(Shot(64, 0.5004)) is first  # the same centimetre
    monkeypatch.setattr(optics, "CACHED_BYTES", 5 * first.nbytes)
    for number in range(7):
        live.psf(Shot(64, 1 + number / 100))
    assert len(live._psfs) == 5
    assert live.psf(Shot(64, 0.5)) is not first


def test_a_slow_psf_keeps_nobody_waiting_whose_own_is_known(camera, monkeypatch):
    live = LiveCamera(camera)
    known, at_work, done = live.psf(Shot(64, 0.5)), threading.Event(), threading.Event()
    compute = live._compute

    def slow(*key):
        at_work.set()
        assert done.wait(20)
        return compute(*key)

    monkeypatch.setattr(live, "_compute", slow)
    other = threading.Thread(target=live.psf, args=(Shot(64, 2.0),))
    other.start()
    assert at_work.wait(20)
    assert live.psf(Shot(64, 0.5)) is known  # would wait for ever behind the other
    done.set()
    other.join(20)


# --- restoration --------------------------------------------------------------------------------


def test_more_frames_bring_more_back(service):
    image = picture(256)

    def distance(path):
        answer = service.post(f"{path}depth_m=0.3&noise=0.02&seed=2", files=file(encoded(image)))
        return float(np.square(decoded(answer.content) / 255.0 - image / 255.0).mean())

    blurred = distance("/api/capture?")
    one, ten, hundred = (distance(f"/api/restore?frames={n}&") for n in (1, 10, 100))
    assert hundred < 0.95 * ten < 0.95 * one
    assert one < blurred


def test_restoring_flat_colour_gives_flat_colour():
    """The prior pulls towards the record's own mean, never towards an average face."""
    prior = face_prior(torch.full((1, 3, 32, 32), 0.25))
    assert float(prior.mean.min()) == float(prior.mean.max()) == 0.25
    assert bool((prior.curve[:, 1:] < prior.curve[:, :-1]).all())


def test_similarity_comes_from_a_recogniser_only(service, monkeypatch):
    def first_answer(live):
        _, similarity = live.restore(picture(64), Shot(64), 1)
        return similarity

    camera = load_camera("focused")
    live = LiveCamera(camera)
    live._recogniser = lambda photos: torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    assert first_answer(live) == pytest.approx(0.6)
    shaped = LiveCamera(load_camera("focused"))
    shaped.description["trained_against"] = ["dlib"]
    assert first_answer(shaped) is None  # a recogniser of the loss is no judge


# --- scores -------------------------------------------------------------------------------------


def test_predict_is_the_library_s(run_folder, tmp_path):
    from opticaldr.media import Input
    from opticaldr.predict import Predictor

    data = encoded(picture(64))
    (tmp_path / "face.png").write_bytes(data)
    source = Input("image", tmp_path / "face.png")
    expected = Predictor(run_folder, depth_m=0.5).predict(source, seed=3).to_json()
    with client(Settings(run_folder)) as trained:
        found = trained.post(
            "/api/predict?depth_m=0.5&seed=3&detect=false", files=file(data)
        ).json()
        captured = trained.post("/api/predict?already_captured=true", files=file(data)).json()
    assert found == {**expected, "input": "face.png"}
    assert captured["score"] != found["score"]  # no second lens


def test_no_face_is_one_sentence_that_names_the_way_out(run_folder):
    pytest.importorskip("dlib", reason="the detector comes with the video extra")
    with client(Settings(run_folder)) as trained:
        answer = trained.post("/api/predict", files=file(encoded(picture(64))))
    assert "detect=false" in refused(answer, 422, "bad_input")


def test_without_a_trained_run_there_is_no_score(service):
    data = file(encoded(picture()))
    for path in ("/api/predict", "/api/jobs"):
        assert "--model" in refused(service.post(path, files=data), 409, "no_model")


# --- the document, and the disk -----------------------------------------------------------------


def test_openapi_describes_every_refusal(service):
    found = service.get("/openapi.json").json()
    assert set(found["paths"]) == {
        *("/api/health", "/api/lens", "/api/card", "/api/psf.png", "/api/surface.png"),
        *("/api/person.png", "/api/capture", "/api/restore", "/api/predict", "/api/jobs"),
        "/api/jobs/{id}",
    }
    for path, methods in found["paths"].items():
        for method, described in methods.items():
            answers = described["responses"]
            assert {"401", "403"} <= set(answers)
            for status in set(answers) - {"200", "202"}:
                reference = answers[status]["content"]["application/json"]["schema"]["$ref"]
                assert reference.endswith("/ErrorAnswer"), (path, method, status)
            if method == "post":
                assert {"408", "413", "415", "422", "429"} <= set(answers)
                form = described["requestBody"]["content"]["multipart/form-data"]["schema"]
                assert form["required"] == ["file"]
    capture = found["paths"]["/api/capture"]["post"]
    assert set(capture["responses"]["200"]["content"]) == {"image/png"}
    limits = {p["name"]: p["schema"] for p in capture["parameters"]}
    assert (limits["depth_m"]["minimum"], limits["depth_m"]["maximum"]) == (0.2, 3.0)
    assert limits["size"]["enum"] == [64, 128, 256]
    assert "HTTPValidationError" not in json.dumps(found)


def test_nothing_is_written(service, tmp_path, monkeypatch):
    """Uploads above 1 MB would land in temporary files with Starlette's own form parser."""
    monkeypatch.chdir(tmp_path)
    large = encoded(np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8))
    assert len(large) > 2**21
    with watched_writes(tmp_path):
        assert service.post("/api/capture?size=64", files=file(large)).status_code == 200
        assert service.post("/api/restore?size=64", files=file(large)).status_code == 200
        assert service.get("/api/person.png?seed=9&size=32").status_code == 200
        assert service.post("/api/capture", files=file(large[:5000])).status_code == 415
