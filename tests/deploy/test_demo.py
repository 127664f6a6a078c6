"""`make demo` with fewer contacts and persons, and its output in the README."""

import re

import demo
from processes import ROOT
from sam_stack import MIRROR_TEMPLATE, WATCHDOG_TEMPLATE, dev_build

README = (ROOT / "README.md").read_text()


def test_table_equals_superoffice_after_every_outage(aws, template, tmp_path_factory, capsys):
    mirror, watchdog = (
        dev_build(path, tmp_path_factory.mktemp("demo")) for path in (MIRROR_TEMPLATE, WATCHDOG_TEMPLATE)
    )
    demo.demonstrate(aws, demo.Templates(template, mirror, watchdog), 60, demo.ENTITIES)
    assert cells(capsys.readouterr().out) == expected(60, demo.ENTITIES)


def test_readme_shows_the_output():
    assert cells(README) == expected(demo.COUNT, demo.ENTITIES[:1])


def expected(count: int, entities: tuple[str, ...]) -> list[list[str]]:
    """Returns the rows of the demonstration's table."""
    times = count // 60

    def row(title: str, differ: int, rest: int, removed: int) -> list[str]:
        counts = ", ".join(f"{count - removed * times} {entity}s" for entity in entities)
        during, after = (f"{number * len(entities)} differ" if number else "" for number in (differ, rest))
        return [title, during, after, f"table = SuperOffice: {counts}"]

    return [
        ["", "during the outage", "after the watchdog", "after an audit"],
        row("empty table", count, 0, 0),
        # Each outage creates a record, and deletes three in different ways. The last one deletes a record.
        row("queue removed", 6 * times, times, 2),
        row("permission lost", 6 * times, times, 4),
        row("endpoint unreachable", 6 * times, times, 6),
        row("single events lost", 2 * times, times, 7),
    ]


def cells(text: str) -> list[list[str]]:
    """Returns the cells of the demonstration's table in a text."""
    (table,) = re.findall(r"^ +during the outage.*?(?=\n\n|\n```)", text, re.M | re.S)
    row = re.compile(f"(.{{{demo.WIDTH}}})" * 3 + "(.*)")
    return [[cell.strip() for cell in row.fullmatch(line).groups()] for line in table.splitlines()]
