"""The report's file: self-contained, whole, and all text in it is text."""

import html
import io
import json
import re
import sys

import pytest

from metrics_lake import InvalidInputError, LakeNotFoundError, MetricsLake, glob

HOSTILE = "</script><script>alert(1)</script>&'\"<!--"


@pytest.fixture
def lake(tmp_path):
    with MetricsLake(tmp_path / "lake") as made:
        for at in range(3):
            made.log_params(f"digits/{at}", {"lr": 10.0**-at})
            made.log_series(f"digits/{at}", "loss", [3.0, 2.0, 1.0 + at])
        yield made


def page_of(lake, **options):
    target = io.StringIO()
    lake.report(target, **options)
    return target.getvalue()


def specs_of(page):
    found = re.findall(r'<script type="application/json" id="spec-\d+">(.*?)</script>', page, re.DOTALL)
    return [json.loads(each) for each in found]


def test_one_copy_of_the_scripts_serves_all_charts(lake):
    page = page_of(lake)
    assert len(specs_of(page)) == 4
    assert page.count("<script>") == 2
    assert len(page) < 1_100_000
    markup = re.sub(r"(<script[^>]*>).*?</script>", r"\1", page, flags=re.DOTALL)
    assert re.findall(r'\b(?:src|href)="(?!#)', markup) == []
    assert not re.search(r"@import|url\(", markup)


def test_it_says_what_it_shows(lake):
    page = page_of(lake, title="Digits", resources=glob("digits/*"))
    assert "<title>Digits</title>" in page
    assert html.escape(lake.url) in page
    assert f"<code>{lake.snapshot()}</code>" in page
    for section in ("Leaderboard: loss", "Curves", "Parameters", "Runs", "Table health"):
        assert f">{section}</h2>" in page
    titles = [spec["title"]["text"] for spec in specs_of(page)]
    assert titles == ["loss", "loss", "loss", "Parameters and loss"]
    assert re.search(r"<td>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC</td>", page)


def test_what_is_asked_for_is_shown_and_no_more(lake):
    lake.log_series("digits/0", "acc", [0.1, 0.2])
    page = page_of(lake, metrics=["acc", glob("l*")], mode="min", best="acc")
    assert [spec["title"]["text"] for spec in specs_of(page)] == ["acc", "acc", "loss"]
    assert "Greatest first" not in page
    assert "digits/1" not in page_of(lake, resources="digits/0")
    assert "No resource of this lake" in page_of(lake, metrics="nothing")
    with pytest.raises(InvalidInputError, match="'max' or 'min'"):
        lake.report(io.StringIO(), mode="best")


def test_ids_are_text_everywhere(lake):
    lake.log_series(HOSTILE, HOSTILE, [1.0, 2.0])
    lake.log_params(HOSTILE, {HOSTILE: HOSTILE})
    page = page_of(lake, title=HOSTILE)
    assert "<script>alert" not in page
    assert html.escape(HOSTILE) in page
    assert page.count("</script>") == page.count("<script")
    assert HOSTILE in json.dumps(specs_of(page), ensure_ascii=False).replace('\\"', '"')


def test_a_past_snapshot_is_reported_as_it_was(lake):
    lake.flush()
    before = lake.snapshot()
    lake.log_series("digits/9", "loss", [1.0, 2.0])
    assert "digits/9" in page_of(lake)
    assert "digits/9" not in page_of(lake, at=before)


def test_places_are_paths_and_open_files(lake, tmp_path):
    target = tmp_path / "report.html"
    target.write_text("old")
    size = lake.report(target)
    assert target.stat().st_size == size
    binary = io.BytesIO()
    assert lake.report(binary) == len(binary.getvalue())
    assert [each.name for each in tmp_path.iterdir() if "report" in each.name] == ["report.html"]
    with pytest.raises(InvalidInputError, match="no folder"):
        lake.report(tmp_path / "nowhere" / "report.html")
    with pytest.raises(InvalidInputError, match="fsspec"):
        lake.report("s3://bucket/report.html")
    with pytest.raises(InvalidInputError, match="path or an open file"):
        lake.report(7)


def test_missing_packages_and_lakes_are_told(lake, tmp_path, monkeypatch):
    with pytest.raises(LakeNotFoundError):
        MetricsLake(tmp_path / "none", read_only=True).report(tmp_path / "report.html")
    for package in ("vl_convert", "altair"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            with pytest.raises(InvalidInputError, match=r'pip install "metrics-lake\[report\]"'):
                lake.report(tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_predictions_have_a_section(lake):
    scored = {"p": [0.9, 0.8, 0.3, 0.2], "churned": [True, False, True, False]}
    lake.log_prediction_metrics("churn/1", scored, score="p", truth="churned")
    page = page_of(lake)
    assert ">Predictions</h2>" in page
    assert "1 prediction job." in page
    assert "ROC curve" in {spec["title"]["text"] for spec in specs_of(page)}
    assert ">Predictions</h2>" not in page_of(lake, resources=glob("digits/*"))
