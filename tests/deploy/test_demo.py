"""`make demo` with fewer contacts, and its output in the README."""

import re

import demo
from processes import ROOT
from sam_stack import MIRROR_TEMPLATE, WATCHDOG_TEMPLATE, dev_build

README = (ROOT / "README.md").read_text()


def test_table_equals_superoffice_after_every_outage(aws, template, tmp_path_factory, capsys):
    mirror, watchdog = (
        dev_build(path, tmp_path_factory.mktemp("demo")) for path in (MIRROR_TEMPLATE, WATCHDOG_TEMPLATE)
    )
    demo.demonstrate(aws, demo.Templates(template, mirror, watchdog), contacts=60)
    # Each outage creates a contact, and deletes three in different ways. The last one deletes a contact.
    expected = [
        ["", "during the outage", "after the watchdog", "after an audit"],
        ["empty table", "60 differ", "", "table = SuperOffice: 60 contacts"],
        ["queue removed", "6 differ", "1 differ", "table = SuperOffice: 58 contacts"],
        ["permission lost", "6 differ", "1 differ", "table = SuperOffice: 56 contacts"],
        ["endpoint unreachable", "6 differ", "1 differ", "table = SuperOffice: 54 contacts"],
        ["single events lost", "2 differ", "1 differ", "table = SuperOffice: 53 contacts"],
    ]
    assert cells(capsys.readouterr().out) == expected
    # The README shows the output for five times as many contacts.
    assert cells(README) == [[re.sub(r"\d+", lambda n: f"{5 * int(n[0])}", cell) for cell in row] for row in expected]


def cells(text: str) -> list[list[str]]:
    """Returns the cells of the demonstration's table in a text."""
    (table,) = re.findall(r"^ +during the outage.*?(?=\n\n|\n```)", text, re.M | re.S)
    row = re.compile(f"(.{{{demo.WIDTH}}})" * 3 + "(.*)")
    return [[cell.strip() for cell in row.fullmatch(line).groups()] for line in table.splitlines()]
