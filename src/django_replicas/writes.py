"""Is this SQL a write, and on which tables: a pure reading of the text.

It errs towards "a write": what is not surely a read counts as one, because reading the leader once
too often costs less than showing a user stale data.
"""

import re
from collections.abc import Callable, Iterator
from enum import Enum
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any, NamedTuple


class Kind(Enum):
    READ = "read"
    WRITE = "write"
    SCHEMA = "schema change"


class Statement(NamedTuple):
    """What a piece of SQL does; ``tables`` are those it writes, None where that is not certain."""

    kind: Kind
    tables: frozenset[str] | None = frozenset()


# Projects send the same few hundred statements again and again; bulk ones may be megabytes long.
LONGEST_REMEMBERED = 4000

READ = Statement(Kind.READ)
SCHEMA = Statement(Kind.SCHEMA)
UNKNOWN_WRITE = Statement(Kind.WRITE, None)


def classify(sql: str, vendor: str) -> Statement:
    """Tell reads, writes and schema changes apart.

    *vendor* is Django's name for the database. Several statements together are a write, unless they
    only change the schema.

    >>> classify('UPDATE "shop_order" SET "paid" = %s', "postgresql").tables
    frozenset({'shop_order'})
    """
    if is_plain_select(sql):
        return READ
    return _remembered(sql, vendor) if len(sql) <= LONGEST_REMEMBERED else _classify(sql, vendor)


def _classify(sql: str, vendor: str) -> Statement:
    try:
        if ";" in sql:
            return _together([_one(statement) for statement in _split(_tokens(sql, vendor))])
        return _one(_tokens(sql, vendor))
    except _Unreadable:
        return UNKNOWN_WRITE


_remembered = lru_cache(maxsize=512)(_classify)


def text_of(sql: Any, connection: Any) -> str | None:
    """Return the text of what a cursor was given, None where it has none.

    psycopg's composed queries know theirs when they are shown the driver's connection.
    """
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    if isinstance(sql, str):
        return sql
    try:
        text = sql.as_string(connection.connection)
    except Exception:  # A foreign object's own code: whatever fails, it has no text.
        return None
    return text if isinstance(text, str) else None


def is_plain_select(sql: str) -> bool:
    """Tell, in half a microsecond, a ``SELECT`` that is surely a read from what must be read."""
    return (
        sql[:7].upper() == "SELECT "
        and ";" not in sql
        and "/*" not in sql
        and "into" not in sql.lower()
    )


def _together(statements: list[Statement]) -> Statement:
    if len(statements) < 2:
        return statements[0] if statements else READ
    kinds = {statement.kind for statement in statements}
    if Kind.SCHEMA in kinds:
        return UNKNOWN_WRITE if Kind.WRITE in kinds else SCHEMA
    return Statement(Kind.WRITE, _union([statement.tables for statement in statements]))


def _union(tables: list[frozenset[str] | None]) -> frozenset[str] | None:
    known = [each for each in tables if each is not None]
    union = frozenset[str]().union(*known)
    return union if union and len(known) == len(tables) else None


# Words and signs


class _Unreadable(Exception):
    """A quote or a comment is left open, or it depends on the server's version what it executes."""


class Token(NamedTuple):
    """A word in lower case, a quoted name, one of the signs ``( ) ; , .``, or a ``LITERAL``."""

    text: str
    quoted: bool = False


END = Token("")
LITERAL = Token("'")

# To databases, every character beyond ASCII is one that names are made of.
_LETTER = r"[A-Za-z_\x80-\U0010ffff]"
_PART = r"[\w$\x80-\U0010ffff]"


def _pattern(
    strings: str, names: str, comments: str, opening: str, word: str = rf"{_LETTER}{_PART}*+"
) -> re.Pattern[str]:
    return re.compile(
        rf"""
        (?P<skipped>   \s++ | {comments} )
        | (?P<comment> /\* )
        | (?P<literal> {strings} | %s | %\(\w+\)s )
        | (?P<name>    {names} )
        | (?P<word>    {word} )
        | (?P<sign>    [();,.] )
        | (?P<open>    {opening} )
        | (?P<other>   . )
        """,
        re.VERBOSE | re.DOTALL | re.ASCII,
    )


