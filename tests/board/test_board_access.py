from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from sead_ray.errors import InputError
from sead_ray.stages.registry import Registry
from sead_ray.storage import Store
from tests.board.conftest import HERE, client_of

PAGES = ("/", "/runs/demo", "/runs/demo/report", "/runs/demo/progress", "/runs/demo/fleet", "/compare",
         "/runs/demo/clips/clip02")  # fmt: skip
ORIGIN = "http://board.example:8270"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def run(runs: Store) -> Store:
    return runs.below("demo")


def form_key(page: str) -> str:
    return re.findall(r'name="form_key" value="([^"]+)"', page)[0]


def sign_in(board: TestClient, token: str) -> None:
    assert board.post("/sign_in", data={"token": token}, follow_redirects=False).status_code == 303


def test_on_loopback_everybody_reads_and_nobody_changes(board: TestClient, run: Store):
    assert {board.get(path).status_code for path in PAGES} == {200}
    assert board.post("/runs/demo/promote", data={"number": 1}).status_code == 401
    assert board.post("/runs/demo/roll_back").status_code == 401
    assert Registry(run).history() == []
    assert "Promote the model" not in board.get("/runs/demo").text


def test_elsewhere_every_page_needs_a_token(guarded: TestClient, tokens: dict[str, str]):
    for path in PAGES:
        assert guarded.get(path).status_code == 401
        assert "scene-" not in guarded.get(path).text
        assert guarded.get(path, headers=bearer("sead_wrong")).status_code == 401
        assert guarded.get(path, headers=bearer(tokens["score"])).status_code == 200


def test_elsewhere_without_tokens_it_does_not_start(runs: Store):
    with pytest.raises(InputError, match="needs tokens"):
        client_of(runs, host="0.0.0.0")


def test_behind_a_proxy_tokens_can_be_required_on_loopback(runs: Store, tokens: dict[str, str]):
    board = client_of(runs, ORIGIN, auth="required", tokens_file=tokens["path"])
    assert board.get("/").status_code == 401
    assert board.get("/", headers=bearer(tokens["score"])).status_code == 200


def test_a_name_of_another_site_that_points_here_is_refused(runs: Store):
    assert client_of(runs, "http://evil.example:8270").get("/").status_code == 421
    for address in (HERE, "http://localhost:8270", "http://[::1]:8270"):
        assert client_of(runs, address).get("/").status_code == 200


def test_a_model_is_promoted_and_rolled_back_by_an_admin_who_signed_in(
    guarded: TestClient, run: Store, tokens: dict[str, str]
):
    sign_in(guarded, tokens["admin"])
    for number in (1, 2):
        key = form_key(guarded.get("/runs/demo").text)
        answer = guarded.post("/runs/demo/promote", data={"number": number, "form_key": key})
        assert answer.status_code == 200  # after a redirect to the run's page
    assert Registry(run).current().model_version == "model-2"
    page = guarded.get("/runs/demo").text
    assert "Roll back to model-1" in page
    guarded.post("/runs/demo/roll_back", data={"form_key": form_key(page)})
    assert Registry(run).current().model_version == "model-1"
    assert [line.action for line in Registry(run).history()] == ["promote", "promote", "roll_back"]


def test_programs_promote_with_their_token(board: TestClient, runs: Store, run: Store, tokens: dict[str, str]):
    board = client_of(runs, tokens_file=tokens["path"])  # loopback: reading stays open
    assert board.get("/").status_code == 200
    admin, score = bearer(tokens["admin"]), bearer(tokens["score"])
    assert board.post("/runs/demo/promote", data={"number": 0}, headers=score).status_code == 403
    assert board.post("/runs/demo/promote", data={"number": 7}, headers=admin).status_code == 404
    assert board.post("/runs/demo/promote", data={"number": -1}, headers=admin).status_code == 422
    assert board.post("/runs/demo/roll_back", headers=admin).status_code == 409  # nothing to go back to
    assert board.post("/runs/demo/promote", data={"number": 0}, headers=admin).status_code == 200
    assert Registry(run).current().model_version == "model-0"


def test_a_form_of_another_site_changes_nothing(guarded: TestClient, run: Store, tokens: dict[str, str]):
    sign_in(guarded, tokens["admin"])
    for key in ("", "guessed"):
        assert guarded.post("/runs/demo/promote", data={"number": 1, "form_key": key}).status_code == 403
    assert Registry(run).history() == []


def test_the_cookie_is_none_that_scripts_or_other_sites_can_use(guarded: TestClient, tokens: dict[str, str]):
    answer = guarded.post("/sign_in", data={"token": tokens["score"]}, follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert tokens["score"] not in cookie
    over_tls = TestClient(guarded.app, base_url="https://board.example")
    answer = over_tls.post("/sign_in", data={"token": tokens["score"]}, follow_redirects=False)
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\nb"])
def test_signing_in_leads_nowhere_else(guarded: TestClient, tokens: dict[str, str], target: str):
    data = {"token": tokens["score"], "target": target}
    assert guarded.post("/sign_in", data=data, follow_redirects=False).headers["location"] == "/"


def test_a_wrong_token_is_told_and_a_revoked_one_ends_the_session(
    guarded: TestClient, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("serve.auth.RELOAD_S", 0.0)
    answer = guarded.post("/sign_in", data={"token": "sead_wrong"})
    assert answer.status_code == 401
    assert "not known" in answer.text
    sign_in(guarded, tokens["score"])
    assert guarded.get("/").status_code == 200
    with open(tokens["path"], "w") as file:
        file.write("")
    assert guarded.get("/").status_code == 401


def test_signing_out_ends_the_session(guarded: TestClient, tokens: dict[str, str]):
    sign_in(guarded, tokens["score"])
    cookies = dict(guarded.cookies)
    guarded.post("/sign_out", data={"form_key": form_key(guarded.get("/").text)})
    assert guarded.get("/", headers={"Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())}).status_code == 401
