"""The documentation: what is laid out for Sphinx, and the built site in a real browser."""

import importlib
import json
import re
import shutil
import sys
import threading
from dataclasses import fields
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from nbformat import v4

import labeldistill as ld

REPOSITORY = Path(__file__).parents[1]
SITE = REPOSITORY / "_site"
NBS = REPOSITORY / "nbs"


@pytest.fixture(scope="module")
def docs():
    "The scripts of the folder docs."
    names = ("stage", "api", "check", "twins")
    sys.path.insert(0, str(REPOSITORY / "docs"))
    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(str(REPOSITORY / "docs"))
    for name in names:
        del sys.modules[name]


def test_every_notebook_has_its_page_once(docs):
    paths = list(docs["stage"].notebooks())
    assert len(paths) == len(set(paths)) and set(paths) == set(NBS.rglob("*.ipynb")) and len(paths) > 60


@pytest.mark.parametrize(
    ("link", "there"),
    [
        ("../core/01_config.ipynb", "../core/01_config.ipynb"),
        ("../results/head_to_head.ipynb#Label-learning-rates", "../results/head_to_head.ipynb#label-learning-rates"),
        ("#Which-images,-which-expert", "#which-images-which-expert"),
        ("../methods", "../methods/index.md"),
        ("../../README.md", "../index.ipynb"),
        ("../../papermill_runs/verdicts.csv", "../papermill_runs/verdicts.csv"),
        ("https://arxiv.org/abs/2006.08572", "https://arxiv.org/abs/2006.08572"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(docs, link, there):
    assert docs["stage"].relink(f"see [this]({link})", NBS / "tutorials" / "quickstart.ipynb", set()) == f"see [this]({there})"


@pytest.mark.parametrize("link", ["../core/01_confog.ipynb", "missing.json", "../../../elsewhere.md"])
def test_a_dead_link_ends_the_build(docs, link):
    with pytest.raises(docs["stage"].DeadLink, match=re.escape(f"nbs/tutorials/quickstart.ipynb: {link}")):
        docs["stage"].relink(f"[this]({link})", NBS / "tutorials" / "quickstart.ipynb", set())


def test_cells_are_shown_without_directives_and_hidden_ones_not_at_all(docs):
    show = docs["stage"].show
    assert show(v4.new_code_cell("#| hide\nimport torch")) is None and show(v4.new_code_cell("#| default_exp utils")) is None
    exported = show(v4.new_code_cell("#| export\ndef f(): ..."))
    assert (exported.source, exported.metadata.tags) == ("def f(): ...", ["exported"])
    assert show(v4.new_code_cell("#| eval: false\nf()")).source == "f()"
    assert show(v4.new_markdown_cell("# Title")).source == "# Title"


def test_check_finds_dead_links_and_what_is_fetched_from_elsewhere(docs, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "a.html").write_text(
        '<h1 id="top"><a href="b.html#end">b</a><a href="https://arxiv.org">c</a><img src="data:image/png,"></h1>'
    )
    (site / "b.html").write_text(
        '<p id="end"><a href="a.html#bottom">a</a><a href="c.html">c</a><script src="https://cdn.org/x.js"></script></p>'
    )
    (site / "b.md").write_text("[a](a.html) `[no](link)` [c](c.md)")
    (tmp_path / "README.md").write_text("[site](site) [gone](gone.md)")
    assert docs["check"].faults(site, tmp_path) == [
        "b.html: dead link a.html#bottom",
        "b.html: dead link c.html",
        "b.html: fetches https://cdn.org/x.js",
        "README.md: dead link gone.md",
        "b.md: dead link c.md",
    ]


def test_links_of_the_repositorys_own_pages_are_alive(docs):
    pages = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "papermill_runs").glob("*.md")]
    assert (
        len(pages) >= 4
        and {page.name: docs["check"].dead_markdown(page) for page in pages if docs["check"].dead_markdown(page)} == {}
    )


@pytest.mark.parametrize("name", ["Ridge", "Unrolled", "Task", "Schedule", "Compute"])
def test_the_page_of_a_settings_class_tells_each_fields_type_default_and_help(docs, name):
    page = docs["api"].public_page(name, [])
    for field in fields(getattr(ld, name)):
        (row,) = re.findall(rf"^\| `{field.name}` \| `.+` \| .*$", page, re.MULTILINE)
        assert field.metadata["help"].replace("|", r"\|") in row
    assert "## Example" in page and "## Defined in" in page


def test_the_page_of_a_function_tells_parameters_and_what_is_raised(docs):
    page = docs["api"].public_page("distill", [])
    assert "| `checkpoint` | `str \\| Path \\| None` | `None` |  | folder for checkpoints |" in page
    assert "**Raises** `InputError`." in page and ") -> DistilledDataset" in page
    assert "| `lam` | `float` | `1.0` |  | regularization lambda of the ridge regression; above 0 |" in docs["api"].public_page(
        "Ridge", []
    )
    assert "| `steps` | `int` |  | steps | training steps of each |" in docs["api"].public_page("Evaluation", [])
    assert all("$$" in docs["api"].public_page(method, []) for method in ("Ridge", "SecondOrder", "Unrolled", "Expert"))


# The site, as built by `make docs`


@pytest.fixture(scope="module")
def site():
    if not (SITE / "index.html").is_file():
        pytest.skip("there is no _site: `make docs` builds it")
    return SITE


class Article(HTMLParser):
    "Pictures and tables of a page's article; thumbnails of cards are not counted."

    def __init__(self, text):
        super().__init__()
        self.images = self.tables = 0
        self.feed(text[text.index("<article") : text.index("</article>")])

    def handle_starttag(self, tag, attrs):
        self.images += tag == "img" and "sd-card-img-top" not in (dict(attrs).get("class") or "")
        self.tables += tag == "table"


def markdown_counts(text):
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return len(re.findall(r"!\[", text)), len(re.findall(r"^ *\|?[ :|-]*---[ :|-]*\|?[ :-]*$", text, re.MULTILINE))


def counts(notebook):
    "Pictures and tables that the page of a notebook is to have."
    images = tables = 0
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        found = [markdown_counts(source)] if cell["cell_type"] == "markdown" else []
        if not source.startswith(("#| hide", "#| default_exp")):
            for data in (output.get("data", {}) for output in cell.get("outputs", [])):
                html = "".join(data.get("text/html", ""))
                found += [(html.count("<img"), html.count("<table"))] if html else [(1, 0)] if "image/png" in data else []
                if not html and "image/png" not in data:
                    found.append(markdown_counts("".join(data.get("text/markdown", ""))))
        images, tables = images + sum(i for i, _ in found), tables + sum(t for _, t in found)
    return images, tables


@pytest.mark.slow
def test_pages_have_the_pictures_and_tables_of_their_notebooks(site):
    paths = sorted(NBS.rglob("*.ipynb"))
    wanted = {path: counts(path) for path in paths}
    articles = {path: Article((site / path.relative_to(NBS)).with_suffix(".html").read_text(encoding="utf-8")) for path in paths}
    assert {path.name: (article.images, article.tables) for path, article in articles.items()} == {
        path.name: c for path, c in wanted.items()
    }
    assert sum(i for i, _ in wanted.values()) > 80 and sum(t for _, t in wanted.values()) > 80


@pytest.mark.slow
def test_every_page_has_a_markdown_twin_and_every_name_and_module_a_page(site):
    pages = {page.relative_to(site).as_posix() for page in site.rglob("*.html")} - {
        "search.html",
        "genindex.html",
        "py-modindex.html",
    }
    assert len(pages) >= 40 and all((site / page).with_suffix(".md").is_file() for page in pages)
    modules = {
        path.relative_to(REPOSITORY / "labeldistill").with_suffix("") for path in (REPOSITORY / "labeldistill").rglob("[!_]*.py")
    }
    names = {f"api/modules/{module.as_posix().replace('/', '.')}.html" for module in modules}
    assert names | {f"api/{name}.html" for name in ld.PUBLIC} <= pages
    listed = re.findall(r"\]\((.+?)\)", (site / "llms.txt").read_text(encoding="utf-8"))
    assert {page.removesuffix(".html") + ".md" for page in pages} == set(listed)


@pytest.fixture(scope="module")
def server(site):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


class Browser:
    "Chromium without a window, with a list of what it asked for and what its console said."

    def __init__(self, driver, address):
        self.driver, self.address = driver, address

    def open(self, page):
        self.driver.get(self.address + page)
        return self

    def wait(self, script):
        "The value of a script, as soon as there is one."
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 30).until(lambda driver: driver.execute_script(f"return {script}"))

    def run(self, script):
        return self.driver.execute_script(f"return {script}")

    def requests(self):
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]

    def errors(self):
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


