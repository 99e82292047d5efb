"""The pages in a real browser."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from pathlib import Path

import made_results
import pytest
from headless import DESK, OVERLAPS, PHONE, Scheme, grave, logged, one, script, show
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from samevoice.parity.result import write
from samevoice.reports.index import write_index
from samevoice.reports.write import write_all, write_reports

PAGES = ("green", "red", "loosened", "beside", "index")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name -> address of every kind of page."""
    folder = tmp_path_factory.mktemp("pages")
    red, green = made_results.red(), made_results.green()
    tensors = {
        "counts": {"used": 40, "dropped": 1},
        "derived": [["a.bias_ih + a.bias_hh", "sum", "a.bias"]],
        "dropped": [{"why": "counts training steps", "names": ["bn.num_batches_tracked"]}],
        "assumed": ["sample rate"],
    }
    results = {
        "green": made_results.green(details={**green.details, "tensors": tensors}),
        "red": red,
        "loosened": made_results.loosened(),
        "segmentation": made_results.red("segmentation", "lstm.0.forward"),
        "hostile": made_results.hostile(),
    }
    for name, result in results.items():
        write(folder / name / "result.json", result)
        write_reports(folder / name / "result.json", formats=("html",))
    write_all({"float32": green, "broken": red}, folder / "beside", ("html",))
    write_all({"many": made_results.many(5000)}, folder / "many", ("html",))
    (folder / "cut").mkdir()
    (folder / "cut" / "result.json").write_text("{")
    write_index(folder)
    names = (*results, "beside", "many")
    found = {name: (folder / name / "report.html").as_uri() for name in names}
    return found | {"index": (folder / "index.html").as_uri()}


def shown_taps(browser: webdriver.Chrome) -> list[list[str]]:
    """The cells of the table of taps, row by row, without branches and what is hidden."""
    return script(  # type: ignore[no-any-return]
        browser,
        "return [...document.querySelectorAll('[data-taps] tbody tr:not(.b)')]"
        ".filter(row => row.offsetParent !== null || row.getClientRects().length)"
        ".map(row => [...row.cells].map(cell => cell.textContent.trim()))",
    )


# At first sight -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [DESK, PHONE])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("green", "This port may be trusted."),
        ("red", "This port may not be trusted."),
        ("loosened", "its limits were loosened"),
        ("beside", "1 of 2 ports may be trusted."),
        ("index", "could not be read."),
    ],
)
def test_the_verdict_is_seen_without_scrolling(
    browser: webdriver.Chrome, pages: dict[str, str], name: str, words: str, size: tuple[int, int]
) -> None:
    show(browser, pages[name], size)
    heading = one(browser, "h1")
    assert heading.is_displayed()
    assert words in heading.text
    place = heading.rect
    assert place["y"] >= 0
    assert place["y"] + place["height"] <= size[1] / 2
    if name in ("green", "red", "loosened") and size == DESK:
        figures = one(browser, ".figures").rect
        assert figures["y"] + figures["height"] <= size[1]


def test_the_page_says_where_and_likely_why(
    browser: webdriver.Chrome, pages: dict[str, str]
) -> None:
    show(browser, pages["red"])
    why = one(browser, "#why").text
    assert "has the right values in other places" in why
    assert "Next: Look for a reshape" in why
    assert "resnet.pool" in one(browser, ".verdict").text


# Sorting, filtering, folding ----------------------------------------------------------------------


def test_taps_are_filtered_by_words_and_by_failure(
    browser: webdriver.Chrome, pages: dict[str, str]
) -> None:
    show(browser, pages["red"])
    taps = len(made_results.red().taps)
    assert len(shown_taps(browser)) == taps
    search = one(browser, "[data-taps] input[type=search]")
    search.send_keys("SEG_1 forced")
    found = shown_taps(browser)
    assert len(found) == 2
    assert all(row[0] == "resnet.seg_1" and row[1] == "forced" for row in found)
    assert f"2 of {taps} taps" in one(browser, "[data-count]").text
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(Keys.DELETE)
    assert len(shown_taps(browser)) == taps
    one(browser, "[data-taps] input[type=checkbox]").click()
    failed = shown_taps(browser)
    assert len(failed) == len(made_results.red().verdict.failed)
    assert all("failed" in row[-1] for row in failed)


def test_columns_sort_by_number_and_back_with_the_keyboard_alone(
    browser: webdriver.Chrome, pages: dict[str, str]
) -> None:
    show(browser, pages["green"])
    before = shown_taps(browser)
    heads = browser.find_elements(By.CSS_SELECTOR, "[data-taps] thead th")
    column = next(k for k, head in enumerate(heads) if "noise ratio" in head.text)
    button = heads[column].find_element(By.TAG_NAME, "button")
    button.send_keys(Keys.ENTER)
    assert heads[column].get_attribute("aria-sort") == "descending"
    falling = [float(row[column]) for row in shown_taps(browser)]
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) > 3
    button.send_keys(Keys.SPACE)
    assert heads[column].get_attribute("aria-sort") == "ascending"
    assert [float(row[column]) for row in shown_taps(browser)] == sorted(falling)
    button.send_keys(Keys.ENTER)
    assert heads[column].get_attribute("aria-sort") is None
    assert shown_taps(browser) == before


