"""Map AP against cases solved by hand and against a plain reading of the definition."""

from __future__ import annotations

import numpy as np
import pytest

from sead_ray.evaluation.map_ap import (
    THRESHOLDS_M,
    LineMatches,
    average_precision,
    chamfer_distance,
    line_distances,
    match_lines,
    summarise_map,
    true_positives,
)
from sead_ray.records import MAP_CLASSES, MapVector

DIVIDER, CROSSING, BOUNDARY = range(3)
ALONG_Y = np.array([[0.0, -10.0], [0.0, 10.0]])


def shifted(line: np.ndarray, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    return line + np.array([x, y])


def twenty(line: np.ndarray) -> np.ndarray:
    """A two-point line as the model gives one: 20 points."""
    return line[0] + np.linspace(0, 1, 20)[:, None] * (line[1] - line[0])


def frame(found: list[tuple[np.ndarray, float, int]], wanted: list[tuple[np.ndarray, int]]) -> LineMatches:
    lines = np.array([twenty(line) for line, _, _ in found], np.float32).reshape(-1, 20, 2)
    scores = np.array([score for _, score, _ in found], np.float32)
    labels = np.array([label for *_, label in found], np.int64)
    return match_lines(lines, scores, labels, [MapVector(label, line) for line, label in wanted])


def test_parallel_lines_are_their_gap_apart():
    distance = line_distances([twenty(shifted(ALONG_Y, 0.75))], [ALONG_Y, shifted(ALONG_Y, 3.0)])
    np.testing.assert_allclose(distance, [[0.75, 2.25]], atol=1e-9)


def test_direction_start_and_number_of_points_do_not_matter():
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]], float)
    turned = np.roll(square[:-1], 2, axis=0)
    again = np.concatenate([turned, turned[:1]])[::-1]
    assert line_distances([square], [again])[0, 0] < 0.1  # both are sampled, at other places
    np.testing.assert_allclose(line_distances([ALONG_Y[::-1]], [twenty(ALONG_Y)]), 0, atol=1e-12)


def test_the_distance_is_the_mean_of_both_directed_means():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = (np.cumsum(rng.normal(0, 2, (n, 2)), axis=0) for n in rng.integers(2, 7, 2))
        a, b = (dense(line) for line in (first, second))
        gaps = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
        expected = (gaps.min(1).mean() + gaps.min(0).mean()) / 2
        assert chamfer_distance(a, b) == pytest.approx(expected, abs=1e-9)
        found = line_distances([first], [second])[0, 0]
        assert found == pytest.approx(expected, abs=1e-9) or (np.isinf(found) and expected > 1.5)


def dense(line: np.ndarray) -> np.ndarray:
    """100 points at equal distances along a polyline, by linear interpolation over its arc length."""
    along = np.concatenate([[0], np.linalg.norm(np.diff(line, axis=0), axis=1).cumsum()])
    at = np.linspace(0, along[-1], 100)
    return np.stack([np.interp(at, along, line[:, axis]) for axis in range(2)], axis=1)


def test_lines_whose_strips_do_not_touch_are_not_compared():
    short = np.array([[0.0, 0.0], [0.0, 0.2]])
    assert np.isinf(line_distances([short], [shifted(short, y=0.8)])[0, 0])  # one behind the other
    assert line_distances([short], [shifted(short, x=0.8)])[0, 0] == pytest.approx(0.8)
    assert np.isinf(line_distances([ALONG_Y], [shifted(ALONG_Y, x=4.5)])[0, 0])


def test_a_line_counts_from_the_threshold_on_that_it_meets():
    matches = frame([(shifted(ALONG_Y, 0.75), 0.9, DIVIDER)], [(ALONG_Y, DIVIDER)])
    assert matches.correct.tolist() == [[False, True, True]]
    report = summarise_map([matches])
    assert report["classes"]["divider"]["AP_by_threshold_m"] == {"0.5": 0, "1.0": 1, "1.5": 1}
    assert report["classes"]["divider"]["AP"] == pytest.approx(2 / 3)
    assert report["mAP"] == pytest.approx(2 / 3)


def test_another_class_is_no_match():
    report = summarise_map([frame([(ALONG_Y, 0.9, BOUNDARY)], [(ALONG_Y, DIVIDER)])])
    assert report["classes"]["divider"] == {
        "AP": 0,
        "AP_by_threshold_m": {"0.5": 0, "1.0": 0, "1.5": 0},
        "n_annotated": 1,
        "n_predicted": 0,
    }
    # nobody annotated a boundary: its AP is not known, and does not enter the mean
    assert report["classes"]["boundary"]["AP"] is None
    assert report["classes"]["boundary"]["n_predicted"] == 1
    assert report["mAP"] == 0