_STRING = r"'(?:[^']|'')*+'"
_ESCAPED = r"'(?:[^'\\]|\\.|'')*+'"
_NAME = r'"(?:[^"]|"")*+"'
_BACKTICKED = r"`(?:[^`]|``)*+`"
_COMMENT = r"--[^\n]*+"
_TAG = rf"(?:{_LETTER}[\w\x80-\U0010ffff]*+)?"
_PATTERNS = {
    "postgresql": _pattern(
        rf"[eE]{_ESCAPED}(?:\s*+{_ESCAPED})*+ | {_STRING} | \$(?P<tag>{_TAG})\$.*?\$(?P=tag)\$",
        _NAME,
        r"--[^\n\r]*+",
        rf"""['"] | \${_TAG}\$""",
    ),
    "mysql": _pattern(
        rf"""{_ESCAPED} | "(?:[^"\\]|\\.|"")*+" """,
        _BACKTICKED,
        r"--(?=\s)[^\n]*+ | \#[^\n]*+",
        r"""['"`]""",
        word=rf"{_PART}++",
    ),
    "sqlite": _pattern(_STRING, rf"{_NAME} | {_BACKTICKED} | \[[^\]]*+\]", _COMMENT, r"""['"`[]"""),
}
_OTHER_VENDOR = _pattern(_STRING, rf"{_NAME} | \[(?:[^\]]|\]\])*+\]", _COMMENT, r"""['"`[]""")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_SOMETIMES_EXECUTED = ("/*!", "/*M!")


def _tokens(sql: str, vendor: str) -> Iterator[Token]:
    pattern = _PATTERNS.get(vendor, _OTHER_VENDOR)
    place = 0
    while match := pattern.match(sql, place):
        place = match.end()
        kind = match.lastgroup
        if kind == "word":
            yield Token(match[0].lower())
        elif kind == "sign":
            yield Token(match[0])
        elif kind == "name":
            yield Token(_unquoted(match[0]), quoted=True)
        elif kind == "literal":
            yield LITERAL
        elif kind == "comment":
            place = _end_of_comment(sql, match.start(), vendor)
        elif kind == "open":
            raise _Unreadable


def _unquoted(name: str) -> str:
    closing = name[-1]
    return name[1:-1].replace(closing * 2, closing)


def _end_of_comment(sql: str, start: int, vendor: str) -> int:
    if vendor == "mysql" and sql.startswith(_SOMETIMES_EXECUTED, start):
        raise _Unreadable
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, start + 2):
        if edge[0] == "*/":
            depth -= 1
        elif vendor == "postgresql":
            depth += 1
        if depth == 0:
            return edge.end()
    raise _Unreadable


def _split(tokens: Iterator[Token]) -> Iterator[Iterator[Token]]:
    statement: list[Token] = []
    for token in chain(tokens, [Token(";")]):
        if token != Token(";"):
            statement.append(token)
        elif statement:
            yield iter(statement)
            statement = []


# What each verb means


def _one(tokens: Iterator[Token]) -> Statement:
    for token in tokens:
        if token.text != "(":
            meaning = None if token.quoted else VERBS.get(token.text)
            return UNKNOWN_WRITE if meaning is None else meaning(tokens)
    return READ


Meaning = Callable[[Iterator[Token]], Statement]


def _read(tokens: Iterator[Token]) -> Statement:
    return READ


def _schema(tokens: Iterator[Token]) -> Statement:
    return SCHEMA


def _unless(*words: str) -> Meaning:
    """A read, unless one of *words* is in it."""

    def meaning(tokens: Iterator[Token]) -> Statement:
        return UNKNOWN_WRITE if any(_is_word(token, *words) for token in tokens) else READ

    return meaning


def _only_before(*words: str) -> Meaning:
    """A read, if one of *words* comes next."""

    def meaning(tokens: Iterator[Token]) -> Statement:
        return READ if _is_word(next(tokens, END), *words) else UNKNOWN_WRITE

    return meaning


def _only(*words: str) -> Meaning:
    """A read, if nothing but *words* follows."""

    def meaning(tokens: Iterator[Token]) -> Statement:
        return READ if all(_is_word(token, ",", *words) for token in tokens) else UNKNOWN_WRITE

    return meaning


def _with(tokens: Iterator[Token]) -> Statement:
    """A write where a modifying verb stands where a statement may begin: beside a parenthesis.

    Or anywhere, where names stand between the two.
    """
    found = list(tokens)
    if any(before == Token(")") and _is_word(token, *SORTING) for before, token in pairwise(found)):
        return _unless("into", *TARGETS)(iter(found))
    begun = [
        index + 1
        for index, (before, token) in enumerate(pairwise(found))
        if before in {Token("("), Token(")")} and _is_word(token, *TARGETS)
    ]
    changes = [
        VERBS[found[start].text](iter(found[start + 1 : end]))
        for start, end in pairwise([*begun, len(found)])
        if not (_is_word(found[start], *FUNCTIONS) and found[start + 1 : start + 2] == [Token("(")])
    ]
    if changes:
        return Statement(Kind.WRITE, _union([change.tables for change in changes]))
    return _unless("into")(iter(found))


