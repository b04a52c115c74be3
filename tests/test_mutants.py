"""Every fault of the list can still be planted, and the tests that should catch it are there."""

import re

from mutants import FAULTS, ROOT, plant


def test_faults_are_many_and_each_has_a_name_of_its_own():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 32


def test_every_fault_can_be_planted_and_changes_the_package(tmp_path):
    for fault in FAULTS:
        (tmp_path / fault.file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / fault.file).write_text((ROOT / "labeldistill" / fault.file).read_text(encoding="utf-8"), encoding="utf-8")
        plant(fault, tmp_path)
        compile((tmp_path / fault.file).read_text(encoding="utf-8"), fault.file, "exec")
        assert fault.old != fault.new and fault.why, fault.name


def test_the_tests_that_should_catch_a_fault_are_there():
    for fault in FAULTS:
        for test in fault.tests.split():
            file, _, name = test.partition("::")
            text = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(" if name else "^def test_", text, re.MULTILINE), test
