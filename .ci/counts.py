"""Print what pytest counted in each environment, and the sum, from the reports it left."""

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

TROUBLES = {"failures": "failed", "errors": "errors", "skipped": "skipped"}


def count(report: Path) -> Counter[str]:
    suites = ElementTree.parse(report).getroot().findall("testsuite")
    counts = Counter[str]()
    for suite in suites:
        troubles = {word: int(suite.get(name, 0)) for name, word in TROUBLES.items()}
        counts.update(passed=int(suite.get("tests", 0)) - sum(troubles.values()), **troubles)
    return counts


def in_words(counts: Counter[str]) -> str:
    words = ["passed", *TROUBLES.values()]
    return ", ".join(f"{counts[word]} {word}" for word in words if counts[word] or word == "passed")


def main(folder: Path) -> int:
    reports = {path.stem: count(path) for path in sorted(folder.glob("*.xml"))}
    for environment, counts in reports.items():
        print(f"{environment}: {in_words(counts)}")
    total = sum(reports.values(), Counter[str]())
    print(f"===== {in_words(total)}, environments: {len(reports)} =====")
    return 0 if total["passed"] else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
