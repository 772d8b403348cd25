from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sead_ray.config import RunConfig
from sead_ray.report import cards, page, write_report

VOID = {"meta", "link", "img", "br", "input", "hr"}
NAMESPACES = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")


class Page(HTMLParser):
    """Collects elements, and fails where a tag closes what is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack[-1:] == [tag], f"</{tag}> closes {self.stack[-3:]}"
        self.stack.pop()

    def handle_data(self, data):
        if not {"style", "script"} & {*self.stack}:
            self.text += data

    def having(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag and wanted.items() <= attrs.items()]


def all_clips(text: str) -> list[dict]:
    """What the page's script draws its table from."""
    data = json.loads(re.findall(r'<script type="application/json" id="clip-data">(.*?)</script>', text, re.DOTALL)[0])
    return [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]


def written(run, data_root, **settings) -> tuple[str, Page]:
    text = Path(write_report(run, data_root, RunConfig(**settings))).read_text()
    return text, Page(text)


@pytest.fixture(scope="module")
def finished(finished_run) -> tuple[str, Page]:
    return written(*finished_run)


def test_the_page_is_well_formed_and_needs_nothing_beside_itself(finished):
    text, found = finished
    for namespace in NAMESPACES:
        text = text.replace(f'="{namespace}"', "")
    assert not re.search(r"https?:|@import|file:", text)
    for _, attrs in found.elements:
        for name in ("src", "href", "xlink:href"):
            assert (attrs.get(name) or "#").startswith(("#", "data:"))
    assert not re.search(r"url\((?!#)", text)
    data, code = found.having("script")
    assert data["type"] == "application/json"
    (policy,) = [attrs["content"] or "" for attrs in found.having("meta") if "http-equiv" in attrs]
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[0].encode()
    assert code == {}
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" in policy  # and no other script
    assert "default-src 'none'" in policy


def test_ids_are_unique_and_every_reference_has_a_target(finished):
    text, found = finished
    ids = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    references = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)|aria-(?:labelledby|describedby)="([^"]+)"', text))
    assert {name for names in references for name in names if name} <= set(ids)


def test_each_rounds_numbers_and_the_comparisons_are_shown(finished):
    text, found = finished
    for expected in ("0.80", "0.64", "0.48", "20.0 %", "23.8 %", "27.5 %", "Standing still", "3.20", "33.5"):
        assert expected in found.text
    section = text[: text.index('id="slices"')]
    rows = re.findall(r'<tr><th scope="row">(\d)</th><td>(\d+)</td><td>[\d.]+ %</td><td>(\d+)</td>', section)
    assert rows == [("0", "2", "16"), ("1", "4", "19"), ("2", "6", "22")]
    assert "samples/x.jpg is truncated" in found.text
    assert "Unfinished" not in found.text


def test_perception_has_a_row_a_round_and_a_dash_where_nothing_was_found(finished):
    text, _ = finished
    section = text[text.index('id="perception"') : text.index('id="kinds"')]
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in section.split("<tr>")[3:]]
    assert [row[:5] for row in cells] == [["0.247", "0.136", "0.358", "0.246", "0.432"]] * 3
    assert [row[5] for row in cells] == ["0.81", "1.81", "2.81"]
    assert [row[6:9] for row in cells] == [["1.25", "0.125", "0.438"]] * 3
    assert all(row[9:] == ["–"] * 4 for row in cells)


def test_an_evaluation_without_perception_has_no_such_section(make_run):
    run, data_root = make_run(1)
    key = "rounds/00/evaluation/evaluation.json"
    report = run.read_json(key)
    run.write_json(key, {name: report[name] for name in report if name not in ("detection", "map", "motion")})
    assert 'id="perception"' not in written(run, data_root)[0]


def test_slices_stand_in_the_papers_order_with_the_whole_split_last(finished):
    text, _ = finished
    header = text[text.index("The paper's Table 2") :]
    assert re.findall(r'<th scope="col">([^<]+)</th>', header)[:6] == [
        "Round", "Day", "Night", "Turn left", "Overtake", "All",
    ]  # fmt: skip


