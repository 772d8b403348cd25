"""The criterion on small random outputs: what must hold whatever the model says."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from sead_ray.model.contract import VADOutput
from sead_ray.targets import MAP_ORDER_FILL, MAP_ORDERS, FrameTargets
from sead_ray.training.criterion import LOSS_PRESETS, PC_RANGE, BatchTargets, VADCriterion
from sead_ray.training.losses import encode_boxes, normalise_points
from sead_ray.training.matching import agent_costs, map_costs, match

LAYERS, AGENTS, LINES, MODES, STEPS, POINTS = 3, 9, 7, 6, 6, 20
REGRESSION = ("loss_bbox", "loss_traj", "loss_map_pts", "loss_map_dir", "loss_plan_reg")
RAW = ("class_logits", "boxes", "mode_offsets", "mode_logits", "map_class_logits", "map_points", "plans_m")
SAMPLE_DIM = {"class_logits": 1, "boxes": 1, "map_class_logits": 1, "map_boxes": 1, "map_points": 1}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_output(seed: int, samples: int = 1) -> VADOutput:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    return VADOutput(
        bev=normal(samples, 4, 8),
        agent_features=normal(samples, AGENTS, 8),
        map_features=normal(samples, LINES, POINTS, 8),
        agent_scores=torch.rand(samples, AGENTS, 10, generator=g),
        agent_centers_m=normal(samples, AGENTS, 2),
        mode_trajectories_m=normal(samples, AGENTS, MODES, STEPS, 2),
        mode_probabilities=torch.rand(samples, AGENTS, MODES, generator=g),
        plans_m=normal(samples, 3, STEPS, 2),
        class_logits=2 * normal(LAYERS, samples, AGENTS, 10),
        boxes=4 * normal(LAYERS, samples, AGENTS, 10),
        mode_offsets=normal(samples, AGENTS, MODES, 2 * STEPS),
        mode_logits=normal(samples, AGENTS, MODES),
        map_class_logits=2 * normal(LAYERS, samples, LINES, 3),
        map_boxes=torch.rand(LAYERS, samples, LINES, 4, generator=g),
        map_points=torch.rand(LAYERS, samples, LINES, POINTS, 2, generator=g),
    )


def random_targets(seed: int, agents: int = 4, lines: int = 3) -> FrameTargets:
    rng = np.random.default_rng(seed)
    boxes = rng.normal(0, 5, (agents, 9)).astype(np.float32)
    boxes[:, 3:6] = rng.uniform(0.5, 5, (agents, 3))
    attributes = np.zeros((agents, 34), np.float32)
    attributes[:, :12] = rng.normal(0, 1, (agents, 12))
    attributes[:, 12:18] = np.arange(6) < rng.integers(0, 7, (agents, 1))
    points = np.full((lines, MAP_ORDERS, POINTS, 2), MAP_ORDER_FILL, np.float32)
    points[:, 0] = rng.uniform((-15, -30), (15, 30), (lines, POINTS, 2))
    points[:, 1] = points[:, 0, ::-1]
    return FrameTargets(
        boxes=boxes,
        labels=rng.integers(0, 10, agents),
        attributes=attributes,
        map_points=points,
        map_labels=rng.integers(0, 3, lines),
        ego_future=rng.normal(0, 2, (6, 2)).astype(np.float32),
        ego_future_mask=np.ones(6, np.float32),
        command=int(rng.integers(0, 3)),
        future_valid=True,
    )


def one_sample(output: VADOutput, index: int) -> VADOutput:
    parts = {name: v.narrow(SAMPLE_DIM.get(name, 0), index, 1) for name, v in vars(output).items()}
    return VADOutput(**parts)


def with_gradients(output: VADOutput) -> VADOutput:
    return replace(output, **{name: getattr(output, name).clone().requires_grad_(True) for name in RAW})


def perfect_output(target: FrameTargets) -> VADOutput:
    """Predicts the targets exactly: query i is agent i and line i, mode 2 is right, lines in their second order."""
    output = random_output(0)
    boxes = output.boxes + 100
    boxes[:, 0, : len(target.labels)] = encode_boxes(torch.from_numpy(target.boxes))
    logits = torch.full_like(output.class_logits, -20.0)
    logits[:, 0, torch.arange(len(target.labels)), torch.from_numpy(target.labels)] = 20.0
    modes = output.mode_offsets + 50
    modes[0, : len(target.labels), 2] = torch.from_numpy(target.attributes[:, :12])
    map_logits = torch.full_like(output.map_class_logits, -20.0)
    map_logits[:, 0, torch.arange(len(target.map_labels)), torch.from_numpy(target.map_labels)] = 20.0
    points = output.map_points.clone()
    points[:, 0, : len(target.map_labels)] = normalise_points(torch.from_numpy(target.map_points[:, 1]), PC_RANGE)
    plans = output.plans_m.clone()
    plans[0, target.command] = torch.from_numpy(target.ego_future)
    return replace(
        output,
        boxes=boxes,
        class_logits=logits,
        mode_offsets=modes,
        map_class_logits=map_logits,
        map_points=points,
        plans_m=plans,
    )


def test_there_are_27_terms_under_upstreams_names():
    terms = VADCriterion("e2e")(random_output(1), [random_targets(1)])
    detection = ["cls", "bbox", "map_cls", "map_bbox", "map_iou", "map_pts", "map_dir"]
    expected = {f"d{layer}.loss_{name}" for layer in (0, 1) for name in detection}
    expected |= {f"loss_{name}" for name in detection}
    expected |= {f"loss_{name}" for name in ("traj", "traj_cls", "plan_reg", "plan_bound", "plan_col", "plan_dir")}
    assert set(terms) == expected
    assert len(terms) == 27
    assert all(term.shape == () and term.isfinite() for term in terms.values())


def test_a_perfect_prediction_has_no_regression_loss_and_beats_a_perturbed_one():
    target = random_targets(3)
    target.attributes[:, 12:18] = 1
    criterion, perfect = VADCriterion("e2e"), perfect_output(target)
    best = criterion(perfect, [target])
    for name in REGRESSION:
        assert best[name].item() == pytest.approx(0, abs=1e-4), name
    assert best["loss_cls"] < 1e-6
    assert best["loss_map_cls"] < 1e-6
    shift = {name: getattr(perfect, name) + 0.3 for name in ("boxes", "mode_offsets", "plans_m")}
    noise = torch.rand(perfect.map_points.shape, generator=torch.Generator().manual_seed(0))
    worse = criterion(replace(perfect, map_points=perfect.map_points + 0.1 * noise, **shift), [target])
    for name in REGRESSION:
        assert worse[name] > best[name] + 1e-3, name


def test_a_batch_is_the_mean_of_its_samples_in_value_and_gradient():
    criterion = VADCriterion("stage_2")
    targets = [random_targets(11, 4, 3), random_targets(12, 0, 5), random_targets(13, 6, 0)]
    output = with_gradients(random_output(5, samples=3))
    batch = criterion(output, targets)
    sum(batch.values()).backward()
    singles = [criterion(one_sample(output, i), [target]) for i, target in enumerate(targets)]
    for name, value in batch.items():
        mean = torch.stack([single[name] for single in singles]).mean()
        torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-7)
    total = sum(sum(single.values()) for single in singles) / 3
    gradients = torch.autograd.grad(total, [getattr(output, name) for name in RAW])
    for name, gradient in zip(RAW, gradients):
        torch.testing.assert_close(getattr(output, name).grad, gradient, rtol=1e-4, atol=1e-7)


def test_a_sample_does_not_feel_its_neighbours():
    criterion, output = VADCriterion("e2e"), with_gradients(random_output(6, samples=2))
    gradients = []
    for other in (20, 21):
        terms = criterion(output, [random_targets(19), random_targets(other, 2, 6)])
        gradients.append(torch.autograd.grad(sum(terms.values()), [output.class_logits, output.map_points])[:])
    for first, second in zip(*gradients):
        torch.testing.assert_close(first[:, 0], second[:, 0])
        assert not torch.equal(first[:, 1], second[:, 1])


@pytest.mark.parametrize(("agents", "lines"), [(0, 0), (0, 3), (3, 0)])
def test_frames_without_agents_or_lines_have_finite_losses(agents: int, lines: int):
    output = with_gradients(random_output(8, samples=2))
    targets = [random_targets(1, agents, lines), random_targets(2, agents, lines)]
    terms = VADCriterion("e2e")(output, targets)
    sum(terms.values()).backward()
    assert all(getattr(output, name).grad.isfinite().all() for name in RAW)
    if agents == 0:
        assert terms["loss_bbox"] == 0
        assert terms["loss_traj"] == 0
        assert terms["loss_cls"] > 0
    if lines == 0:
        assert terms["loss_map_pts"] == 0
        assert terms["loss_map_dir"] == 0
        assert terms["loss_map_cls"] > 0


def test_more_targets_than_queries_still_match():
    terms = VADCriterion("e2e")(random_output(9), [random_targets(4, AGENTS + 5, LINES + 2)])
    assert all(term.isfinite() for term in terms.values())


def test_outputs_and_targets_are_not_written_into():
    output, target = random_output(10, samples=2), random_targets(7)
    # certain vehicles and lines, so that the planning losses have something to overwrite
    output.class_logits[..., 0] = 5.0
    before = {name: value.clone() for name, value in vars(output).items()}
    arrays = {name: np.copy(value) for name, value in vars(target).items()}
    VADCriterion("e2e")(output, [target, target])
    for name, value in vars(output).items():
        assert torch.equal(value, before[name]), name
    for name, value in vars(target).items():
        assert np.array_equal(value, arrays[name]), name


def test_bfloat16_outputs_are_judged_in_float32():
    output, target = random_output(14), random_targets(14)
    half = VADOutput(**{name: value.bfloat16() for name, value in vars(output).items()})
    exact = VADOutput(**{name: value.bfloat16().float() for name, value in vars(output).items()})
    terms, expected = VADCriterion("e2e")(half, [target]), VADCriterion("e2e")(exact, [target])
    assert all(torch.equal(terms[name], expected[name]) and terms[name].dtype == torch.float32 for name in expected)


def test_outputs_that_are_not_finite_stop_training():
    output = random_output(15)
    output.boxes[0, 0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        VADCriterion("e2e")(output, [random_targets(15)])


def test_presets_weigh_what_upstreams_stages_weigh():
    output, targets = random_output(16), [random_targets(16)]
    stage_1, e2e = (VADCriterion(name)(output, targets) for name in ("stage_1", "e2e"))
    assert all(value == 0 for name, value in stage_1.items() if "plan" in name)
    assert all(value == e2e[name] for name, value in stage_1.items() if "plan" not in name)
    assert LOSS_PRESETS["stage_2"].cls == 0.8
    assert LOSS_PRESETS["stage_2"].bbox == 0.1


def test_matching_equals_brute_force():
    output, target = random_output(17), random_targets(17, agents=3, lines=3)
    criterion = VADCriterion("e2e")
    batch = BatchTargets.from_frames([target], torch.device("cpu"))
    found = criterion.match(output, batch)
    agents = agent_costs(output.class_logits, output.boxes, batch.labels[None], batch.box_codes[None], 2.0, 0.25)
    orders = normalise_points(batch.line_points_m, PC_RANGE)
    lines, order = map_costs(
        output.map_class_logits, output.map_points, batch.line_labels[None], orders[None], 2.0, 1.0
    )
    for costs, matches in ((agents, found.agents), (lines, found.lines)):
        for layer in range(LAYERS):
            cost = costs[layer, 0]
            cheapest = min(
                sum(cost[query, target].item() for target, query in enumerate(queries))
                for queries in itertools.permutations(range(len(cost)), 3)
            )
            query = matches.matched[layer, 0].nonzero()[:, 0]
            found_cost = cost[query, matches.target[layer, 0, query]].sum().item()
            assert found_cost == pytest.approx(cheapest, rel=1e-5)
    for query, line in itertools.product(range(LINES), range(3)):
        distance = (output.map_points[1, 0, query] - orders[line]).abs().sum((-1, -2))
        assert order[1, 0, query, line] == distance.argmin()


def test_agent_cost_is_focal_cost_plus_l1_without_velocities():
    logits, boxes = torch.zeros(1, 1, 1, 10), torch.zeros(1, 1, 1, 10)
    codes = torch.zeros(1, 1, 10)
    codes[..., 0], codes[..., 8] = 3.0, 100.0
    cost = agent_costs(logits, boxes, torch.zeros(1, 1, dtype=torch.long), codes, 2.0, 0.25)
    # p = 1/2: alpha (1-p)^2 (-log p) - (1 - alpha) p^2 (-log(1 - p)) = (0.25 - 0.75) / 4 * log 2
    assert cost.item() == pytest.approx(2.0 * -0.125 * np.log(2) + 0.25 * 3.0, rel=1e-6)


def test_match_returns_flat_indices_of_each_sample():
    costs = torch.tensor([[[[0.0, 9.0], [9.0, 0.0]], [[9.0, 5.0], [0.0, 5.0]]]])
    (matches,) = match([costs], [[2, 1]], torch.device("cpu"))
    assert matches.matched.tolist() == [[[True, True], [False, True]]]
    assert matches.target.tolist() == [[[0, 1], [0, 0]]]
    assert matches.flat_target.tolist() == [[[0, 1], [0, 2]]]
    assert matches.positives.tolist() == [2, 1]


def test_the_future_mode_is_chosen_by_the_last_step_alone():
    target = perfect = random_targets(18, agents=1, lines=0)
    target.attributes[0, 12:18] = 1
    output = perfect_output(perfect)
    assert VADCriterion("e2e")(output, [target])["loss_traj"] == 0
    target.attributes[0, 17] = 0  # without a last step every distance is 0, and mode 0 is taken
    assert VADCriterion("e2e")(output, [target])["loss_traj"] > 1
