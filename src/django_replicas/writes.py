"""Is this SQL a write, and on which tables: a pure reading of the text.

It errs towards "a write": what is not surely a read counts as one, because reading the leader once
too often costs less than showing a user stale data.
"""

import re
from collections.abc import Callable, Iterator
from enum import Enum
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


READ = Statement(Kind.READ)
SCHEMA = Statement(Kind.SCHEMA)
UNKNOWN_WRITE = Statement(Kind.WRITE, None)


def classify(sql: str, vendor: str) -> Statement:
    """Tell reads, writes and schema changes apart.

    *vendor* is Django's name for the database. Several statements together are a write.

    >>> classify('UPDATE "shop_order" SET "paid" = %s', "postgresql").tables
    frozenset({'shop_order'})
    """
    if _is_plain_select(sql):
        return READ
    try:
        if ";" in sql:
            return _together([_one(statement) for statement in _split(_tokens(sql, vendor))])
        return _one(_tokens(sql, vendor))
    except _Unreadable:
        return UNKNOWN_WRITE


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


def _is_plain_select(sql: str) -> bool:
    return (
        sql[:7].upper() == "SELECT "
        and ";" not in sql
        and "/*" not in sql
        and "into" not in sql.lower()
    )


def _together(statements: list[Statement]) -> Statement:
    if len(statements) == 1:
        return statements[0]
    if any(statement.kind is Kind.SCHEMA for statement in statements):
        return UNKNOWN_WRITE
    return Statement(Kind.WRITE, _union([statement.tables for statement in statements]))


def _union(tables: list[frozenset[str] | None]) -> frozenset[str] | None:
    known = [each for each in tables if each is not None]
    union = frozenset[str]().union(*known)
    return union if union and len(known) == len(tables) else None


# Words and signs


class _Unreadable(Exception):
    """A quote or a comment is left open."""


class Token(NamedTuple):
    """A word in lower case, a quoted name, or one of the signs ``( ) ; , .``."""

    text: str
    quoted: bool = False


END = Token("")


def _pattern(strings: str, names: str, comments: str) -> re.Pattern[str]:
    return re.compile(
        rf"""
        (?P<skipped>   \s+ | {comments} | %s | %\(\w+\)s | \d[\w.]* )
        | (?P<comment> /\* )
        | (?P<string>  {strings} )
        | (?P<name>    {names} )
        | (?P<word>    [^\W\d][\w$]* )
        | (?P<sign>    [();,.] )
        | (?P<open>    ['"`] )
        | (?P<other>   . )
        """,
        re.VERBOSE | re.DOTALL,
    )


_STRING = r"'(?:[^']|'')*'"
_NAME = r'"(?:[^"]|"")*"'
_BACKTICKED = r"`(?:[^`]|``)*`"
_COMMENT = r"--[^\n]*"
_PATTERNS = {
    "postgresql": _pattern(
        rf"[eE]'(?:[^'\\]|\\.|'')*' | {_STRING} | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$",
        _NAME,
        _COMMENT,
    ),
    "mysql": _pattern(
        r"""'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" """,
        _BACKTICKED,
        r"--(?=\s|\Z)[^\n]* | \#[^\n]*",
    ),
    "sqlite": _pattern(_STRING, rf"{_NAME} | {_BACKTICKED} | \[[^\]]*\]", _COMMENT),
}
_OTHER_VENDOR = _pattern(_STRING, rf"{_NAME} | \[[^\]]*\]", _COMMENT)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_EXECUTED_COMMENT = re.compile(r"/\*M?!\d*")


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
        elif kind == "comment":
            place = _end_of_comment(sql, match.start(), vendor)
        elif kind == "open":
            raise _Unreadable


def _unquoted(name: str) -> str:
    closing = name[-1]
    return name[1:-1].replace(closing * 2, closing)


def _end_of_comment(sql: str, start: int, vendor: str) -> int:
    executed = _EXECUTED_COMMENT.match(sql, start)
    if vendor == "mysql" and executed:
        return executed.end()
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
    """A read, if it ends there or one of *words* comes next."""

    def meaning(tokens: Iterator[Token]) -> Statement:
        following = next(tokens, END)
        return READ if following == END or _is_word(following, *words) else UNKNOWN_WRITE

    return meaning


def _with(tokens: Iterator[Token]) -> Statement:
    """A write where a modifying verb stands where a statement may begin: beside a parenthesis."""
    found = list(tokens)
    begun = [
        index + 1
        for index, (before, token) in enumerate(pairwise(found))
        if before in {Token("("), Token(")")} and _is_word(token, *TARGETS)
    ]
    changes = [
        VERBS[found[index].text](iter(found[index + 1 :]))
        for index in begun
        if found[index + 1 : index + 2] != [Token("(")]
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
    several = any(_is_word(token, "join") or token.text in {",", "("} for token in until_set)
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
        elif dotted and (token.quoted or token.text not in {"(", ")", ","}):
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
UPDATE_OPTIONS = {"only", "low_priority", "ignore", "or", "abort", "fail", "replace", "rollback"}
TARGETS: dict[str, Meaning] = {
    "insert": _insert,
    "replace": _insert,
    "merge": _insert,
    "update": _update,
    "delete": _delete,
}
_select = _unless("into")
EXPLAINED: dict[str, Meaning] = {
    **TARGETS,
    "select": _select,
    "values": _select,
    "table": _select,
    "with": _with,
    "create": _schema,
}
_begin = _only_before(
    *("transaction", "work", "tran", "deferred", "immediate", "exclusive", "concurrent"),
    *("isolation", "read", "not"),
)
VERBS: dict[str, Meaning] = {
    **EXPLAINED,
    "truncate": _truncate,
    "explain": _explain,
    "describe": _explain,
    "desc": _explain,
    "analyze": _analyze,
    "begin": _begin,
    "start": _only_before("transaction"),
    "prepare": _only_before("transaction"),
    "set": _unless("global", "persist", "persist_only", "password"),
    **dict.fromkeys(
        ["show", "pragma", "use", "reset", "discard", "deallocate", "declare", "fetch", "close"],
        _read,
    ),
    **dict.fromkeys(["commit", "end", "rollback", "abort", "savepoint", "release"], _read),
    **dict.fromkeys(["lock", "unlock"], _read),
    **dict.fromkeys(["alter", "drop", "comment", "rename", "grant", "revoke"], _schema),
}
