"""The page of the service in a real browser: consent, captures, scores, attack, card, keyboard."""

from __future__ import annotations

import io
import re

import av
import httpx2
import numpy as np
import pytest
import torch
from PIL import Image

from browsing import LOW_CONTRAST, chromium, detail, visit
from cards import attempt, card_of
from opticaldr.config import load_config
from opticaldr.model import build_model, save_model
from opticaldr.notices import DISCLAIMER
from opticaldr.results import write_json
from serving import encoded, started

FRAMES = 64
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser():
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def url(browser, tmp_path_factory):
    """A service with the smallest network behind a sensor of 256 px, and a privacy card."""
    config = load_config("tiny", ["lens.sensor_pixels=256", 'network.attribute_names=["light"]'])
    run = tmp_path_factory.mktemp("run")
    model = build_model(config)
    with torch.no_grad():  # an untrained head gives every frame the same score
        head = model.network.depression.head[-1]
        head.weight.copy_(torch.linspace(-2, 3, head.weight.numel()))
    save_model(model, config, run)
    write_json(run / "calibration.json", {"coverage": 0.9, "half_width": 25.0, "n": 40})
    write_json(run / "privacy_card.json", card_of([attempt("A1", 0.95), attempt("A2", 0.97)]))
    with started(tmp_path_factory.mktemp("home"), "--model", run) as service:
        yield service.url


def film(url: str, frames: int) -> dict:
    """A video of a rendered person who moves, as Playwright uploads it."""
    face = httpx2.get(url + "/api/person.png?seed=4&size=160", timeout=60).content
    image = np.asarray(Image.open(io.BytesIO(face)).convert("RGB"))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width = stream.height = 240
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            canvas = np.full((240, 240, 3), 110, dtype=np.uint8)
            left = 40 + round(30 * np.sin(number / 20))
            canvas[40:200, left : left + 160] = image
            out.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
        out.mux(stream.encode(None))
    return {"name": "film.mp4", "mimeType": "video/mp4", "buffer": buffer.getvalue()}


def choose(seen, file: dict) -> None:
    """Opens a file as a person does: through the button."""
    with seen.page.expect_file_chooser() as chooser:
        seen.page.get_by_role("button", name="Picture or video").click()
    chooser.value.set_files(file)


# --- consent, sources ---------------------------------------------------------------------------


def test_nothing_is_sent_before_consent_nor_after_it_is_withdrawn(browser, url):
    with visit(browser, url) as seen:
        seen.page.get_by_text("The card as JSON").wait_for()
        assert set(seen.asked) >= {"GET /", "GET /api/lens", "GET /api/health", "GET /api/card"}
        others = [line for line in seen.asked if not line.startswith("GET /static/")]
        assert len(others) == 4
        assert seen.page.locator("#before .banner").inner_text() == DISCLAIMER
        assert not seen.page.get_by_role("button").filter(visible=True).count()
        seen.agree()
        assert "POST /api/capture" in seen.asked
        choose(seen, film(url, 30))
        seen.updates(3)
        seen.page.get_by_label("I have read this").uncheck()
        seen.page.wait_for_timeout(300)  # for what was under way
        before = len(seen.asked)
        seen.page.wait_for_timeout(500)
        assert len(seen.asked) == before
        assert seen.pixels("#eye").max() == 0  # the picture is gone, not only hidden
        assert not seen.page.locator("#tool").is_visible()


def test_a_synthetic_person_shows_at_once_what_the_lens_does(browser, url):
    with visit(browser, url) as seen:
        seen.agree()
        page = seen.page
        assert page.locator("#source-label").inner_text() == "synthetic person 1"
        assert seen.pixels("#eye").shape == (512, 512, 3)
        assert seen.pixels("#capture").shape == (256, 256, 3)
        assert seen.pixels("#eye").std() > 20  # [0, 255]: a face, not an empty canvas
        for name in ("psf", "surface", "restored-1", "restored-10", "restored-100"):
            page.locator(f"#{name}[src^='blob:']").wait_for()
            assert page.locator(f"#{name}").evaluate("i => i.decode().then(() => i.naturalWidth)")
            assert page.locator(f"#{name}").get_attribute("alt")
        assert "µm" in page.locator("#surface-span").inner_text()
        first = seen.pixels("#eye")
        page.get_by_role("button", name="Another person").click()
        page.get_by_text("synthetic person 2", exact=True).wait_for()
        assert np.abs(seen.pixels("#eye") - first).mean() > 5  # [0, 255]: somebody else


