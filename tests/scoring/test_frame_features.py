from __future__ import annotations

import numpy as np
import pytest
import torch

from sead_ray.config import ScoreConfig
from sead_ray.errors import InputError
from sead_ray.model.contract import PlannerOutput
from sead_ray.records import AGENT_CLASSES
from sead_ray.scoring.features import extract_features, pool_bev, reduce_channels

CAR, BARRIER, CONE, PEDESTRIAN = (AGENT_CLASSES.index(n) for n in ("car", "barrier", "traffic_cone", "pedestrian"))
CONFIG = ScoreConfig(reduce_to=2)


def output(n_clips: int = 1, n_agents: int = 3, channels: int = 8, modes: int = 2) -> PlannerOutput:
    """Nothing detected, nothing moves."""
    return PlannerOutput(
        bev=torch.zeros(n_clips, 4, channels),
        agent_features=torch.zeros(n_clips, n_agents, channels),
        map_features=torch.zeros(n_clips, 2, 5, channels),
        agent_scores=torch.zeros(n_clips, n_agents, len(AGENT_CLASSES)),
        agent_centers_m=torch.zeros(n_clips, n_agents, 2),
        mode_trajectories_m=torch.zeros(n_clips, n_agents, modes, 6, 2),
        mode_probabilities=torch.full((n_clips, n_agents, modes), 1 / modes),
        plans_m=torch.zeros(n_clips, 3, 6, 2),
    )


def random_output(n_clips: int, seed: int) -> PlannerOutput:
    generator = torch.Generator().manual_seed(seed)
    out = output(n_clips, n_agents=6)
    for name in vars(out):
        setattr(out, name, torch.randn(getattr(out, name).shape, generator=generator))
    out.agent_scores = out.agent_scores.sigmoid()
    out.mode_probabilities = out.mode_probabilities.softmax(-1)
    return out


def test_nobody_detected() -> None:
    (frame,) = extract_features(output(), [2], CONFIG)
    assert frame.nearest_distance_m == np.inf
    assert (frame.max_confidence, frame.soft_collision, frame.agent_uncertainty) == (0, 0, 0)
    assert frame.is_finite()


def test_shapes_and_types() -> None:
    for frame in extract_features(output(n_clips=2), [0, 1], CONFIG):
        assert (frame.agents.shape, frame.map_instances.shape) == ((3, 2), (2, 2))
        assert (frame.planned_path_m.shape, frame.embedding.shape) == ((6, 2), (8,))
        assert {a.dtype for a in (frame.agents, frame.map_instances, frame.planned_path_m, frame.embedding)} == {
            np.dtype(np.float32)
        }


def test_reduction_by_hand() -> None:
    out = output()
    out.agent_features[0, 1] = torch.arange(8.0)
    out.map_features[0, 1] = torch.arange(5.0)[:, None] + torch.tensor([0.0] * 4 + [10.0] * 4)
    out.bev[0, :, 3] = torch.tensor([1.0, 2.0, 3.0, 6.0])
    (frame,) = extract_features(out, [0], CONFIG)
    assert frame.agents.tolist() == [[0, 0], [1.5, 5.5], [0, 0]]
    assert frame.map_instances.tolist() == [[0, 0], [2, 12]]
    assert frame.embedding.tolist() == [0, 0, 0, 3, 0, 0, 0, 0]


@pytest.mark.parametrize("k", [1, 3, 5, 8])
def test_reduction_to_any_number_of_channels_keeps_a_constant(k: int) -> None:
    reduced = reduce_channels(torch.full((1, 2, 8), 7.0), k)
    assert reduced.shape == (1, 2, k)
    assert reduced.flatten().tolist() == pytest.approx([7.0] * (2 * k))


def test_reduce_to_beyond_the_channels_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"reduce_to is 9.*8 channels"):
        extract_features(output(), [0], ScoreConfig(reduce_to=9))


@pytest.mark.parametrize(
    ("name", "passes"), [(name, name not in ("barrier", "traffic_cone")) for name in AGENT_CLASSES]
)
def test_participants_are_all_but_barriers_and_cones(name: str, passes: bool) -> None:
    out = output()
    out.agent_scores[0, 1, AGENT_CLASSES.index(name)] = 0.9
    out.agent_centers_m[0, 1] = torch.tensor([3.0, 4.0])
    (frame,) = extract_features(out, [0], CONFIG)
    assert frame.nearest_distance_m == (5.0 if passes else np.inf)
    assert frame.max_confidence == pytest.approx(0.9 if passes else 0)


def test_a_query_may_pass_with_any_participant_class() -> None:
    out = output()
    out.agent_scores[0, 0, CONE], out.agent_scores[0, 0, PEDESTRIAN] = 0.9, 0.6
    (frame,) = extract_features(out, [0], CONFIG)
    assert (frame.nearest_distance_m, frame.max_confidence) == (0, pytest.approx(0.6))


def test_confidence_threshold_is_inclusive_and_the_nearest_of_the_confident_counts() -> None:
    out = output()
    out.agent_scores[0, :, CAR] = torch.tensor([0.49, 0.5, 0.9])
    out.agent_centers_m[0] = torch.tensor([[1.0, 0], [0, 6.0], [8.0, 0]])
    (frame,) = extract_features(out, [0], CONFIG)
    assert frame.nearest_distance_m == 6.0


