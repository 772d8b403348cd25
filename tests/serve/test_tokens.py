"""Bearer tokens: the file, jobs.make_token, and what the service does with them."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from jobs.cli import parse
from jobs.make_token import MakeTokenConfig, job, plan
from sead_ray.config import ServeConfig
from sead_ray.errors import InputError
from sead_ray.tokens import append_grant, digest, find_grant, new_token, parse_grants, read_grants
from serve import auth
from serve.api import build_api
from serve.auth import TOKENS_VARIABLE, Authority, is_loopback
from serve.models import OneModel
from serve.scorer import LocalScorer

NEEDS_SCORE = [
    ("POST", "/v1/score"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs/x"),
    ("DELETE", "/v1/jobs/x"),
    ("POST", "/v1/sessions"),
    ("POST", "/v1/sessions/x/frames"),
    ("GET", "/v1/sessions/x"),
    ("DELETE", "/v1/sessions/x"),
    ("GET", "/v1/model"),
    ("GET", "/v1/models"),
]
NEEDS_ADMIN = [("GET", "/v1/jobs"), ("GET", "/v1/sessions")]


@pytest.fixture(scope="module")
def scorer(model_dir: str) -> LocalScorer:
    return LocalScorer(model_dir, "cpu")


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("tokens") / "tokens.txt")


@pytest.fixture(scope="module")
def tokens(tokens_file: str) -> dict[str, str]:
    """Token by scope."""
    return {
        scope: job(MakeTokenConfig(tokens_file=tokens_file, scope=scope, name=scope)) for scope in ("score", "admin")
    }


@pytest.fixture(scope="module")
def client(scorer: LocalScorer, tokens_file: str, tokens: dict[str, str]) -> Iterator[TestClient]:
    api = build_api(OneModel(scorer), ServeConfig(tokens_file=tokens_file), "0.0.0.0")
    with TestClient(api, raise_server_exceptions=False) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class TestFile:
    def test_made_tokens_are_found_again_and_the_file_holds_only_hashes(self, tokens_file: str, tokens: dict[str, str]):
        grants = read_grants(tokens_file)
        assert [(grant.name, grant.scope) for grant in grants] == [("score", "score"), ("admin", "admin")]
        text = Path(tokens_file).read_text()
        for scope, token in tokens.items():
            found = find_grant(grants, token)
            assert found is not None
            assert found.scope == scope
            assert token not in text
            assert digest(token) in text
        assert find_grant(grants, tokens["score"] + "x") is None
        assert find_grant(grants, "") is None
        assert stat.S_IMODE(Path(tokens_file).stat().st_mode) == 0o600

    def test_a_name_is_given_once(self, tmp_path: Path):
        path = str(tmp_path / "t")
        first, second = new_token("score", "a")[1], new_token("admin", "a")[1]
        append_grant(path, first)
        with pytest.raises(InputError, match="named a already"):
            append_grant(path, second)
        assert read_grants(path) == [first]

    def test_a_last_line_without_its_end_stays_whole(self, tmp_path: Path):
        grants = [new_token("score", name)[1] for name in "ab"]
        (tmp_path / "t").write_text(f"# fleet\n\n{grants[0].line()}  # van 7")
        append_grant(str(tmp_path / "t"), grants[1])
        assert read_grants(str(tmp_path / "t")) == grants

    @pytest.mark.parametrize(
        "line", ["sead_secret", "0" * 64, f"{'0' * 64} root a", f"{'0' * 63} score a", f"{'0' * 64} score a/b"]
    )
    def test_a_bad_line_is_named_but_not_repeated(self, line: str):
        with pytest.raises(InputError, match=r"^Line 2 of tokens\.txt") as caught:
            parse_grants(f"# ok\n{line}\n", "tokens.txt")
        assert line not in str(caught.value)

    @pytest.mark.parametrize("name", ["", "a b", "../a", "a\nb", "x" * 65])
    def test_names_are_words(self, name: str):
        with pytest.raises(InputError, match="token name"):
            new_token("score", name)

    def test_job_parses_and_its_plan_writes_nothing(self, tmp_path: Path):
        argv = ["--tokens_file", str(tmp_path / "t"), "--scope", "admin", "--name", "ops", "--dry-run"]
        config, dry_run = parse("", argv, MakeTokenConfig)
        assert dry_run
        assert "scope admin" in plan(config)
        assert list(tmp_path.iterdir()) == []


class TestWhenTokensAreNeeded:
    @pytest.mark.parametrize(
        ("host", "expected"),
        [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True)]
        + [(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "", None, "example.org", "localhost.evil.org")],
    )
    def test_loopback(self, host: str | None, expected: bool):
        assert is_loopback(host) is expected

    def test_not_on_loopback(self):
        assert not Authority(ServeConfig(), "127.0.0.1").is_required

    @pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", None])
    def test_elsewhere_the_service_does_not_start_without(self, host: str | None):
        with pytest.raises(InputError, match="needs tokens"):
            Authority(ServeConfig(), host)

    def test_where_they_are_asked_for(self):
        with pytest.raises(InputError, match="needs tokens"):
            Authority(ServeConfig(auth="required"), "127.0.0.1")

    def test_where_there_are_some_loopback_needs_them_too(self, tokens_file: str, tokens: dict[str, str]):
        assert Authority(ServeConfig(tokens_file=tokens_file), "127.0.0.1").is_required

    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch):
        made = [new_token("score", name) for name in "ab"]
        monkeypatch.setenv(TOKENS_VARIABLE, ";".join(grant.line() for _, grant in made))
        authority = Authority(ServeConfig(), "0.0.0.0")
        assert [authority.grant(token) for token, _ in made] == [grant for _, grant in made]

    def test_missing_file(self, tmp_path: Path):
        with pytest.raises(InputError, match="cannot be read"):
            Authority(ServeConfig(tokens_file=str(tmp_path / "none")), "0.0.0.0")


class TestRoutes:
    @pytest.mark.parametrize(("method", "path"), [*NEEDS_SCORE, *NEEDS_ADMIN])
    @pytest.mark.parametrize(
        "headers",
        [{}, bearer("wrong"), {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}, {"Authorization": ""}],
        ids=["none", "unknown", "basic", "empty", "blank"],
    )
    def test_401_without_a_token(self, client: TestClient, method: str, path: str, headers: dict[str, str]):
        response = client.request(method, path, headers=headers)
        assert response.status_code == 401, response.text
        assert response.headers["www-authenticate"] == "Bearer"
        assert set(response.json()) == {"error_id", "detail", "field"}

    @pytest.mark.parametrize(("method", "path"), NEEDS_ADMIN)
    def test_403_with_a_score_token_on_an_admins_route(
        self, client: TestClient, tokens: dict[str, str], method: str, path: str
    ):
        assert client.request(method, path, headers=bearer(tokens["score"])).status_code == 403
        assert client.request(method, path, headers=bearer(tokens["admin"])).status_code == 200

    @pytest.mark.parametrize(("method", "path"), NEEDS_SCORE)
    @pytest.mark.parametrize("scope", ["score", "admin"])
    def test_either_token_opens_the_others(
        self, client: TestClient, tokens: dict[str, str], method: str, path: str, scope: str
    ):
        assert client.request(method, path, headers=bearer(tokens[scope])).status_code not in (401, 403)

    def test_probes_and_the_document_need_none(self, client: TestClient):
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
            assert client.get(path).status_code == 200

    def test_the_document_says_which_routes_need_one(self, client: TestClient):
        paths = client.get("/openapi.json").json()["paths"]
        for path, methods in paths.items():
            for method in methods.values():
                assert bool(method.get("security")) is path.startswith("/v1/"), path

    def test_the_token_is_asked_for_before_the_body_is_read(self, scorer: LocalScorer, tokens_file: str):
        """A body over the limit would be 413."""
        api = build_api(OneModel(scorer), ServeConfig(tokens_file=tokens_file, max_body_bytes=10))
        assert TestClient(api).post("/v1/score", content=bytes(100)).status_code == 401

    def test_tokens_are_in_no_log(self, client: TestClient, tokens: dict[str, str], caplog: pytest.LogCaptureFixture):
        caplog.set_level("DEBUG")
        client.post("/v1/score", headers=bearer(tokens["score"]))
        client.post("/v1/score", headers=bearer("wrong-token-value"))
        ours = "".join(record.getMessage() for record in caplog.records if record.name.startswith("ray.serve"))
        assert "error_id" in ours
        assert tokens["score"] not in caplog.text
        assert "wrong-token-value" not in caplog.text


class TestRevocation:
    @pytest.fixture
    def revocable(self, scorer: LocalScorer, tmp_path: Path) -> tuple[Path, str, Callable[[], int]]:
        path = tmp_path / "tokens.txt"
        token = job(MakeTokenConfig(tokens_file=str(path), name="van"))
        client = TestClient(build_api(OneModel(scorer), ServeConfig(tokens_file=str(path)), "0.0.0.0"))
        return path, token, lambda: client.get("/v1/model", headers=bearer(token)).status_code

    def test_stops_within_five_seconds(self, revocable: tuple[Path, str, Callable[[], int]]):
        path, _, status = revocable
        assert status() == 200
        path.write_text("# nobody\n")
        deadline = time.monotonic() + 5
        while status() != 401:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    @pytest.mark.parametrize("damage", ["remove", "garbage"])
    def test_a_damaged_file_lets_nobody_in_until_it_is_mended(
        self, revocable: tuple[Path, str, Callable[[], int]], damage: str, monkeypatch: pytest.MonkeyPatch
    ):
        path, _, status = revocable
        monkeypatch.setattr(auth, "RELOAD_S", 0.0)
        whole = path.read_text()
        path.unlink() if damage == "remove" else path.write_text(whole + "what is this\n")
        assert status() == 401
        path.write_text(whole)
        assert status() == 200