def test_failed_taps_come_first_however_it_is_sorted(
    browser: webdriver.Chrome, pages: dict[str, str]
) -> None:
    show(browser, pages["red"])
    for head in browser.find_elements(By.CSS_SELECTOR, "[data-taps] thead button"):
        head.click()
        failed = ["failed" in row[-1] for row in shown_taps(browser)]
        assert failed == sorted(failed, reverse=True)
        assert any(failed)


def test_modules_fold_and_unfold(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    show(browser, pages["red"])
    fold, unfold = (one(browser, f"[data-taps] button[data-fold={word}]") for word in ("yes", "no"))
    fold.click()
    folded = len(shown_taps(browser))
    assert folded < len(made_results.red().taps)
    branch = one(browser, "[data-taps] tr.b button")
    assert branch.get_attribute("aria-expanded") == "false"
    branch.click()
    assert branch.get_attribute("aria-expanded") == "true"
    assert len(shown_taps(browser)) > folded
    unfold.click()
    assert len(shown_taps(browser)) == len(made_results.red().taps)


def test_five_thousand_taps_open_and_can_be_searched(
    browser: webdriver.Chrome, pages: dict[str, str]
) -> None:
    show(browser, pages["many"])
    assert "5,000 taps" in str(one(browser, "[data-taps] caption").get_attribute("textContent"))
    one(browser, "[data-taps] input[type=checkbox]").click()
    assert len(shown_taps(browser)) == len(made_results.many(5000).verdict.failed)
    one(browser, "[data-taps] input[type=search]").send_keys("blocks.2.")
    assert len(shown_taps(browser)) == 1


# Alone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PAGES, "segmentation", "hostile"])
def test_nothing_is_requested_and_nothing_goes_wrong(
    browser: webdriver.Chrome, pages: dict[str, str], name: str
) -> None:
    show(browser, pages[name])
    script(browser, "window.scrollTo(0, document.body.scrollHeight)")
    asked = {
        event["params"]["request"]["url"]
        for entry in logged(browser, "performance")
        if (event := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    }
    assert {url for url in asked if not url.startswith("data:")} == {pages[name]}
    assert logged(browser, "browser") == []


def test_a_hostile_page_runs_nothing_of_its_own(
    browser: webdriver.Chrome, pages: dict[str, str]
) -> None:
    show(browser, pages["hostile"])
    scripts = script(browser, "return document.scripts.length")
    images = script(browser, "return document.querySelectorAll('img, iframe, object, form').length")
    assert (scripts, images) == (1, 0)
    assert "<script>alert(1)</script>" in one(browser, "main").text
    found = script(
        browser,
        "return [...document.querySelectorAll('*')].flatMap(x => x.getAttributeNames())"
        ".filter(name => name.startsWith('on'))",
    )
    assert found == []


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_complete_without_scripts(
    browser: webdriver.Chrome, pages: dict[str, str], name: str
) -> None:
    show(browser, pages[name])
    told = script(browser, "return document.querySelectorAll('main section').length")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, pages[name])
        assert one(browser, "h1").is_displayed()
        sections = browser.find_elements(By.CSS_SELECTOR, "main section")
        assert len(sections) == told
        assert all(section.is_displayed() for section in sections)
        if name in ("green", "red"):
            rows = browser.find_elements(By.CSS_SELECTOR, "[data-taps] tbody tr:not(.b)")
            assert len(rows) == len(made_results.red().taps)
            assert all(row.is_displayed() for row in rows[::8])
            # What would do nothing is not offered.
            tools = one(browser, "[data-taps] .tools")
            assert not tools.is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


# For everybody ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "scheme"),
    [*((name, "light") for name in (*PAGES, "hostile")), ("segmentation", "dark")],
)
def test_on_a_phone_nothing_overlaps_and_nothing_sticks_out(
    browser: webdriver.Chrome, pages: dict[str, str], name: str, scheme: Scheme
) -> None:
    show(browser, pages[name], PHONE, scheme)
    assert script(browser, "return document.documentElement.scrollWidth") <= PHONE[0]
    assert script(browser, OVERLAPS) == []