def test_distance_from_the_ego_origin() -> None:
    out = output()
    out.agent_scores[0, 0, CAR] = 0.9
    out.agent_centers_m[0, 0] = torch.tensor([0.0, 4.0])  # 4 m ahead of the lidar: lidar y is forward
    # lidar 1 m ahead of the ego origin, turned so that lidar x (right) is ego -y
    ego_from_lidar = np.array([[0, 1, 0, 1.0], [-1, 0, 0, 0], [0, 0, 1, 1.8], [0, 0, 0, 1]])
    config = ScoreConfig(reduce_to=2, distance_from="ego")
    assert extract_features(out, [0], config, ego_from_lidar[None])[0].nearest_distance_m == pytest.approx(5.0)
    assert extract_features(out, [0], CONFIG, ego_from_lidar[None])[0].nearest_distance_m == pytest.approx(4.0)
    with pytest.raises(InputError, match="distance_from"):
        extract_features(out, [0], config)


def test_the_command_selects_the_plan_and_offsets_accumulate() -> None:
    out = output(n_clips=2)
    out.plans_m[:, 0, :, 0], out.plans_m[:, 1, :, 0], out.plans_m[:, 2, :, 1] = 1.0, -1.0, 2.0
    right, straight = extract_features(out, [0, 2], CONFIG)
    assert right.planned_path_m.tolist() == [[step, 0] for step in range(1, 7)]
    assert straight.planned_path_m.tolist() == [[0, 2 * step] for step in range(1, 7)]


def test_soft_collision_by_hand() -> None:
    out = output()
    out.plans_m[0, 2, :, 1] = 2.0  # drives to y = 12
    out.agent_scores[0, :2, CAR] = torch.tensor([0.9, 0.1])
    out.agent_centers_m[0, 0] = torch.tensor([1.5, 20.0])
    out.mode_probabilities[0, 0] = torch.tensor([0.3, 0.7])
    out.mode_trajectories_m[0, 0, 0, :, 1] = -4.0  # the less probable mode would be nearer
    out.mode_trajectories_m[0, 0, 1, :, 1] = -1.0  # y = 14 at the last step: 2 m and 1.5 m away
    (frame,) = extract_features(out, [2], CONFIG)
    assert frame.soft_collision == pytest.approx(np.exp(-2.5), rel=1e-5)


def test_agent_uncertainty_by_hand() -> None:
    out = output()
    out.agent_scores[0, :2, CAR] = 0.9
    out.agent_centers_m[0, 1] = torch.tensor([0.0, 10.0])
    out.mode_probabilities[0, 0] = torch.tensor([1.0, 0.0])  # certain: adds nothing, though nearest
    (frame,) = extract_features(out, [0], CONFIG)
    assert frame.agent_uncertainty == pytest.approx(np.exp(-1) * np.log(2), rel=1e-5)


def test_a_clip_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    out = random_output(3, seed=1)
    together = extract_features(out, [0, 1, 2], CONFIG)
    for index, frame in enumerate(together):
        single = PlannerOutput(**{name: value[index : index + 1] for name, value in vars(out).items()})
        (alone,) = extract_features(single, [index], CONFIG)
        for name, value in vars(frame).items():
            np.testing.assert_allclose(getattr(alone, name), value, rtol=1e-5, atol=1e-6)


def test_half_precision_comes_back_as_float32() -> None:
    out = random_output(2, seed=2)
    half = PlannerOutput(**{name: value.to(torch.bfloat16) for name, value in vars(out).items()})
    for frame, reference in zip(extract_features(half, [0, 1], CONFIG), extract_features(out, [0, 1], CONFIG)):
        assert frame.agents.dtype == np.float32
        np.testing.assert_allclose(frame.agents, reference.agents, atol=0.02)


@pytest.mark.parametrize("name", ["agent_features", "map_features", "bev", "plans_m", "agent_scores"])
def test_nan_of_the_model_is_seen(name: str) -> None:
    out = random_output(1, seed=3)
    getattr(out, name)[...] = torch.nan
    assert not extract_features(out, [0], CONFIG)[0].is_finite()


def test_pooling_over_queries_keeps_the_channels() -> None:
    out = output(n_agents=4)
    out.agent_features[0] = torch.arange(4.0)[:, None] * torch.tensor([1.0, 10, 0, 0, 0, 0, 0, 0])
    (frame,) = extract_features(out, [0], ScoreConfig(reduce_to=2, pool_over="queries"))
    assert frame.agents[:, :3].tolist() == [[0.5, 5, 0], [2.5, 25, 0]]
    (most,) = extract_features(out, [0], ScoreConfig(reduce_to=99, pool_over="queries"))
    assert most.agents.shape == (4, 8)
    assert most.map_instances.shape == (2, 8)


def test_the_bev_is_pooled_to_at_most_400_tokens() -> None:
    bev = torch.arange(40.0)[:, None, None] + torch.arange(30.0)[None, :, None] * 100  # (rows, columns, 1)
    pooled = pool_bev(bev.reshape(1, -1, 1), (40, 30))
    assert pooled.shape == (1, 400, 1)
    # token (1, 2) of 20 x 20: rows 2 and 3, columns 3 and 4
    assert float(pooled[0, 22, 0]) == pytest.approx(2.5 + 350)
    assert pool_bev(torch.zeros(1, 60, 4), (6, 10)).shape == (1, 60, 4)


def test_the_bevs_features_come_only_where_they_are_asked_for() -> None:
    out = random_output(2, seed=4)
    assert extract_features(out, [0, 1], CONFIG)[0].bev.size == 0
    config = ScoreConfig(reduce_to=2, bev_shift=True)
    frames = extract_features(out, [0, 1], config, bev_hw=(2, 2))
    assert [frame.bev.shape for frame in frames] == [(4, 2)] * 2
    np.testing.assert_allclose(frames[1].bev, reduce_channels(out.bev, 2)[1], rtol=1e-6)
    out.bev[0, 0, 0] = torch.nan
    assert not extract_features(out, [0, 1], config, bev_hw=(2, 2))[0].is_finite()
    with pytest.raises(ValueError, match="rows and columns"):
        extract_features(out, [0, 1], config)
