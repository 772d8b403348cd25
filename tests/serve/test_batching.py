"""Clips of several requests in one call: nothing mixes, nobody pays for another's fault, the cancelled are left out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from sead_ray.config import ImageConfig
from sead_ray.records import Clip, ClipScore
from sead_ray.stages.clip_runner import LoadedClip, load_clip
from sead_ray.tokens import Grant
from serve.auth import LOCAL_CALLER
from serve.batching import Abandoned, Batcher
from serve.canary import canary_clip
from serve.errors import ApiError
from serve.gate import Gate
from serve.scorer import LocalScorer

CANARY = canary_clip(ImageConfig(width=32))


def clip_named(token: str) -> LoadedClip:
    return replace(CANARY, clip=replace(CANARY.clip, clip_token=token))


class Model:
    """Notes its calls, and is held until it is let go."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.go = threading.Event()
        self.abandoned = 0

    def __call__(self, clips: Sequence[LoadedClip], is_abandoned: Callable[[], bool]) -> list[str]:
        names = [item.clip.clip_token for item in clips]
        self.calls.append(names)
        while not self.go.wait(0.005):
            if is_abandoned():
                self.abandoned += 1
                raise Abandoned
        if "bad" in names:
            raise RuntimeError("of bad")
        return [f"score of {name}" for name in names]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def test_clips_gather_while_the_model_is_busy():
    async def main() -> None:
        model = Model()
        batcher = Batcher(model, 3, asyncio.Lock())
        tasks = [asyncio.create_task(batcher.submit(clip_named("a")))]
        await until(lambda: len(model.calls) == 1)
        tasks += [asyncio.create_task(batcher.submit(clip_named(name))) for name in "bcde"]
        await asyncio.sleep(0.02)
        model.go.set()
        done = await asyncio.gather(*tasks)
        assert model.calls == [["a"], ["b", "c", "d"], ["e"]]
        assert [item.result for item in done] == [f"score of {name}" for name in "abcde"]
        assert [item.n_clips for item in done] == [1, 3, 3, 3, 1]

    asyncio.run(main())


def test_a_bad_clip_fails_alone():
    async def main() -> None:
        model = Model()
        batcher = Batcher(model, 4, asyncio.Lock(), wait_s=0.05)
        tasks = [asyncio.create_task(batcher.submit(clip_named(name))) for name in ("a", "bad", "c")]
        model.go.set()
        done: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[1], RuntimeError)
        assert [item.result for item in (done[0], done[2])] == ["score of a", "score of c"]

    asyncio.run(main())


def test_other_image_sizes_go_apart():
    async def main() -> None:
        model = Model()
        model.go.set()
        batcher = Batcher(model, 4, asyncio.Lock(), wait_s=0.05)
        other = canary_clip(ImageConfig(width=64))
        await asyncio.gather(*(batcher.submit(item) for item in (CANARY, other, CANARY)))
        assert [len(names) for names in model.calls] == [2, 1]

    asyncio.run(main())


def test_cancelled_clips_are_left_out():
    async def main() -> None:
        model = Model()
        batcher = Batcher(model, 4, asyncio.Lock())
        tasks = [asyncio.create_task(batcher.submit(clip_named(name))) for name in "a"]
        await until(lambda: len(model.calls) == 1)
        tasks += [asyncio.create_task(batcher.submit(clip_named(name))) for name in "bc"]
        await asyncio.sleep(0.01)
        tasks[1].cancel()
        tasks[0].cancel()  # under way: the call ends, since nobody waits for it
        await until(lambda: len(model.calls) == 2)
        model.go.set()
        assert (await tasks[2]).result == "score of c"
        assert (model.calls, model.abandoned) == ([["a"], ["c"]], 1)

    asyncio.run(main())


def test_batched_scores_as_alone(
    model_dir: str, clip: Clip, clip_without_can: Clip, data_root: str, expected: ClipScore
):
    """Also beside a clip that ends earlier."""
    short = replace(clip_without_can, clip_token="short", frames=clip_without_can.frames[:3])

    async def main() -> None:
        scorer = LocalScorer(model_dir, "cpu", max_clips=4, wait_s=0.2)
        loaded = [load_clip(item, data_root, ImageConfig(width=160)) for item in (clip, clip_without_can, short, clip)]
        alone = [await scorer.score(item) for item in loaded]
        together = await asyncio.gather(*(scorer.score(item) for item in loaded))
        assert [item.n_clips for item in together] == [4] * 4
        for one, other in zip(alone, together):
            assert other.score.shift_agents == pytest.approx(one.score.shift_agents, rel=1e-5)
            assert other.score.shift_map == pytest.approx(one.score.shift_map, rel=1e-5)
            assert other.score.shift_sum == pytest.approx(one.score.shift_sum, rel=1e-5)
            assert other.score.is_key == one.score.is_key
        for item in (together[0], together[3]):
            assert item.score.shift_sum == pytest.approx(expected.shift_sum, rel=1e-5)

    asyncio.run(main())


VAN, BUS = (Grant(name, "score", name) for name in ("van", "bus"))


class TestGate:
    def test_who_is_too_many_is_told_at_once(self):
        async def main() -> None:
            gate = Gate(1, 2, 10.0)
            async with gate.work():
                with pytest.raises(ApiError) as full, gate.upload(VAN):
                    pass
                assert full.value.status == 429
                assert int((full.value.headers or {})["Retry-After"]) >= 1
            with (
                gate.upload(VAN),
                gate.upload(BUS),
                pytest.raises(ApiError, match="2 requests are arr"),
                gate.upload(VAN),
            ):
                pass
            with gate.upload(VAN), gate.upload(VAN):
                pass
            assert gate.working == 0

        asyncio.run(main())

    def test_one_token_leaves_places_for_others(self):
        gate = Gate(1, 4, 10.0)
        with gate.upload(VAN), gate.upload(VAN), gate.upload(VAN):
            with pytest.raises(ApiError, match=r"^3 requests of this token are arriving") as refused, gate.upload(VAN):
                pass
            assert refused.value.status == 429
            with gate.upload(BUS), pytest.raises(ApiError, match=r"^4 requests are arriving"), gate.upload(BUS):
                pass
        with gate.upload(VAN):
            pass

    def test_without_tokens_all_places_are_everybodys(self):
        gate = Gate(1, 4, 10.0)
        with ExitStack() as uploads:
            for _ in range(4):
                uploads.enter_context(gate.upload(LOCAL_CALLER))
            with pytest.raises(ApiError, match=r"^4 requests are arriving"), gate.upload(LOCAL_CALLER):
                pass

    def test_deadline(self):
        async def main() -> None:
            gate = Gate(1, 1, 0.02)
            with pytest.raises(ApiError) as late:
                async with gate.work():
                    await asyncio.sleep(5)
            assert late.value.status == 504
            assert gate.working == 0

        asyncio.run(main())
