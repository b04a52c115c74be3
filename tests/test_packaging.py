"""The wheel holds everything, needs nothing of the development tools, and says only what settings.ini says."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from email import message_from_string
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from packaging.specifiers import SpecifierSet

import labeldistill

DEVELOPMENT = [
    *("nbdev", "fastcore", "execnb", "ghapi", "pytest", "_pytest", "hypothesis", "ruff", "build"),
    *(
        "papermill",
        "IPython",
        "ipykernel",
        "jupyter",
        "jupyter_core",
        "jupyter_client",
        "notebook",
        "nbformat",
        "nbconvert",
        "nbclient",
        "ipywidgets",
        "huggingface_hub",
        "pyarrow",
        "datasets",
    ),
]
BLOCK = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {DEVELOPMENT}:
            raise ModuleNotFoundError(f"{{name}} is a development package")

sys.meta_path.insert(0, Blocked())
"""


def modules(folder):
    return sorted(path.relative_to(folder).with_suffix("").as_posix().replace("/", ".") for path in folder.rglob("*.py"))


@pytest.fixture(scope="module")
def settings(repository):
    parser = ConfigParser(delimiters=["="])
    parser.read(repository / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory):
    "A wheel built without network from a copy of the sources, with one asset more; unpacked."
    sources, built, unpacked = (tmp_path_factory.mktemp(name) for name in ("sources", "built", "unpacked"))
    for name in ("setup.py", "settings.ini", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, sources)
    shutil.copytree(repository / "labeldistill", sources / "labeldistill", ignore=shutil.ignore_patterns("__pycache__"))
    (sources / "labeldistill" / "assets").mkdir(exist_ok=True)
    (sources / "labeldistill" / "assets" / "probe.csv").write_text("one,asset\n")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", built]
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", *options, sources], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(unpacked)
    return sources, unpacked


@pytest.fixture(scope="module")
def metadata(wheel):
    (file,) = wheel[1].glob("*.dist-info/METADATA")
    return message_from_string(file.read_text(encoding="utf-8"))


def test_the_wheel_holds_every_module_and_asset_and_nothing_else(wheel):
    packages = [folder / "labeldistill" for folder in wheel]
    sources, unpacked = ({file.relative_to(top).as_posix() for file in top.rglob("*") if file.is_file()} for top in packages)
    assert unpacked == sources and {"data/known.py", "assets/probe.csv"} <= unpacked
    top = {path.name for path in wheel[1].iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"labeldistill"}


def test_types_and_label_sets_are_in_the_wheel(wheel):
    package = wheel[1] / "labeldistill"
    labels, cards = (sorted(file.stem for file in package.glob(f"assets/sets/*.{kind}")) for kind in ("safetensors", "json"))
    assert (package / "py.typed").is_file() and labels == cards and "letters-digits-10-lenet" in labels


def test_links_of_the_long_description_are_absolute(metadata, repository, settings):
    links = re.findall(r"\]\(([^)]+)\)", metadata.get_payload())
    own = re.findall(r"\]\((?!\w+:|#)([^)]+)\)", (repository / "README.md").read_text(encoding="utf-8"))
    assert len(own) > 40 and all(link.startswith(("https://", "http://", "#")) for link in links)
    for kind, file in (("raw", "nbs/images/letters-teach-digits.png"), ("blob", "CONTRIBUTING.md")):
        assert f"{settings['git_url']}/{kind}/{settings['branch']}/{file}" in links