def test_a_picture_from_disk_is_shown_and_captured_as_its_centre_square(browser, url):
    image = np.zeros((100, 300, 3), dtype=np.uint8)
    image[:, 100:200] = (40, 160, 220)
    with visit(browser, url) as seen:
        seen.agree()
        choose(seen, {"name": "x.png", "mimeType": "image/png", "buffer": encoded(image)})
        seen.page.get_by_text("your picture").wait_for()
        seen.set("noise", 0)
        # sRGB levels of 8 bits; enlarged 5 times, the edge rings over 3 pixels of the picture
        assert np.abs(seen.pixels("#eye")[16:-16, 16:-16] - (40, 160, 220)).max() < 2
        middle = seen.pixels("#capture")[96:160, 96:160]  # far from the black beyond the frame
        assert np.abs(middle.mean((0, 1)) - (40, 160, 220)).max() < 3
        choose(seen, {"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"})
        seen.page.get_by_text("Expected a picture or video, found something else").wait_for()
        assert seen.page.locator("#source-label").inner_text() == "your picture"


def test_the_webcam_moves_and_a_refused_one_is_told_in_words(browser, url):
    with visit(browser, url, permissions=["camera"]) as seen:
        seen.agree()
        seen.page.get_by_role("button", name="Webcam").click()
        seen.page.get_by_text("webcam", exact=True).wait_for()
        first = seen.pixels("#eye")
        seen.page.locator("#rate", has_text="updates").wait_for()
        assert np.abs(seen.pixels("#eye") - first).max() > 50  # the fake camera's clock turns
        seen.page.get_by_role("button", name="Pause").click()
        seen.page.get_by_role("button", name="Play").wait_for()
    with visit(browser, url) as seen:
        seen.agree()
        seen.page.get_by_role("button", name="Webcam").click()
        seen.page.get_by_text("The browser may not use the camera").wait_for()
        assert seen.page.locator("#source-label").inner_text() == "synthetic person 1"


def test_a_file_can_be_dropped_on_the_page(browser, url):
    with visit(browser, url) as seen:
        seen.agree()
        seen.page.evaluate(
            """async (data) => {
                const blob = await (await fetch(data)).blob();
                const dataTransfer = new DataTransfer();
                dataTransfer.items.add(new File([blob], "x.png", { type: "image/png" }));
                document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
            }""",
            "/api/person.png?seed=9",
        )
        seen.page.get_by_text("your picture").wait_for()


# --- sliders ------------------------------------------------------------------------------------


def test_sliders_change_the_capture_as_optics_demands(browser, url):
    with visit(browser, url) as seen:
        seen.agree()
        seen.set("noise", 0)
        seen.set("distance", 119)
        assert seen.page.locator("#distance-out").inner_text().replace("\xa0", " ") == "1.00 m"
        focused = seen.pixels("#capture")  # the lens of the preset is in focus at 1 m
        seen.set("distance", 0)
        near = seen.pixels("#capture")
        assert np.abs(near - focused).mean() > 2  # [0, 255]
        assert detail(near) < 0.5 * detail(focused)
        seen.set("strength", 0)
        assert detail(seen.pixels("#capture")) > 0.8 * detail(focused)  # in focus at 0.2 m
        seen.set("noise", 0.1)
        assert detail(seen.pixels("#capture")) > 4 * detail(focused)
        seen.page.get_by_role("button", name="Reset").click()
        seen.captured_at("distance", "0.50 m")
        assert seen.page.locator("#noise-out").inner_text().replace("\xa0", " ") == "1.0 %"


def updates_per_second(page, seconds: float = 1.0) -> float:
    """Captures shown while the distance slider moves with every frame of the screen."""
    return page.evaluate(
        """(seconds) => new Promise((resolve) => {
            const [slider, canvas] = ["distance", "capture"].map((id) => document.getElementById(id));
            const [start, before] = [performance.now(), Number(canvas.dataset.updates)];
            const step = () => {
                const passed = (performance.now() - start) / 1000;
                if (passed > seconds) {
                    resolve((Number(canvas.dataset.updates) - before) / passed);
                    return;
                }
                slider.value = 200 * Math.abs(Math.sin(passed));
                slider.dispatchEvent(new Event("input"));
                requestAnimationFrame(step);
            };
            step();
        })""",
        seconds,
    )


def test_the_capture_follows_a_moving_slider(browser, url):
    with visit(browser, url) as seen:
        seen.agree()
        # 10 are wanted at 256 px on two free cores; the machine of the tests may be busy
        assert max(updates_per_second(seen.page) for _ in range(3)) >= 3


# --- scores -------------------------------------------------------------------------------------