def test_the_surest_takes_a_line_and_a_second_one_is_wrong():
    wanted = [(ALONG_Y, DIVIDER), (shifted(ALONG_Y, 1.2), DIVIDER)]
    found = [(shifted(ALONG_Y, 0.1), 0.5, DIVIDER), (ALONG_Y, 0.9, DIVIDER), (shifted(ALONG_Y, 1.2), 0.4, DIVIDER)]
    assert frame(found, wanted).correct[:, 2].tolist() == [False, True, True]


def test_a_line_never_falls_back_to_its_second_nearest():
    distance = np.array([[0.1, 0.4], [0.2, 0.3]])
    assert true_positives(distance, np.array([0.9, 0.8], np.float32), 0.5).tolist() == [True, False]


def test_precision_and_recall_by_hand():
    # by score: right, wrong, right of 4: precision 1, 1/2, 2/3 at recall 1/4, 1/4, 1/2
    correct, scores = np.array([True, True, False]), np.array([0.9, 0.3, 0.6])
    assert average_precision(correct, scores, 4) == pytest.approx(1 / 4 + 2 / 3 / 4)
    assert average_precision(np.zeros(0, bool), np.zeros(0), 3) == 0
    assert average_precision(np.zeros(2, bool), np.ones(2), 0) is None


def test_scores_are_ranked_over_all_frames():
    right = frame([(ALONG_Y, 0.6, CROSSING)], [(ALONG_Y, CROSSING)])
    wrong = frame([(ALONG_Y, 0.9, CROSSING)], [(shifted(ALONG_Y, 9.0), CROSSING)])
    entry = summarise_map([right, wrong])["classes"]["ped_crossing"]
    assert entry["AP"] == pytest.approx(0.5 * 0.5)  # half the recall at precision 1/2
    assert (entry["n_annotated"], entry["n_predicted"]) == (2, 2)
    assert summarise_map([wrong, right])["classes"]["ped_crossing"] == entry


def test_nothing_at_all_has_no_number():
    for frames in ([], [frame([], [])]):
        report = summarise_map(frames)
        assert report["mAP"] is None
        assert [entry["AP"] for entry in report["classes"].values()] == [None] * 3


def test_random_frames_agree_with_a_plain_reading():
    rng = np.random.default_rng(3)
    frames, plain = [], {(c, t): ([], [], 0) for c in range(3) for t in THRESHOLDS_M}
    for _ in range(12):
        wanted = [(rng.uniform(-12, 12, (2, 2)), int(rng.integers(0, 3))) for _ in range(rng.integers(0, 7))]
        found = [(line + rng.normal(0, 0.7, 2), rng.random(), c) for line, c in wanted for _ in range(2)]
        found += [(rng.uniform(-12, 12, (2, 2)), rng.random(), int(rng.integers(0, 3))) for _ in range(4)]
        frames.append(frame(found, wanted))
        for key in plain:
            scores, right, n = plain[key]
            plain[key] = (*read_plainly(found, wanted, *key, scores, right), n + sum(c == key[0] for _, c in wanted))
    report = summarise_map(frames)
    for (map_class, threshold), (scores, right, n) in plain.items():
        order = np.argsort(scores)[::-1]
        precision = [np.mean([right[i] for i in order[: k + 1]]) for k in range(len(order))]
        area = sum(max(precision[k:]) / n for k in range(len(order)) if right[order[k]])
        found_ap = report["classes"][MAP_CLASSES[map_class]]["AP_by_threshold_m"][str(threshold)]
        assert found_ap == pytest.approx(area, abs=1e-9)
    assert 0.1 < report["mAP"] < 0.9


def read_plainly(found, wanted, map_class, threshold, scores, right):
    own = sorted([item for item in found if item[2] == map_class], key=lambda item: -item[1])
    lines = [dense(line) for line, c in wanted if c == map_class]
    taken = set()
    for line, score, _ in own:
        points = dense(twenty(line.astype(np.float32).astype(float)))
        gaps = [np.sqrt(((points[:, None] - other[None]) ** 2).sum(-1)) for other in lines]
        distances = [(gap.min(0).mean() + gap.min(1).mean()) / 2 for gap in gaps]
        best = int(np.argmin(distances)) if distances else -1
        hit = best >= 0 and distances[best] <= threshold and best not in taken
        if hit:
            taken.add(best)
        scores, right = [*scores, score], [*right, hit]
    return scores, right
