"""What it is to have no marks."""


class NoMarks:
    """A store that keeps nothing, so that no unit knows what an earlier one wrote."""

    def load(self, request):
        return {}

    def save(self, request, response, marks):
        pass