def test_the_estimate_of_a_picture_is_the_service_s_own(browser, url):
    person = httpx2.get(url + "/api/person.png?seed=0&size=512", timeout=60).content
    asked = {"depth_m": 0.5, "detect": True, "already_captured": False}
    answer = httpx2.post(
        url + "/api/predict", params=asked, files={"file": ("f", person)}, timeout=60
    ).json()
    with visit(browser, url) as seen:
        seen.agree()
        seen.page.get_by_role("button", name="Estimate from this picture").click()
        shown = seen.page.locator(".value")
        shown.wait_for()
        assert float(shown.locator("strong").inner_text()) == pytest.approx(
            answer["score"],
            abs=0.051,  # one decimal is shown
        )
        assert answer["band"] in shown.inner_text()
        low, high = answer["ci90"]
        assert f"90 % interval {low:.1f} to {high:.1f}" in shown.inner_text()
        assert "rendered" in seen.page.locator(".result .banner").inner_text()
        assert seen.page.locator("#score > .banner").inner_text() == DISCLAIMER
        assert seen.page.locator("#score > .banner").is_visible()


def test_a_video_is_scored_with_progress_curve_and_table(browser, url):
    with visit(browser, url) as seen:
        seen.agree()
        choose(seen, film(url, FRAMES))
        page = seen.page
        page.get_by_role("button", name="Estimate from this video").click()
        page.get_by_text(re.compile(rf"Reading the video: \d+ of {FRAMES} frames")).wait_for()
        page.locator("svg .curve").wait_for(state="attached")
        points = page.locator("svg .curve").get_attribute("points").split()
        assert len(points) == FRAMES
        page.get_by_text("The same as a table").click()
        assert page.locator("tbody tr").filter(visible=True).count() == 16  # of 4 frames each
        for words in ("BDI-II estimate", "time in the video [s]"):
            assert page.locator("svg text", has_text=words).is_visible()
        assert page.locator("progress").is_hidden()
        assert any(line.startswith("DELETE /api/jobs/") for line in seen.asked)  # forgotten


def test_a_video_can_be_cancelled_and_a_forgotten_one_is_told(browser, url):
    long = film(url, 800)
    with visit(browser, url, expected="404") as seen:
        seen.agree()
        choose(seen, long)
        page = seen.page
        page.get_by_role("button", name="Estimate from this video").click()
        page.get_by_text(re.compile("Reading the video: [1-9]")).wait_for()
        page.get_by_role("button", name="Cancel").click()
        assert page.locator("progress").is_hidden()
        assert page.locator("#estimate").is_enabled()
        seen.until(lambda: seen.health()["jobs"]["running"] == 0)
        assert page.locator(".result").count() == 0
        with page.expect_response(re.compile(r"/api/jobs/[^/]+$")) as asked:
            page.locator("#estimate").click()
        httpx2.delete(asked.value.url, timeout=30)  # as a restart of the service would
        page.get_by_text("has forgotten this video").wait_for()


def test_a_refusal_of_the_service_stands_where_it_happened(browser, url):
    broken = {"name": "x.mp4", "mimeType": "video/mp4", "buffer": b"no video at all"}
    with visit(browser, url, expected="415") as seen:
        seen.agree()
        choose(seen, broken)
        seen.page.get_by_text("This browser cannot play that video").wait_for()
        seen.page.get_by_role("button", name="Estimate from this video").click()
        seen.page.locator("#score-error", has_text="Expected a video").wait_for()


def test_without_a_model_there_is_a_sentence_and_no_score(browser, url):
    with visit(browser, url) as seen:
        health = {**seen.health(), "model": False, "card": False}
        seen.page.route("**/api/health", lambda route: route.fulfill(json=health))
        seen.page.reload()
        seen.agree()
        assert "only a trained run gives scores" in seen.page.locator("#score-none").inner_text()
        assert not seen.page.locator("#estimate").is_visible()
        assert "No card yet" in seen.page.locator("#card").inner_text()


# --- card, recovery -----------------------------------------------------------------------------


def test_the_card_gives_its_verdict(browser, url):
    card = httpx2.get(url + "/api/card", timeout=30).json()
    with visit(browser, url) as seen:
        grade = seen.page.get_by_role("group", name="Grade")
        assert grade.inner_text().split("\n")[0] == card["grade"] == "FAIL"
        shown = seen.page.locator("#card").inner_text()
        assert card["meaning"] in shown
        assert card["wording"] in shown
        assert "Strongest attack" in shown
        assert ", ".join(card["not_tested"]) in shown
        link = seen.page.get_by_role("link", name="The card as JSON")
        assert link.get_attribute("href") == "/api/card"


