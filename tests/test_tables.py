"""Rows of text."""

from django_replicas.tables import aligned


def test_columns_are_as_wide_as_their_widest_cell():
    """Cells stand below each other, and no line ends with spaces."""
    assert aligned(("a", "bc"), [("long", "x"), ("y", "")]) == ["a     bc", "long  x", "y"]


def test_columns_that_say_nothing_are_left_out():
    """A column is worth its place when a row fills it."""
    assert aligned(("a", "b", "c"), [("1", "", "2")]) == ["a  c", "1  2"]


def test_styles_do_not_count():
    """What a style adds does not move the columns, and empty cells have none."""
    lines = aligned(("aaa", "b"), [("1", "2"), ("", "3")], lambda cell: f"<{cell}>")
    assert lines == ["aaa  b", "<1  >  <2>", "     <3>"]