def _explain(tokens: Iterator[Token]) -> Statement:
    analyzed = False
    for token in tokens:
        analyzed = analyzed or _is_word(token, "analyze", "analyse")
        if _is_word(token, *EXPLAINED):
            return VERBS[token.text](tokens) if analyzed else READ
    return UNKNOWN_WRITE if analyzed else READ


def _analyze(tokens: Iterator[Token]) -> Statement:
    return _explain(chain([Token("analyze")], tokens))


def _insert(tokens: Iterator[Token]) -> Statement:
    return _on_table(*_name(tokens, skip=INSERT_OPTIONS))


def _update(tokens: Iterator[Token]) -> Statement:
    table, following = _name(tokens, skip=UPDATE_OPTIONS)
    until_set: list[Token] = []
    for token in chain([following], tokens):
        if _is_word(token, "set"):
            break
        until_set.append(token)
    several = any(
        _is_word(token, "join", "straight_join") or token.text in {",", "("} for token in until_set
    )
    return UNKNOWN_WRITE if several else _on_table(table, END)


def _delete(tokens: Iterator[Token]) -> Statement:
    for token in tokens:
        if _is_word(token, "from"):
            return _on_table(*_name(tokens, skip={"only"}))
        if not _is_word(token, "low_priority", "quick", "ignore"):
            break
    return UNKNOWN_WRITE


def _truncate(tokens: Iterator[Token]) -> Statement:
    table, following = _name(tokens, skip={"table", "only"})
    return _on_table(table, following) if following == END else UNKNOWN_WRITE


def _on_table(table: str, following: Token) -> Statement:
    if not table or following == Token(","):
        return UNKNOWN_WRITE
    return Statement(Kind.WRITE, frozenset({table}))


def _name(tokens: Iterator[Token], skip: set[str]) -> tuple[str, Token]:
    """Return the name that comes next, with dots where it has a schema, and what follows it."""
    parts: list[str] = []
    dotted = True
    for token in tokens:
        if not parts and _is_word(token, *skip):
            continue
        if token == Token("."):
            dotted = True
        elif dotted and token not in NOT_NAMES:
            parts.append(token.text)
            dotted = False
        else:
            return ".".join(parts), token
    return ".".join(parts), END


def _is_word(token: Token, *words: str) -> bool:
    return not token.quoted and token.text in words


INSERT_OPTIONS = {
    *("into", "low_priority", "delayed", "high_priority", "ignore"),
    *("or", "abort", "fail", "replace", "rollback"),
}
NOT_NAMES = {LITERAL, *map(Token, "(),")}
UPDATE_OPTIONS = {"only", "low_priority", "ignore", "or", "abort", "fail", "replace", "rollback"}
TARGETS: dict[str, Meaning] = {
    "insert": _insert,
    "replace": _insert,
    "merge": _insert,
    "update": _update,
    "delete": _delete,
}
FUNCTIONS = ("insert", "replace")  # of strings, on some servers
# What may stand between the parts of a WITH and its statement.
SORTING = ("search", "cycle")
_select = _unless("into")
EXPLAINED: dict[str, Meaning] = {
    **TARGETS,
    "select": _select,
    "values": _select,
    "table": _select,
    "with": _with,
    "create": _schema,
}
_begin = _only(
    *("transaction", "work", "tran", "with", "consistent", "snapshot"),
    *("deferred", "immediate", "exclusive", "concurrent", "not", "deferrable"),
    *("isolation", "level", "read", "write", "only"),
    *("committed", "uncommitted", "repeatable", "serializable"),
)
VERBS: dict[str, Meaning] = {
    **EXPLAINED,
    "truncate": _truncate,
    "explain": _explain,
    "describe": _explain,
    "desc": _explain,
    "analyze": _analyze,
    "begin": _begin,
    "start": _begin,
    "prepare": _only_before("transaction"),
    "save": _only_before("transaction", "tran"),
    # MariaDB's SET STATEMENT ... FOR runs any statement.
    "set": _unless("global", "persist", "persist_only", "password", "statement", *TARGETS),
    "declare": _unless("into", "insert", "delete", "merge"),
    **dict.fromkeys(
        ["show", "pragma", "use", "reset", "discard", "deallocate", "fetch", "close"],
        _read,
    ),
    **dict.fromkeys(["commit", "end", "rollback", "abort", "savepoint", "release", "xa"], _read),
    **dict.fromkeys(["lock", "unlock"], _read),
    **dict.fromkeys(["alter", "drop", "comment", "rename", "grant", "revoke"], _schema),
}