def test_dark_and_light_differ_and_paper_is_light(
    browser: webdriver.Chrome, pages: dict[str, str]
) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    grounds = []
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for scheme in schemes:
        show(browser, pages["red"], DESK, scheme)
        grounds.append(script(browser, ground))
    assert grounds[0] == "rgb(255, 255, 255)"
    assert all(int(x) < 60 for x in grounds[1].strip("rgb()").split(","))
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    media = {"media": "print", "features": features}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    assert script(browser, ground) == grounds[0]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_prints(browser: webdriver.Chrome, pages: dict[str, str], name: str) -> None:
    show(browser, pages[name])
    paper = base64.b64decode(browser.print_page())
    assert paper.startswith(b"%PDF-")
    assert paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page/") >= 1
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert one(browser, "h1").is_displayed()
    for tools in browser.find_elements(By.CSS_SELECTOR, "[data-taps] .tools"):
        assert not tools.is_displayed()


def test_what_is_folded_is_printed(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    show(browser, pages["green"])
    one(browser, "[data-fold=yes]").click()
    taps, sentence = len(made_results.green().taps), "#tensors details p"
    assert len(shown_taps(browser)) < taps
    seen = "return document.querySelector(arguments[0]).checkVisibility({contentVisibilityAuto: 1})"
    assert not script(browser, seen, sentence)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert len(shown_taps(browser)) == taps
    assert script(browser, seen, sentence)


def test_words_in_the_table_of_inputs_are_not_broken(
    browser: webdriver.Chrome, pages: dict[str, str]
) -> None:
    show(browser, pages["green"], PHONE)
    heads = browser.find_elements(By.CSS_SELECTOR, ".inputs tbody th")
    assert {head.text for head in heads} == {"sample", "silence"}
    assert all(head.rect["height"] < 40 for head in heads)


# A whole page takes axe seconds, so that what pages share is looked at in one of them; each verdict
# has its own colours, twice.
VERDICT = ".verdict"


@pytest.mark.parametrize(
    ("name", "scheme", "part"),
    [
        ("red", "light", None),
        ("red", "dark", VERDICT),
        ("red", "dark", "#why"),
        ("segmentation", "light", "#task"),
        ("beside", "dark", None),
        ("index", "light", None),
        ("index", "dark", None),
        ("green", "light", VERDICT),
        ("green", "dark", VERDICT),
        ("loosened", "light", VERDICT),
        ("loosened", "dark", VERDICT),
        ("green", "light", "#tensors"),
        ("loosened", "dark", "#limits"),
    ],
)
def test_axe_finds_nothing_serious(
    browser: webdriver.Chrome, pages: dict[str, str], name: str, scheme: Scheme, part: str | None
) -> None:
    show(browser, pages[name], DESK, scheme)
    for fold in browser.find_elements(By.CSS_SELECTOR, "details:not([open]) > summary"):
        fold.click()
    assert grave(browser, part) == []


@pytest.mark.parametrize("name", PAGES)
def test_headings_tables_and_pictures_have_names(
    browser: webdriver.Chrome, pages: dict[str, str], name: str
) -> None:
    show(browser, pages[name])
    levels = script(
        browser, "return [...document.querySelectorAll('h1,h2,h3,h4')].map(x => +x.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    bare = "return [...document.querySelectorAll('%s')].filter(x => !(%s)).length"
    assert script(browser, bare % ("table", "x.caption && x.tHead")) == 0
    assert script(browser, bare % ("thead th", "x.scope")) == 0
    picture = "x.querySelector('title') || x.getAttribute('aria-label')"
    assert script(browser, bare % ("svg[role=img]", picture)) == 0
    assert script(browser, "return document.documentElement.lang") == "en"


def test_the_first_tab_skips_to_the_verdict(
    browser: webdriver.Chrome, pages: dict[str, str]
) -> None:
    show(browser, pages["green"])
    one(browser, "body").send_keys(Keys.TAB)
    focused = browser.switch_to.active_element
    assert focused.text == "Skip to the verdict"
    assert focused.rect["x"] >= 0


def test_the_links_of_the_index_lead_to_pages(
    browser: webdriver.Chrome, pages: dict[str, str]
) -> None:
    show(browser, pages["index"])
    links = browser.find_elements(By.CSS_SELECTOR, "main th a")
    found = {str(link.get_attribute("href")) for link in links}
    assert {pages["green"], pages["red"], pages["hostile"]} <= found
    links[0].click()
    assert "This port" in one(browser, "h1").text


def test_links_on_a_page_lead_somewhere(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    for name in ("green", "red", "segmentation", "beside"):
        show(browser, pages[name])
        lost = script(
            browser,
            "return [...document.querySelectorAll('a[href^=\"#\"]')].filter(x =>"
            " !document.getElementById(decodeURIComponent(x.hash.slice(1)))"
            " || !x.textContent.trim()).map(x => x.outerHTML)",
        )
        assert lost == [], name
        twice = script(
            browser,
            "const ids = [...document.querySelectorAll('[id]')].map(x => x.id);"
            " return ids.filter((id, k) => ids.indexOf(id) !== k)",
        )
        assert twice == [], name


def test_the_pages_are_one_file_each(pages: dict[str, str]) -> None:
    for address in pages.values():
        folder = Path(address.removeprefix("file://")).parent
        assert not (folder / "plots").exists()