def test_bought_frames_are_marked_by_more_than_colour(finished):
    _, found = finished
    marked = found.having("li", **{"class": "bought"})
    assert len(marked) == 16 + 3 + 3 == found.text.count("✓ bought") - 3  # three legends name the mark
    assert text_of_key_marks(found) == 3 + 3  # of the first clip of each later round
    alts = [attrs["alt"] or "" for attrs in found.having("img")]
    assert len(alts) == 6 * 8
    assert sum(", bought" in alt for alt in alts) == 22
    assert sum(alt.endswith("key frame") for alt in alts) == 6
    assert "Front camera, frame 5, not bought" in alts


def text_of_key_marks(found: Page) -> int:
    return sum(tag == "b" for tag, _ in found.elements)


def test_drawings_and_plots_have_text_alternatives(finished):
    _, found = finished
    images = [attrs for attrs in found.having("svg") if attrs.get("aria-hidden") != "true"]
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for attrs in images)
    sketches = found.having("svg", **{"class": "bev"})
    labels = [sketch["aria-label"] or "" for sketch in sketches]
    assert len(labels) == 6
    assert sum("4 boxes, 4 map elements" in label for label in labels) == 4  # two clips have no bought frame
    assert ["planned and driven path" in label for label in labels] == [False] * 2 + [True] * 4  # no model at first
    assert len(found.having("svg", **{"class": "trace"})) == 4
    assert len(found.having("svg", **{"class": "plot"})) == 2 + 3 + 2 + 1  # curves, losses, histograms, kinds


def test_hostile_strings_are_text(make_run):
    attack = "</style><script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>"
    run, data = make_run(2, description=attack, failed_reason=attack)
    text, found = written(run, data, notice=attack)
    assert len(found.having("script")) == 2
    assert all((attrs["src"] or "").startswith("data:") for attrs in found.having("img"))
    assert not any(name.startswith("on") for _, attrs in found.elements for name in attrs)
    assert found.text.count(attack) >= 6  # notice, four descriptions, one reason
    assert attack in [row["description"] for row in all_clips(text)]


@pytest.mark.parametrize(("n_rounds", "last_stage"), [(0, "evaluation"), (1, "selection"), (2, "selection")])
def test_an_unfinished_run_has_a_page_that_says_so(make_run, n_rounds, last_stage):
    _, found = written(*make_run(n_rounds, last_stage))
    assert f"{n_rounds} of 3 rounds have a published selection" in found.text


def test_a_folder_with_nothing_published_has_a_page(tmp_path):
    from sead_ray.storage import Store

    _, found = written(Store(str(tmp_path / "run")), str(tmp_path))
    assert "No round has a published selection yet" in found.text


def test_missing_labels_and_missing_images_leave_named_gaps(make_run):
    run, data_root = make_run(1, with_labels=False)
    _, found = written(run, f"{data_root}-elsewhere")
    assert found.having("img") == []
    assert found.text.count("no image") == 16
    assert found.text.count("labels not delivered") == 2


def test_delivered_labels_are_drawn_where_there_is_no_oracle(make_run):
    run, data_root = make_run(1)
    run.write_bytes("labels_in/first.parquet", run.read_bytes("labels/labels.parquet"))
    run.remove("labels")
    _, found = written(run, data_root)
    assert "labels not delivered" not in found.text
    assert "4 boxes" in (found.having("svg", **{"class": "bev"})[0]["aria-label"] or "")


def test_the_same_run_gives_the_same_bytes(make_run):
    run, data_root = make_run(2)
    assert written(run, data_root)[0] == written(run, data_root)[0]


def test_the_number_of_clips_is_capped_and_the_page_says_it(make_run, monkeypatch):
    run, data_root = make_run(2)
    monkeypatch.setattr(cards, "CLIPS_PER_ROUND", 1)
    _, found = written(run, data_root)
    assert len(found.having("article")) == 2
    assert found.text.count("1 of 2 are shown") == 2


def test_clips_beyond_the_byte_budget_are_left_out(make_run, monkeypatch):
    run, data_root = make_run(2)
    full = len(written(run, data_root)[0])
    monkeypatch.setattr(page, "CARD_BYTES", 40_000)
    text, found = written(run, data_root)
    assert "of 2 are shown" in found.text
    assert len(text) < full
    assert 0 < len(found.having("article")) < 4


def test_long_clips_show_their_bought_frames_first(make_run):
    _, found = written(*make_run(1, n_frames=30))
    assert len(found.having("img")) == 2 * cards.FRAMES_PER_CLIP
    assert "20 of 30 frames are shown" in found.text
