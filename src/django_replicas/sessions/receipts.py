"""Which versions the database has, as far as this process knows: what it need not ask for again."""


class Receipts:
    """The versions that the database was seen to have, of the *most* sessions noted last.

    In two halves, of which the older is forgotten whole, so that there is no lock: whatever threads
    do at one moment, at worst something is asked for once more.
    """

    def __init__(self, most: int = 8192) -> None:
        self._half = most // 2
        self._recent: dict[str, int] = {}
        self._older: dict[str, int] = {}

    def note(self, key: str, version: int) -> None:
        if len(self._recent) >= self._half:
            self._recent, self._older = {}, self._recent
        self._recent[key] = version

    def known(self, key: str) -> int:
        """Return the version noted last, 0 where none is known. The database may have a newer."""
        return self._recent.get(key) or self._older.get(key, 0)


receipts = Receipts()
