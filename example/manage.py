"""Django's commands for the message board: `python -m example.manage` and a command."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example.board_site.settings")
    execute_from_command_line(sys.argv)
