"""Videos as jobs: progress, results, cancel, a short line, and nothing that stays."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from opticaldr.serve.app import Settings
from opticaldr.serve.errors import ServiceError
from opticaldr.serve.jobs import Jobs
from opticaldr.serve.limits import Limits
from opticaldr.types import InputError
from serving import client, encoded, file, picture, refused, video, watched_writes

WAIT_S = 20.0


def until(condition, what: str):
    """Waits for what another thread does."""
    end = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.005)
    return found


@pytest.fixture
def jobs():
    made = Jobs(Limits(jobs=2, kept_results=2, kept_seconds=100.0))
    yield made
    made.close()


class Held:
    """Work that goes on frame by frame as long as it is held."""

    def __init__(self) -> None:
        self.begun, self.free = threading.Event(), threading.Event()

    def __call__(self, report):
        self.begun.set()
        for frame in range(10**6):
            report(frame)
            if self.free.wait(0.002):
                break
        return {"score": 1.0}


# --- the line ------------------------------------------------------------------------------------


def test_a_job_runs_and_its_result_stays(jobs):
    work = Held()
    id = jobs.submit(work, 7).id
    until(lambda: jobs.get(id).done > 2, "progress")
    assert (jobs.get(id).state, jobs.get(id).total) == ("running", 7)
    work.free.set()
    until(lambda: jobs.get(id).state == "done", "the end")
    assert jobs.get(id).result == {"score": 1.0}
    assert jobs.unfinished == 0


def test_the_line_is_short(jobs):
    first, second = Held(), Held()
    jobs.submit(first, None)
    waiting = jobs.submit(second, None)
    assert jobs.get(waiting.id).state == "queued"
    with pytest.raises(ServiceError, match="at most 2 videos"):
        jobs.submit(Held(), None)


def test_cancel_ends_work_and_frees_the_place(jobs):
    work = Held()
    id = jobs.submit(work, None).id
    work.begun.wait(WAIT_S)
    assert jobs.cancel(id).state == "cancelled"
    until(lambda: jobs.unfinished == 0, "the work to end")
    with pytest.raises(ServiceError, match="found none of that id"):
        jobs.get(id)


def test_cancel_of_a_waiting_job_frees_its_place_at_once(jobs):
    first, second = Held(), Held()
    jobs.submit(first, None)
    first.begun.wait(WAIT_S)
    jobs.cancel(jobs.submit(second, None).id)
    assert jobs.unfinished == 1
    jobs.submit(Held(), None)
    first.free.set()
    assert not second.begun.wait(0.1)  # never started


def test_results_are_forgotten_by_count_and_by_time():
    now = [0.0]
    jobs = Jobs(Limits(jobs=9, kept_results=2, kept_seconds=100.0), clock=lambda: now[0])
    ids = []
    for number in range(4):
        now[0] = float(number)
        ids.append(jobs.submit(lambda report: {}, None).id)
        until(lambda: jobs.unfinished == 0, "the end")
    for old in ids[:2]:
        with pytest.raises(ServiceError, match="found none"):
            jobs.get(old)
    assert jobs.get(ids[2]).state == "done"
    now[0] = 103.5
    with pytest.raises(ServiceError, match="found none"):
        jobs.get(ids[3])
    jobs.close()


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (InputError("Expected a face, found none; x."), 415, "not_a_video"),
        (ServiceError(413, "too_long", "Expected less, found more; cut."), 413, "too_long"),
        (RuntimeError("secret of a face"), 500, "internal"),
    ],
)
def test_a_failed_job_says_why_and_leaks_nothing(jobs, raised, status, code):
    def work(report):
        raise raised

    id = jobs.submit(work, None).id
    failed = until(lambda: jobs.get(id).state == "failed" and jobs.get(id), "the end")
    assert (failed.error["status"], failed.error["code"]) == (status, code)
    assert "secret" not in failed.error["message"]


def test_closing_cancels_what_runs_and_waits():
    jobs = Jobs(Limits(jobs=3))
    for _ in range(3):
        jobs.submit(Held(), None)
    started = time.monotonic()
    jobs.close()
    assert time.monotonic() - started < 5
    assert jobs.unfinished == 0


# --- over HTTP -----------------------------------------------------------------------------------


@pytest.fixture
def trained(run_folder):
    with client(Settings(run_folder, limits=Limits(video_frames=200))) as opened:
        yield opened


def ended(service, id):
    def state():
        found = service.get(f"/api/jobs/{id}").json()
        return found if found["state"] not in ("queued", "running") else None

    return until(state, "the job to end")


def test_a_video_is_scored_frame_by_frame(trained):
    with watched_writes():
        answer = trained.post("/api/jobs?detect=false", files=file(video(40), "clip.mp4"))
        assert answer.status_code == 202
        found = ended(trained, answer.json()["id"])
    assert (found["state"], found["done"], found["total"]) == ("done", 40, 40)
    assert found["result"]["input"] == "clip.mp4"
    assert len(found["result"]["frame_scores"]) == 40
    assert found["error"] is None
    assert trained.delete(f"/api/jobs/{answer.json()['id']}").json()["state"] == "done"
    refused(trained.get(f"/api/jobs/{answer.json()['id']}"), 404, "no_job")


def test_a_damaged_video_fails_or_is_flagged(trained):
    data = video(60, container="matroska")
    answer = trained.post("/api/jobs?detect=false", files=file(data[: len(data) // 2]))
    found = ended(trained, answer.json()["id"])
    assert found["state"] == "done"
    assert 0 < found["result"]["frames"] < 60


def test_more_frames_than_the_header_states_are_refused_while_reading(run_folder):
    limits = Limits(video_frames=30)  # Matroska states no number of frames
    with client(Settings(run_folder, limits=limits)) as service:
        data = video(60, rate=60, container="matroska")
        answer = service.post("/api/jobs?detect=false", files=file(data))
        found = ended(service, answer.json()["id"])
    assert found["state"] == "failed"
    assert (found["error"]["status"], found["error"]["code"]) == (413, "too_long")


def test_what_is_no_video_is_refused_at_once(trained):
    answer = trained.post("/api/jobs", files=file(encoded(picture())))
    refused(answer, 415, "not_a_video")
    long = trained.post("/api/jobs", files=file(video(201)))
    refused(long, 413, "too_long")
    assert trained.get("/api/health").json()["jobs"]["running"] == 0


def test_a_full_line_is_429_and_cancel_makes_room(run_folder, monkeypatch):
    from opticaldr.predict import Predictor

    free = threading.Event()

    def slow(predictor, seen, *, name, seed=0, on_frame=None):
        for frame in range(10**6):
            on_frame(frame)
            if free.wait(0.002):
                break
        raise InputError("Expected an end, found none; test.")

    monkeypatch.setattr(Predictor, "predict_frames", slow)
    with client(Settings(run_folder, limits=replace(Limits(), jobs=2))) as service:
        upload = file(video(5))
        ids = [service.post("/api/jobs", files=upload).json()["id"] for _ in range(2)]
        refused(service.post("/api/jobs", files=upload), 429, "too_many")
        assert service.get("/api/health").json()["jobs"] == {"running": 2, "most": 2}
        until(lambda: service.get(f"/api/jobs/{ids[0]}").json()["state"] == "running", "a start")
        for id in ids:
            assert service.delete(f"/api/jobs/{id}").json()["state"] == "cancelled"
        until(lambda: service.get("/api/health").json()["jobs"]["running"] == 0, "room")
        assert service.post("/api/jobs", files=upload).status_code == 202


def test_no_job_for_a_client_that_has_gone(trained, monkeypatch):
    async def gone(request):
        return True

    monkeypatch.setattr("starlette.requests.Request.is_disconnected", gone)
    assert trained.post("/api/jobs", files=file(video(5))).status_code == 400
    assert trained.get("/api/health").json()["jobs"]["running"] == 0