def test_the_page_goes_on_when_the_service_is_back(browser, url):
    with visit(browser, url, expected="ERR_INTERNET_DISCONNECTED") as seen:
        seen.agree()
        seen.page.context.set_offline(True)
        seen.page.locator("#distance").press("Home")
        seen.page.get_by_text("The service does not answer.").wait_for()
        seen.page.context.set_offline(False)
        seen.page.get_by_text("The service does not answer.").wait_for(state="hidden")
        seen.captured_at("distance", "0.20 m")


def test_the_page_goes_on_when_a_killed_service_is_started_again(browser, tmp_path):
    gone = "The service does not answer."
    with started(tmp_path) as first, visit(browser, first.url, expected="ERR_") as seen:
        seen.agree()
        first.process.kill()
        first.process.wait()
        seen.page.locator("#distance").press("Home")
        seen.page.get_by_text(gone).wait_for()
        with started(tmp_path, port=first.port):
            seen.page.get_by_text(gone).wait_for(state="hidden")
            seen.captured_at("distance", "0.20 m")
            assert seen.page.locator("#lens-kind").inner_text().count("focused") == 1


# --- everybody ----------------------------------------------------------------------------------


def test_everything_is_reached_and_used_by_keyboard(browser, url):
    with visit(browser, url) as seen:
        page = seen.page
        focused = "() => document.activeElement.id || document.activeElement.textContent"
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == "consent"
        page.keyboard.press("Space")
        seen.updates(1)
        reached, outlines = [], []
        for _ in range(20):
            page.keyboard.press("Tab")
            reached.append(page.evaluate(focused))
            outlines.append(
                page.evaluate(
                    "() => parseFloat(getComputedStyle(document.activeElement).outlineWidth)"
                )
            )
            if reached[-1] == "lens.json":
                break
        assert reached == [
            *("use-person", "next-person", "use-webcam", "use-file"),
            *("distance", "noise", "strength", "Reset"),
            *("estimate", "detect", "already", "attack"),
            *("The card as JSON", "API description", "lens.json"),
        ]
        assert min(outlines) >= 2  # px: the focus is seen
        for _ in range(len(reached) - reached.index("distance") - 1):
            page.keyboard.press("Shift+Tab")
        assert page.evaluate(focused) == "distance"
        page.keyboard.press("End")
        seen.captured_at("distance", "3.00 m")
        assert page.locator("#distance").get_attribute("aria-valuetext") == "3.00\xa0m"
        for _ in range(4):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.locator(".value").wait_for()


def test_every_control_and_picture_has_a_name(browser, url):
    with visit(browser, url) as seen:
        seen.agree()
        seen.page.locator("#restored-100[src^='blob:']").wait_for()
        tree = seen.page.context.new_cdp_session(seen.page).send("Accessibility.getFullAXTree")
        named = {"button", "checkbox", "slider", "link", "image", "progressbar", "Canvas"}
        roles = [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in tree["nodes"]
            if not node["ignored"]
        ]
        assert [line for line in roles if line[0] in named and not line[1]] == []
        found = {role for role, _ in roles}
        assert found >= {"banner", "main", "contentinfo", "slider", "checkbox", "button", "image"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_both_themes(browser, url, scheme):
    with visit(browser, url, color_scheme=scheme) as seen:
        seen.agree()
        seen.page.locator("#estimate").click()
        seen.page.locator(".value").wait_for()
        assert seen.page.evaluate(LOW_CONTRAST) == []
        ground = seen.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        level = np.mean([int(number) for number in re.findall(r"\d+", ground)[:3]])
        assert (level < 60) == (scheme == "dark")


def test_a_phone_shows_everything_without_scrolling_sideways(browser, url):
    with visit(browser, url, viewport=PHONE, has_touch=True) as seen:
        seen.agree()
        choose(seen, film(url, 20))
        seen.page.locator("#estimate").click()
        seen.page.locator("svg .curve").wait_for(state="attached")
        assert seen.page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
        assert seen.page.locator("#eye").bounding_box()["width"] >= 150  # px of 360, side by side


def test_moving_pictures_wait_for_those_who_want_no_motion(browser, url):
    with visit(browser, url, reduced_motion="reduce") as seen:
        seen.agree()
        choose(seen, film(url, 30))
        seen.page.get_by_role("button", name="Play").wait_for()
        seen.updates(1)
        seen.page.wait_for_timeout(300)
        assert seen.page.locator("#capture").get_attribute("data-updates") == "1"
