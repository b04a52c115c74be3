"""Packaging: everything that is said about the distribution is read from settings.ini."""
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
lib = cfg["lib_name"]
extras = "reproduce", "cluster", "hub", "dev", "docs"
reproduce, cluster, hub, dev, docs = (cfg[f"{extra}_requirements"].split() for extra in extras)

# The README's links lead into the repository; a package index shows it elsewhere.
there = f"{cfg['git_url']}/raw/{cfg['branch']}", f"{cfg['git_url']}/blob/{cfg['branch']}"
readme = (here / "README.md").read_text(encoding="utf-8")
own = re.compile(r"(!?)(\[[^]]*\])\((?!\w+:|#)([^)]+)\)")
readme = own.sub(lambda link: f"{link[1]}{link[2]}({there[not link[1]]}/{link[3]})", readme)

setup(
    name=lib,
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme,
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    project_urls={
        "Documentation": cfg["doc_host"] + cfg["doc_baseurl"],
        "Source": cfg["git_url"],
        "Issues": cfg["git_url"] + "/issues",
        "Changelog": f"{cfg['git_url']}/blob/{cfg['branch']}/CHANGELOG.md",
    },
    license="MIT",
    keywords=cfg["keywords"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        f"Intended Audience :: {cfg['audience']}",
        *(f"Programming Language :: Python :: {minor}" for minor in ("3.11", "3.12", "3.13")),
        "Operating System :: POSIX :: Linux",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=[lib, f"{lib}.*"]),
    package_data={lib: ["py.typed", "assets/*", "assets/*/*"]},
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require={
        **{"reproduce": reproduce, "cluster": reproduce + cluster, "hub": hub},
        **{"dev": reproduce + hub + dev, "docs": reproduce + docs},
    },
    entry_points={"console_scripts": cfg["console_scripts"].split()},
)