@pytest.mark.slow
def test_the_source_distribution_installs_and_verifies_its_claims(repository, environment, tmp_path):
    sources, installed = tmp_path / "sources", tmp_path / "installed"
    subprocess.run(["git", "clone", "--quiet", repository, sources], check=True)
    build = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, sources]
    subprocess.run(build, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", installed]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, archive], check=True)
    command = [sys.executable, "-m", "labeldistill", "verify", "letters-digits-10-lenet", "--quick", "--quiet"]
    here = environment | {"PYTHONPATH": str(installed)}
    done = subprocess.run(command, capture_output=True, text=True, env=here, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^letters-digits-10-lenet .*: holds\n1 of 1 claims hold$", done.stdout.strip())


def run_from_wheel(wheel, code, environment, tmp_path):
    environment = environment | {"PYTHONPATH": str(wheel[1])}
    done = subprocess.run([sys.executable, "-c", BLOCK + code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_of_the_wheel_imports_without_development_packages(wheel, environment, tmp_path):
    others = "__init__", *(f"reproduce.{name}" for name in ("kernel", "plan", "render"))  # these need Jupyter, an extra
    names = [f"labeldistill.{name}" for name in modules(wheel[1] / "labeldistill") if name not in others]
    code = f"""
from importlib import import_module
for name in {names}:
    print(import_module(name).__file__)
import labeldistill
for name in labeldistill.__all__:
    getattr(labeldistill, name)
found = {{name.partition(".")[0] for name in sys.modules}} & set({DEVELOPMENT})
assert not found, found
"""
    files = run_from_wheel(wheel, code, environment, tmp_path).splitlines()
    assert len(files) == len(names) and all(file.startswith(str(wheel[1])) for file in files)


def test_the_command_works_from_the_wheel_without_development_packages(wheel, environment, tmp_path):
    code = """
from labeldistill.cli import main
main(["datasets"])
try:
    main(["--help"])
except SystemExit as stop:
    assert not stop.code
"""
    said = run_from_wheel(wheel, code, environment, tmp_path)
    assert "Usage: labeldistill" in said and "digits" in said


def test_name_version_and_python_are_those_of_settings(metadata, settings, wheel):
    assert (metadata["Name"], metadata["Version"]) == (settings["lib_name"], settings["version"])
    assert metadata["Requires-Python"] == f">={settings['min_python']}" and metadata["Summary"] == settings["description"]
    (entry_points,) = wheel[1].glob("*.dist-info/entry_points.txt")
    assert re.search(r"^labeldistill ?= ?labeldistill\.cli:main$", entry_points.read_text(), re.MULTILINE)


def requirement(text):
    "Name and bounds, in a form that can be compared."
    name, bounds = re.fullmatch(r"([A-Za-z0-9._-]+)\s*\(?([^;)]*)\)?", text.strip()).groups()
    return name.lower(), frozenset(bounds.replace(" ", "").split(",")) - {""}


def test_requirements_are_those_of_settings(metadata, settings):
    found = {"": set(), "reproduce": set(), "cluster": set(), "hub": set(), "dev": set(), "docs": set()}
    for line in metadata.get_all("Requires-Dist"):
        text, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        found[extra[1] if extra else ""].add(requirement(text))
    wanted = {key: {requirement(text) for text in settings[key].split()} for key in settings if key.endswith("requirements")}
    assert found[""] == wanted["requirements"]
    assert found["reproduce"] == wanted["reproduce_requirements"]
    assert found["cluster"] == wanted["reproduce_requirements"] | wanted["cluster_requirements"]
    assert found["hub"] == wanted["hub_requirements"]
    assert found["dev"] == wanted["reproduce_requirements"] | wanted["hub_requirements"] | wanted["dev_requirements"]
    assert found["docs"] == wanted["reproduce_requirements"] | wanted["docs_requirements"]


def test_version_and_requirements_stand_nowhere_else(repository, settings):
    assert "[project]" not in (repository / "pyproject.toml").read_text()
    package = (path.relative_to(repository) for path in (repository / "labeldistill").rglob("*.py"))
    places = ["setup.py", "pyproject.toml", "Makefile", *package]
    for place in places:
        text = (repository / place).read_text(encoding="utf-8")
        assert not re.search(rf"\b{re.escape(settings['version'])}\b", text), place
        assert not re.search(r"\b(torch|numpy|typer|safetensors)\s*[>=]=", text), place
    assert labeldistill.__version__ == settings["version"]


def imported(file):
    "The top-level packages that a module imports anywhere."
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def test_pinned_versions_can_be_had_for_every_python_that_is_supported(repository):
    pinned = [line.split("==")[0] for line in (repository / "requirements.lock").read_text().splitlines() if "==" in line]
    assert len(pinned) > 100
    for name in pinned:
        try:
            needed = SpecifierSet(distribution(name).metadata["Requires-Python"] or "")
        except PackageNotFoundError:  # of another extra
            continue
        assert all(python in needed for python in ("3.11.0", "3.12.0", "3.13.0")), f"{name}: Python {needed}"


def test_only_required_packages_are_imported(repository, settings):
    required = {requirement(text)[0] for text in settings["requirements"].split()}
    required = {{"scikit-learn": "sklearn"}.get(name, name) for name in required} | {"PIL"}  # torchvision requires Pillow
    # of `reproduce`, and what these require
    extra = {"papermill", "ipykernel", "nbclient", "nbconvert", "jinja2", "nbformat", "IPython", "rocrate", "snakemake"}
    for file in (repository / "labeldistill").rglob("*.py"):
        allowed = required | (extra if file.parent.name == "reproduce" else set())
        assert set(imported(file)) - set(sys.stdlib_module_names) - {"labeldistill"} <= allowed, file.name


def test_the_package_costs_nothing_until_a_name_is_used(environment, tmp_path):
    code = "import sys, labeldistill; dir(labeldistill); labeldistill.__version__; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path).returncode == 0


def test_public_names_are_listed_and_unknown_ones_are_attribute_errors():
    public = {"distill", "evaluate", "true_labels", "show", "datasets", "load", "LeNet", "DistilledDataset"}
    assert public <= set(dir(labeldistill))
    assert all(getattr(labeldistill, name) for name in labeldistill.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        labeldistill.nonsense  # noqa: B018