@pytest.fixture(scope="module")
def browser(server):
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, chromedriver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("there is no chromium with its chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield Browser(driver, server)
    driver.quit()


PAGES = [
    *("index.html", "tutorials/quickstart.html", "tutorials/faq.html", "training/00_ridge.html", "methods/index.html"),
    *("results/within_data_set.html", "api/index.html", "api/Ridge.html", "search.html?q=ridge"),
]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_without_errors_and_asks_nobody_else(browser, server, page):
    browser.open(page).wait("document.readyState == 'complete'")
    assert browser.run("document.querySelector('h1').innerText").strip()
    asked = [url for url in browser.requests() if not url.startswith(("data:", "blob:", "chrome", "about:"))]
    assert asked and [url for url in asked if not url.startswith(server)] == []
    assert browser.errors() == []


@pytest.mark.slow
def test_pictures_are_there_and_not_empty(browser):
    browser.open("index.html").wait("document.readyState == 'complete'")
    sizes = browser.run("[...document.querySelectorAll('article img')].map(image => [image.naturalWidth, image.naturalHeight])")
    assert sizes and all(width > 100 and height > 50 for width, height in sizes)


@pytest.mark.slow
def test_the_search_finds_ridge_and_goes_there(browser):
    browser.open("index.html").wait("document.readyState == 'complete'")
    box = browser.driver.find_element("css selector", ".sidebar-search")
    box.send_keys("ridge")
    box.submit()
    browser.wait("document.querySelectorAll('#search .pagefind-ui__result-link').length > 2")
    found = browser.run("[...document.querySelectorAll('#search .pagefind-ui__result-link')].map(link => link.innerText)")
    assert "Ridge" in found and "labeldistill.Ridge" in found
    browser.run(
        "[...document.querySelectorAll('#search .pagefind-ui__result-link')].find(link => link.innerText == 'Ridge').click()"
    )
    assert (
        browser.wait("document.querySelector('h1')?.innerText.startsWith('Ridge') && location.pathname")
        == "/methods/10_ridge.html"
    )


@pytest.mark.slow
def test_maths_is_rendered(browser):
    browser.open("training/00_ridge.html")
    assert browser.wait("document.querySelectorAll('article mjx-container svg, article mjx-container mjx-math').length") > 5
    assert "$$" not in browser.run("document.querySelector('article').innerText")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_no_page_is_wider_than_a_phone(browser, page):
    browser.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        browser.open(page).wait("document.readyState == 'complete'")
        assert browser.run("document.documentElement.scrollWidth") <= 390
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
