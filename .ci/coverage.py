"""Ask for every branch of what the environments that ran could run at all."""

import subprocess
import sys
from pathlib import Path

# Only Django 6.0 and newer have Tasks; a machine with Python 3.11 alone has neither.
SINCE_DJANGO_6 = "*/integrations/tasks.py"


def main(reports: Path) -> int:
    omitted = []
    if not [*reports.glob("*-django6*.xml")]:
        print(f"No environment had Django 6.0 or newer: {SINCE_DJANGO_6} is left out.")
        omitted = ["--omit", SINCE_DJANGO_6]
    return subprocess.run([sys.executable, "-m", "coverage", "report", *omitted]).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
