"""Builds the site into _site: `make docs`."""

import shutil
import subprocess
import sys

import api
import check
import conf
import stage
import twins
from sphinx.cmd.build import build_main

BUILD = stage.ROOT / "build" / "docs"
SITE = BUILD / "site"  # moved to its place when nothing is wrong with it


def main() -> int:
    "Build and check. 1: a warning, a dead link or an unresolved reference."
    source = BUILD / "source"
    pages, files = stage.stage(source)
    api.write(source / "api", pages)
    shutil.rmtree(SITE, ignore_errors=True)
    options = ["-q", "-W", "-n", "--keep-going", "-j", "auto", "-c", str(stage.ROOT / "docs"), "-d", str(BUILD / "doctrees")]
    if build_main([*options, str(source), str(SITE)]):
        return 1
    for name in files:
        stage.copy(source / name, SITE / name)
    twins.write(source, SITE, pages, f"# labeldistill\n\n> {conf.settings['description']}.")
    index = ["pagefind", "--site", str(SITE), "--exclude-selectors", "a.headerlink", "--silent"]
    subprocess.run([sys.executable, "-m", *index], check=True)
    faults = check.faults(SITE, stage.ROOT)
    print("\n".join([*faults, f"{len(list(SITE.rglob('*.html')))} pages, {len(faults)} faults"]))
    if not faults:
        shutil.rmtree(stage.ROOT / "_site", ignore_errors=True)
        SITE.rename(stage.ROOT / "_site")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
