"""The client comes again where the service is busy, and takes a refusal as final."""

from __future__ import annotations

import httpx
import pytest

from sead_ray.client import ScoringClient
from sead_ray.errors import InputError


class TestRetries:
    def answering(self, *statuses: int) -> tuple[ScoringClient, list[httpx.Request]]:
        seen: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            status = statuses[len(seen) - 1]
            if status == 0:
                raise httpx.ConnectError("refused", request=request)
            body = {"models": []} if status == 200 else {"error_id": "0" * 12, "detail": "No.", "field": None}
            return httpx.Response(status, json=body, headers={"Retry-After": "0"})

        http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))
        return ScoringClient("", "secret", tries=4, first_wait_s=0.001, http=http), seen

    def test_comes_again_until_it_is_served(self):
        client, seen = self.answering(429, 0, 503, 200)
        assert client.models() == []
        assert len(seen) == 4
        assert {request.headers["authorization"] for request in seen} == {"Bearer secret"}

    def test_gives_up_after_all_tries(self):
        client, seen = self.answering(503, 503, 503, 503)
        with pytest.raises(httpx.HTTPStatusError):
            client.models()
        assert len(seen) == 4
        with pytest.raises(httpx.ConnectError):
            self.answering(0, 0, 0, 0)[0].models()

    @pytest.mark.parametrize("status", [401, 403, 404, 409, 413, 422])
    def test_a_refusal_is_final(self, status: int):
        client, seen = self.answering(status)
        with pytest.raises(InputError, match=r"^No\. \(error 0{12}\)$"):
            client.models()
        assert len(seen) == 1
