"""An exam as JSON for machines and as Markdown for people."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .bars import Bar, Section, Table, shown

VERDICTS = {True: "yes", False: "**no**", None: "not measured"}


@dataclass(frozen=True, kw_only=True)
class Report:
    about: Mapping[str, Any]
    sections: Sequence[Section]

    def with_section(self, section: Section, seconds: Mapping[str, float]) -> "Report":
        took = {**self.about.get("seconds", {}), section.name: dict(seconds)}
        return Report(
            about=dict(self.about) | {"seconds": took}, sections=[*self.sections, section]
        )

    @property
    def bars(self) -> list[Bar]:
        return [bar for section in self.sections for bar in section.bars]

    @property
    def passed(self) -> bool:
        """Whether nothing that was measured misses its limit."""
        return not any(bar.passed is False for bar in self.bars)

    def write(self, folder: Path) -> None:
        values = {
            "about": dict(self.about),
            "sections": [
                asdict(section) | {"bars": [asdict(b) | {"passed": b.passed} for b in section.bars]}
                for section in self.sections
            ],
        }
        (folder / "exam.json").write_text(json.dumps(plain(values), indent=1), encoding="utf-8")
        (folder / "exam.md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        about = self.about
        taken = sum(bar.passed is True for bar in self.bars)
        names = ", ".join(file["name"] for file in about["files"]["model"])
        lines = [
            f"# Exam of {names}",
            "",
            f"{about['date']}, {about['machine']['processor']}, {about['machine']['threads']} "
            f"threads. {taken} of {len(self.bars)} bars taken.",
            "",
        ]
        bars = [bar_row(section, bar) for section in self.sections for bar in section.bars]
        lines += rows_of(Table(("", "what", "value", "limit", "taken"), bars))
        for section in self.sections:
            lines += [f"## {section.name}", ""]
            for note in section.notes:
                lines += [note, ""]
            for table in section.tables:
                lines += rows_of(table)
        return "\n".join(lines)


def bar_row(section: Section, bar: Bar) -> tuple[str, ...]:
    value = bar.reason if bar.value is None else shown(bar.value) + bar.unit
    return section.name, bar.claim, value, bar.limit, VERDICTS[bar.passed]


def rows_of(table: Table) -> list[str]:
    """A table in Markdown."""
    lines = [table.title, ""] if table.title else []
    lines += [line(table.head), line(["---"] * len(table.head))]
    lines += [line([shown(cell) for cell in row]) for row in table.rows]
    return [*lines, ""]


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def plain(value: Any) -> Any:
    """What JSON knows: numpy's numbers as numbers, what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
