"""The page of `textlens report`: what it shows, data never becomes markup, clear errors, and its work in a browser."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from textlens.cli import app
from textlens.errors import InputError
from textlens.evals.report.gallery import Mean, scan
from textlens.evals.report.page import embedded_json, figure, signed, write_report
from textlens.evals.report.score_charts import spread
from textlens.evals.row_roles import Role
from typer.testing import CliRunner

from ..browsers import chromium
from .eval_folder import jpeg, results, row, sample, standard_rows, standard_samples, write

ATTACKS = ("</script><script>window.hit=1</script>", "<img src=x onerror=window.hit=1>", "<!--<script>", "{{ 7*7 }}")


class Markup(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.data = ""
        self._inside = ""
        self.feed(page)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""
        if tag == "script" and dict(attrs).get("id") == "data":
            self._inside = "data"

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "data":
            self.data += data
        elif not self._inside:
            self.words.append(data)


def page_of(folder: Path, max_samples: int = 2000) -> Markup:
    path = write_report(folder, max_samples)
    assert path == folder / "report.html"
    return Markup(path.read_text(encoding="utf-8"))


def test_the_headline_says_what_was_run(tmp_path):
    text = page_of(write(tmp_path)).text
    for told in (
        "okvqa",
        "gemma · 0, 4 shots · 2026-11-26 01:00 UTC",
        "Seed 7",
        "Commit abc123",
        "torch 2.11",
        "1,000",
    ):
        assert told in text


def test_a_cell_has_score_error_interval_and_difference(tmp_path):
    text = page_of(write(tmp_path, results([row(parse_failures=3)]))).text
    assert "23.7 ± 1.2 21.3 to 26.1 +13.0 ± 1.4 3 not parsed 12" in text


def test_what_is_not_known_is_said(tmp_path):
    unknown = row(stderr=None, above_floor_stderr=None)
    page = page_of(write(tmp_path, results([unknown], commit=None, seconds=None)))
    assert "23.7 ± not known interval not known +13.0 ± not known" in page.text
    assert "Commit not recorded" in page.text
    assert not [tag for tag, attributes in page.tags if attributes.get("class") == "whisker"]
    assert "Blank context" in page.text
    assert page.text.count("not run") == 2  # no blank context, no ground-truth text


def test_floors_and_ceilings_are_marked_and_constants_span_all_shots(tmp_path):
    constant = row(context="constant: yes", role="floor", encoder=None, num_fewshot=None, score=4.2)
    page = page_of(write(tmp_path, results([*standard_rows(), constant])))
    assert "none floor" in page.text
    assert "truth ceiling" in page.text
    assert "constant: yes floor no shots 4.2" in page.text
    assert [attributes["colspan"] for tag, attributes in page.tags if "colspan" in attributes] == ["2"]


def test_rows_of_every_role_are_shown(tmp_path):
    rows = [row(context=f"of {role}", role=role, encoder=None) for role in get_args(Role)]
    text = page_of(write(tmp_path, results(rows), [])).text
    assert all(f"of {role}" in text for role in get_args(Role))


def test_the_overview_names_the_best_and_how_many_it_was_chosen_of(tmp_path):
    text = page_of(write(tmp_path)).text
    assert "14.0 ± 1.2 34.0 ± 1.2 tags, 4 shots of 4 44.0 ± 1.2" in text


def test_several_shots_are_a_curve_and_one_is_a_line_a_context(tmp_path):
    page = page_of(write(tmp_path / "several"))
    assert len([tag for tag, attributes in page.tags if attributes.get("class") == "series"]) == 4
    assert "over the number of shots" in page.text
    rows = [one for one in standard_rows() if one["num_fewshot"] == 4]
    page = page_of(write(tmp_path / "one", results(rows)))
    assert not [tag for tag, attributes in page.tags if attributes.get("class") == "series"]
    assert len([tag for tag, attributes in page.tags if attributes.get("class") == "mark"]) == 4


def test_a_run_without_shots_and_language_model(tmp_path):
    rows = [row(num_fewshot=None, llm=None, above_floor=None), row(metric="cider", num_fewshot=None, score=81.0)]
    text = page_of(write(tmp_path, results(rows, settings={}), [sample(num_fewshot=None)])).text
    assert "No language model" in text
    assert "Context Score n coca 23.7" in text
    assert "cider" in text


def test_bars_of_types_are_means_of_all_samples(tmp_path):
    page = page_of(write(tmp_path), max_samples=0)
    assert "By question type" in page.text
    assert "animals, coca: 100.0 (n=6)" in page.text
    assert "sports, coca: 0.0 (n=6)" in page.text
    assert "Shots 0 4" in page.text


def test_no_bars_where_samples_have_no_type(tmp_path):
    text = page_of(write(tmp_path, samples=[{**one, "type": None} for one in standard_samples()])).text
    assert "By question type" not in text


def test_mean_and_its_error():
    mean = Mean()
    mean.add(1.0)
    assert mean.stderr is None
    for score in (0.0, 0.0, 1.0):
        mean.add(score)
    assert mean.score == 50.0
    assert mean.stderr == pytest.approx(100 * (1 / 3) ** 0.5 / 2)


def test_samples_are_embedded_with_their_thumbnails(tmp_path):
    page = page_of(write(tmp_path))
    data = json.loads(page.data)
    assert len(data["documents"]) == 12
    first = data["documents"][0]
    assert first["query"] == "What is in picture 0?"
    assert len(first["answers"]) == 8
    assert first["answers"][0]["prompt"] == "Q: What is it?\nA:"
    assert first["answers"][0]["score"] == 1.0
    assert data["images"] == {"images/a0.jpg": "data:image/jpeg;base64," + base64.b64encode(jpeg()).decode()}
    assert "96 of 96 samples are in this page" in page.text


def test_at_most_max_samples_are_embedded_in_whole_evenly_spaced_documents(tmp_path):
    page = page_of(write(tmp_path), max_samples=39)  # 8 samples a document
    documents = json.loads(page.data)["documents"]
    assert [document["id"] for document in documents] == ["0", "3", "6", "9"]
    assert "32 of 96 samples are in this page" in page.text
    assert "At most 39 samples are embedded" in page.text
    assert json.loads(page_of(tmp_path, max_samples=7).data)["documents"] == []


def test_max_samples_are_shared_by_the_tasks(tmp_path):
    rows = [*standard_rows(), row(task="vqav2")]
    write(tmp_path, results(rows))
    lines = [sample(task="vqav2", id=str(i)) for i in range(100)]
    (tmp_path / "samples" / "vqav2.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tasks = [document["task"] for document in json.loads(page_of(tmp_path, max_samples=40).data)["documents"]]
    assert (tasks.count("okvqa"), tasks.count("vqav2")) == (2, 20)


def test_data_cannot_become_markup(tmp_path):
    attack = " ".join(ATTACKS)
    hostile = dict.fromkeys(("context", "id", "image", "type", "query", "answer", "prompt", "completion"), attack)
    hostile |= {"references": [attack], "words": [{"label": attack, "text": attack}], "note": attack, "error": attack}
    about = {"description": attack, "metrics": {"vqa_accuracy": attack}, "notes": [attack]}
    rows = [row(context=attack, encoder=attack, llm=attack, num_fewshot=shots) for shots in (0, 4)]
    settings = {"llm": attack, "encoders": [attack], "seed": attack}
    versions = {"torch": attack}
    summary = results(rows, tasks={"okvqa": about}, settings=settings, versions=versions, commit=attack, date=attack)
    page = page_of(write(tmp_path, summary, [sample(**hostile)]))
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in page.text
    assert json.loads(page.data)["documents"][0]["query"] == attack


def test_json_in_a_script_element_has_no_character_of_markup():
    assert embedded_json({"a": "</script>&"}) == '{"a": "\\u003c/script\\u003e\\u0026"}'


def test_the_page_names_no_other_address(tmp_path):
    write_report(write(tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"https?://|url\(|@import|innerHTML|insertAdjacentHTML|document\.write", page)
    assert "default-src 'none'" in page


@pytest.mark.parametrize("name", ["../secret.jpg", "images/../../secret.jpg", "images/link.jpg", "images/text.jpg"])
def test_only_thumbnails_inside_the_folder_are_read(tmp_path, name):
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    folder = write(tmp_path / "run", samples=[sample(thumbnail=name)])
    (folder / "images" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "images" / "text.jpg").write_text("no image")
    assert json.loads(page_of(folder).data)["images"] == {}


def test_without_samples_the_page_says_so(tmp_path):
    shutil.rmtree(write(tmp_path) / "samples")
    page = page_of(tmp_path)
    assert "No samples of okvqa" in page.text
    assert "there is no gallery" in page.text
    assert not [tag for tag, _ in page.tags if tag == "form"]


def test_samples_that_do_not_agree_with_the_results_are_told(tmp_path):
    text = page_of(write(tmp_path, samples=standard_samples()[1:])).text
    assert "okvqa.jsonl: 11 samples of none, 0 shots; results.json counts 12" in text


def test_a_last_line_that_was_never_finished_is_passed_over(tmp_path):
    write(tmp_path)
    path = tmp_path / "samples" / "okvqa.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    assert "95 of 95 samples" in page_of(tmp_path).text


def test_half_a_surrogate_pair_becomes_a_question_mark(tmp_path):
    page = page_of(write(tmp_path, samples=[sample(completion="a\ud800b")]))
    assert json.loads(page.data)["documents"][0]["answers"][0]["completion"] == "a?b"


BAD_RESULTS = {
    "is not JSON": "{",
    "NaN is no JSON number": '{"format": 1, "seconds": NaN}',
    "is of format None": "[]",
    "is of format 2": json.dumps(results([row()], format=2)),
    r"results.0.score is 'high'": json.dumps(results([row(score="high")])),
    r"results.0.role is 'roof'": json.dumps(results([row(role="roof")])),
    "has 2 rows of task": json.dumps(results([row(), row()])),
    "holds no results": json.dumps(results([])),
}


@pytest.mark.parametrize("told", BAD_RESULTS)
def test_bad_results_are_clear_errors(tmp_path, told):
    (tmp_path / "results.json").write_text(BAD_RESULTS[told])
    with pytest.raises(InputError, match=f"{told}.*expected"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_folder_without_results_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"has no results\.json; expected a folder.*run that first"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2 is not JSON"),
        (json.dumps(sample(task="vqav2")), "line 2 is of task 'vqav2'; expected 'okvqa'"),
        (json.dumps(sample(scores=3)), "line 2: scores is '3'"),
    ],
)
def test_bad_samples_are_clear_errors(tmp_path, line, told):
    write(tmp_path)
    (tmp_path / "samples" / "okvqa.jsonl").write_text(f"{json.dumps(sample())}\n{line}\n{json.dumps(sample())}\n")
    with pytest.raises(InputError, match=told):
        write_report(tmp_path)


def test_samples_of_other_tasks_are_left_out(tmp_path):
    from textlens.evals.harness.saved_results import read_results

    (write(tmp_path) / "samples" / "old.jsonl").write_text("{}\n")
    assert [samples.task for samples in scan(tmp_path, read_results(tmp_path))] == ["okvqa"]


def test_labels_are_moved_apart_within_the_plot():
    assert spread([10, 12, 100], 15, 0, 100) == [10, 25, 100]
    assert spread([98, 99], 15, 0, 100) == [85, 100]


def test_figures():
    assert [figure(-1.25), figure(-0.01), signed(2.0), signed(-2.0), signed(-0.01)] == [
        "−1.2",
        "0.0",
        "+2.0",
        "−2.0",
        "+0.0",
    ]


def test_the_command_prints_the_path(tmp_path):
    done = CliRunner().invoke(app, ["report", str(write(tmp_path)), "--max-samples", "8"])
    assert done.exit_code == 0
    assert done.stdout.strip() == str(tmp_path / "report.html")
    assert "8 of 96 samples" in (tmp_path / "report.html").read_text()


# --- In a browser ---


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium"), "1200,900") as started:
        yield started


def texts(browser, selector: str) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(found => found.textContent)", selector
    )


def select(browser, name: str, label: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("name", name)).select_by_visible_text(label)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_filters_search_and_pages_work_in_a_browser(browser, tmp_path, theme):
    from selenium.webdriver.common.keys import Keys

    lines = [*standard_samples(), sample(id="hostile", query=ATTACKS[0], image=ATTACKS[1])]
    write_report(write(tmp_path, samples=lines))
    feature = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    browser.get((tmp_path / "report.html").as_uri())

    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", background)[0]) > 128) == (theme == "light")
    assert len(texts(browser, ".card")) == 10
    assert texts(browser, "#count") == ["13 documents, 97 samples"]
    assert browser.execute_script("return document.querySelector('.card img').naturalWidth") == 32
    assert browser.execute_script("return document.querySelector('svg').getBoundingClientRect().height") > 100

    browser.find_element("css selector", "#pages [data-step='1']").click()
    assert len(texts(browser, ".card")) == 3
    assert texts(browser, ".card h3")[-1] == ATTACKS[0]  # as text
    assert browser.execute_script("return window.hit === undefined")

    select(browser, "context", "coca")
    select(browser, "num_fewshot", "0 shots")
    assert texts(browser, "#count") == ["12 documents, 12 samples"]
    assert set(texts(browser, ".card h4")) == {"coca"}
    select(browser, "verdict", "Wrong")
    assert texts(browser, "#count") == ["6 documents, 6 samples"]
    assert set(texts(browser, ".answers .answer")) == {"cat"}
    select(browser, "type", "animals")
    assert texts(browser, "#count") == ["No sample matches."]
    browser.find_element("css selector", "#filters [type=reset]").click()
    browser.find_element("name", "text").send_keys("PICTURE 11?")
    assert texts(browser, ".card h3") == ["What is in picture 11?"]

    assert not browser.find_element("css selector", ".answers pre").is_displayed()
    browser.execute_script("document.querySelector('.answers summary').focus()")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.find_element("css selector", ".answers pre").text == "Q: What is it?\nA:"
    assert texts(browser, "figure[data-value]:not([hidden]) figcaption")[0].count("4 shots") == 1
    assert browser.get_log("browser") == []  # no error, no request that the policy refused
