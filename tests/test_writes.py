"""What counts as a write, statement by statement and vendor by vendor."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core.management.color import no_style
from django.db import connections
from django.db.models import F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import sql as psycopg_sql

from django_replicas.writes import READ, SCHEMA, UNKNOWN_WRITE, Kind, Statement, classify, text_of
from tests.shop.models import Book, Shelf

VENDORS = ["postgresql", "mysql", "sqlite", "oracle"]


def write(*tables):
    return Statement(Kind.WRITE, frozenset(tables))


EVERYWHERE = {
    # Queries
    "SELECT 1": READ,
    "select * from shop_book": READ,
    "SELECT\n1": READ,
    "\t SELECT 1": READ,
    "SELECT 1;": READ,
    "SELECT 1 ; ; ": READ,
    "SELECT (SELECT 1)": READ,
    "(SELECT 1) UNION (SELECT 2)": READ,
    "((SELECT 1) INTERSECT (SELECT 2)) ORDER BY 1": READ,
    "SELECT 'a;b'": READ,
    "SELECT 'it''s; DELETE FROM t'": READ,
    "VALUES (1), (2)": READ,
    "TABLE shop_book": READ,
    "SHOW server_version": READ,
    "SELECT update, delete FROM t": READ,
    "SELECT 1 AS insert": READ,
    "SELECT into_stock FROM t": READ,
    "SELECT a.into_ FROM t /* INTO x */": READ,
    'SELECT 1 AS x -- INTO "t"': READ,
    "SELECT '''INTO' FROM t": READ,
    "SELECT replace(a, 'b', 'c') FROM t": READ,
    # Locks
    "SELECT * FROM t FOR UPDATE": READ,
    "SELECT * FROM t WHERE (a = 1) FOR NO KEY UPDATE OF t NOWAIT": READ,
    "SELECT * FROM t FOR UPDATE OF t SKIP LOCKED": READ,
    "SELECT * FROM t FOR SHARE": READ,
    "SELECT pg_advisory_lock(1)": READ,
    "LOCK TABLE t IN EXCLUSIVE MODE": READ,
    "LOCK TABLES t WRITE": READ,
    "UNLOCK TABLES": READ,
    # Queries that write
    "SELECT 1 INTO x": UNKNOWN_WRITE,
    "SELECT * /* all */ INTO x FROM t": UNKNOWN_WRITE,
    "TABLE t INTO OUTFILE 'f'": UNKNOWN_WRITE,
    "(SELECT * INTO x FROM t)": UNKNOWN_WRITE,
    # WITH
    "WITH x AS (SELECT 1) SELECT * FROM x": READ,
    "WITH RECURSIVE x (a) AS (SELECT 1 UNION SELECT a + 1 FROM x) SELECT * FROM x": READ,
    "WITH x AS (SELECT 1) SELECT * FROM x WHERE (a) FOR UPDATE": READ,
    "WITH x AS (SELECT replace(a, 'b', 'c') FROM t) SELECT (replace(a, 'b', 'c')) FROM x": READ,
    "WITH x AS (SELECT 1 AS delete) SELECT delete, x.update FROM x": READ,
    "WITH x AS (SELECT %(insert)s) SELECT * FROM x WHERE a = %(delete)s": READ,
    "WITH x AS (SELECT 1) SELECT * INTO y FROM x": UNKNOWN_WRITE,
    "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x": write("t"),
    "WITH x AS MATERIALIZED (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x": write("t"),
    "(WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x)": write("t"),
    "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x": write("t"),
    "WITH x AS (SELECT 1) UPDATE t SET a = 1": write("t"),
    "WITH x AS (SELECT 1) DELETE FROM t": write("t"),
    "WITH x AS (SELECT 1) DELETE": UNKNOWN_WRITE,
    "WITH x AS (SELECT 1) MERGE INTO t USING x ON t.a = x.a WHEN MATCHED THEN DELETE": write("t"),
    "WITH x AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM x": write("a", "b"),
    "WITH x AS (DELETE FROM a RETURNING *) UPDATE b, c SET d = 1": UNKNOWN_WRITE,
    "WITH RECURSIVE x AS (SELECT 1) SEARCH DEPTH FIRST BY a SET o SELECT * FROM x": READ,
    "WITH RECURSIVE x AS (SELECT 1) SEARCH DEPTH FIRST BY a SET o DELETE FROM t": UNKNOWN_WRITE,
    "WITH RECURSIVE x AS (SELECT 1) CYCLE a SET c USING p UPDATE t SET d = 1": UNKNOWN_WRITE,
    # Changes of rows
    "INSERT INTO t VALUES (1)": write("t"),
    "INSERT INTO t (a, b) SELECT a, b FROM u": write("t"),
    "INSERT INTO Shop_Book DEFAULT VALUES": write("shop_book"),
    "INSERT INTO public.t (a) VALUES (1)": write("public.t"),
    "INSERT INTO public.ignore VALUES (1)": write("public.ignore"),
    "INSERT INTO public . t (a) VALUES (1)": write("public.t"),
    "INSERT INTO t (a) VALUES (%s) ON CONFLICT (a) DO UPDATE SET b = 1 RETURNING a": write("t"),
    "INSERT INTO": UNKNOWN_WRITE,
    "INSERT INTO (SELECT 1)": UNKNOWN_WRITE,
    "INSERT INTO %s VALUES (1)": UNKNOWN_WRITE,
    "INSERT OR IGNORE INTO t VALUES (1)": write("t"),
    "INSERT OR REPLACE INTO t VALUES (1)": write("t"),
    "INSERT IGNORE INTO t VALUES (1)": write("t"),
    "INSERT LOW_PRIORITY t VALUES (1)": write("t"),
    "REPLACE INTO t VALUES (1)": write("t"),
    "MERGE INTO t AS x USING u ON x.a = u.a WHEN MATCHED THEN DELETE": write("t"),
    "UPDATE t SET a = 1": write("t"),
    "update\nt\nset a = 1": write("t"),
    "UPDATE ONLY t AS x SET a = 1 FROM u": write("t"),
    "UPDATE OR ROLLBACK t SET a = 1": write("t"),
    "UPDATE t SET a = CASE WHEN (t.a = 1) THEN 2 ELSE 3 END WHERE t.a IN (1, 2)": write("t"),
    "UPDATE t, u SET t.a = u.a": UNKNOWN_WRITE,
    "UPDATE t x, u SET x.a = u.a": UNKNOWN_WRITE,
    "UPDATE t JOIN u ON t.a = u.a SET u.b = 1": UNKNOWN_WRITE,
    "UPDATE t LEFT JOIN u ON t.a = u.a SET u.b = 1": UNKNOWN_WRITE,
    "UPDATE t STRAIGHT_JOIN u SET u.b = 1": UNKNOWN_WRITE,
    "UPDATE t PARTITION (p) SET a = 1": UNKNOWN_WRITE,
    "UPDATE (SELECT * FROM t) SET a = 1": UNKNOWN_WRITE,
    "UPDATE ONLY (t) SET a = 1": UNKNOWN_WRITE,
    "UPDATE": UNKNOWN_WRITE,
    "DELETE FROM t": write("t"),
    "DELETE FROM ONLY t WHERE a IN (SELECT a FROM u)": write("t"),
    "DELETE FROM t USING u WHERE t.a = u.a": write("t"),
    "DELETE LOW_PRIORITY QUICK IGNORE FROM t": write("t"),
    "DELETE FROM t, u USING t JOIN u": UNKNOWN_WRITE,
    "DELETE t, u FROM t JOIN u": UNKNOWN_WRITE,
    "DELETE t FROM t JOIN u": UNKNOWN_WRITE,
    "DELETE": UNKNOWN_WRITE,
    "TRUNCATE t": write("t"),
    "TRUNCATE TABLE t;": write("t"),
    "TRUNCATE t, u": UNKNOWN_WRITE,
    "TRUNCATE t CASCADE": UNKNOWN_WRITE,
    "TRUNCATE TABLE": UNKNOWN_WRITE,
    # Schema
    "CREATE TABLE t (a int)": SCHEMA,
    "CREATE UNIQUE INDEX i ON t (a)": SCHEMA,
    "ALTER TABLE t ADD COLUMN a int": SCHEMA,
    "DROP TABLE t CASCADE": SCHEMA,
    "COMMENT ON TABLE t IS 'x'": SCHEMA,
    "RENAME TABLE t TO u": SCHEMA,
    "GRANT SELECT ON t TO u": SCHEMA,
    "REVOKE SELECT ON t FROM u": SCHEMA,
    "SET CONSTRAINTS x IMMEDIATE; ALTER TABLE t DROP CONSTRAINT x": SCHEMA,
    "ALTER TABLE t ADD a int; UPDATE t SET a = 1": UNKNOWN_WRITE,
    # Transactions and sessions
    "BEGIN": READ,
    "BEGIN;": READ,
    "BEGIN WORK": READ,
    "BEGIN IMMEDIATE": READ,
    "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY, NOT DEFERRABLE": READ,
    "BEGIN NOT ATOMIC DELETE FROM t; END": UNKNOWN_WRITE,
    "BEGIN DELETE FROM t; END": UNKNOWN_WRITE,
    "BEGIN proc(); END": UNKNOWN_WRITE,
    "BEGIN TRAN DELETE FROM t": UNKNOWN_WRITE,
    "START TRANSACTION": READ,
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY": READ,
    "START GROUP_REPLICATION": UNKNOWN_WRITE,
    "COMMIT": READ,
    "COMMIT AND CHAIN": READ,
    "END": READ,
    "ROLLBACK": READ,
    "ROLLBACK TO SAVEPOINT s": READ,
    "ABORT": READ,
    'SAVEPOINT "s123_x1"': READ,
    'RELEASE SAVEPOINT "s123_x1"': READ,
    "SAVE TRANSACTION s": READ,
    "SAVE x": UNKNOWN_WRITE,
    "PREPARE TRANSACTION 'x'": READ,
    "COMMIT PREPARED 'x'": READ,
    "ROLLBACK PREPARED 'x'": READ,
    "XA START 'x'": READ,
    "XA COMMIT 'x'": READ,
    "PREPARE p AS DELETE FROM t": UNKNOWN_WRITE,
    "PREPARE": UNKNOWN_WRITE,
    "EXECUTE p": UNKNOWN_WRITE,
    "DEALLOCATE p": READ,
    "SET TIME ZONE 'UTC'": READ,
    "SET CONSTRAINTS ALL IMMEDIATE": READ,
    "SET ROLE x": READ,
    "SET NAMES utf8mb4": READ,
    "SET FOREIGN_KEY_CHECKS = 0": READ,
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED": READ,
    "SET GLOBAL x = 1": UNKNOWN_WRITE,
    "SET @@GLOBAL.x = 1": UNKNOWN_WRITE,
    "SET PERSIST x = 1": UNKNOWN_WRITE,
    "SET PASSWORD = 'x'": UNKNOWN_WRITE,
    "SET STATEMENT max_statement_time = 1 FOR CALL p()": UNKNOWN_WRITE,
    "SET NOCOUNT ON INSERT INTO t VALUES (1)": UNKNOWN_WRITE,
    "RESET ALL": READ,
    "DISCARD ALL": READ,
    "USE shop": READ,
    "PRAGMA foreign_keys = ON": READ,
    "PRAGMA table_info(t)": READ,
    "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM t FOR UPDATE": READ,
    "DECLARE @x TABLE (a int) INSERT INTO t VALUES (1)": UNKNOWN_WRITE,
    "FETCH FORWARD 100 FROM c": READ,
    "CLOSE c": READ,
    # EXPLAIN
    "EXPLAIN SELECT 1": READ,
    "EXPLAIN DELETE FROM t": READ,
    "EXPLAIN t": READ,
    "EXPLAIN QUERY PLAN SELECT 1": READ,
    "EXPLAIN FORMAT=JSON UPDATE t SET a = 1": READ,
    "EXPLAIN (VERBOSE, FORMAT JSON) INSERT INTO t VALUES (1)": READ,
    "EXPLAIN ANALYZE SELECT 1": READ,
    "EXPLAIN ANALYZE FORMAT=TREE SELECT 1": READ,
    "EXPLAIN (ANALYZE TRUE, BUFFERS, FORMAT JSON) SELECT 1": READ,
    "EXPLAIN ANALYZE WITH x AS (SELECT 1) SELECT * FROM x": READ,
    "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1": SCHEMA,
    "EXPLAIN ANALYZE SELECT * INTO t FROM u": UNKNOWN_WRITE,
    "EXPLAIN ANALYZE EXECUTE p": UNKNOWN_WRITE,
    "EXPLAIN ANALYZE DELETE FROM t": write("t"),
    "EXPLAIN ANALYSE VERBOSE INSERT INTO t VALUES (1)": write("t"),
    "EXPLAIN (BUFFERS, ANALYZE) UPDATE t SET a = 1": write("t"),
    "EXPLAIN ANALYZE WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x": write("t"),
    "EXPLAIN 'ANALYZE' DELETE FROM t": READ,
    "DESCRIBE t": READ,
    "DESC t": READ,
    "ANALYZE FORMAT=JSON SELECT 1": READ,
    "ANALYZE UPDATE t SET a = 1": write("t"),
    "ANALYZE t": UNKNOWN_WRITE,
    # Several statements
    "SELECT 1; SELECT 2": UNKNOWN_WRITE,
    "SELECT 1; DELETE FROM t": write("t"),
    "DELETE FROM t; DELETE FROM u;": write("t", "u"),
    "DELETE FROM t; CALL p()": UNKNOWN_WRITE,
    "DELETE FROM t; CREATE TABLE u (a int)": UNKNOWN_WRITE,
    "SELECT ';'; DELETE FROM t": write("t"),
    # Unknown and empty
    "CALL p()": UNKNOWN_WRITE,
    "DO x": UNKNOWN_WRITE,
    "COPY t FROM STDIN": UNKNOWN_WRITE,
    "VACUUM": UNKNOWN_WRITE,
    "REFRESH MATERIALIZED VIEW t": UNKNOWN_WRITE,
    "NOTIFY x": UNKNOWN_WRITE,
    "{call p()}": UNKNOWN_WRITE,
    '"select" 1': UNKNOWN_WRITE,
    "'SELECT' 1": UNKNOWN_WRITE,
    "SELECTED 1": UNKNOWN_WRITE,
    "": READ,
    " \n ": READ,
    ";": READ,
    "/* ping */": READ,
    "/* ping; */": READ,
    # Comments
    "/* a */ SELECT 1": READ,
    "-- a\nSELECT 1": READ,
    "-- SELECT 1\nDELETE FROM t": write("t"),
    "/* SELECT */ DELETE FROM t": write("t"),
    "DELETE/**/FROM/**/t": write("t"),
    "SELECT 1 /* ; DELETE FROM t */": READ,
    "SELECT 1 -- ; DELETE FROM t": READ,
    "SELECT '/*'; DELETE FROM t -- */": write("t"),
    "UPDATE /*+ hint */ t SET a = 1": write("t"),
    # Left open
    "UPDATE 'a": UNKNOWN_WRITE,
    "(SELECT 1 /* a": UNKNOWN_WRITE,
    "SELECT 1; SELECT 'a": UNKNOWN_WRITE,
}

POSTGRESQL = {
    'INSERT INTO "shop_book" ("title") VALUES (%s) RETURNING "shop_book"."id"': write("shop_book"),
    'INSERT INTO "a" ("b") SELECT * FROM UNNEST((%s)::varchar[]) ON CONFLICT DO NOTHING': write(
        "a"
    ),
    'UPDATE "set" SET "a" = %(a)s': write("set"),
    'UPDATE "Only" SET a = 1': write("Only"),
    'UPDATE "a""b" SET a = 1': write('a"b'),
    'UPDATE "public"."t" SET a = 1': write("public.t"),
    'TRUNCATE "a", "b";': UNKNOWN_WRITE,
    "SET CONSTRAINTS ALL IMMEDIATE": READ,
    "SELECT set_config('TimeZone', %s, false)": READ,
    'SET CONSTRAINTS "x" IMMEDIATE; ALTER TABLE "t" DROP CONSTRAINT "x"': SCHEMA,
    "UPDATE t SET a = 1; SET CONSTRAINTS ALL IMMEDIATE": write("t"),
    "LOCK TABLE ONLY t IN ACCESS EXCLUSIVE MODE; SELECT 1": UNKNOWN_WRITE,
    # Comments nest, and a carriage return ends one
    "SELECT 1 /* a /* b */ ; DELETE FROM t */": READ,
    "/* /* */ SELECT */ DELETE FROM t": write("t"),
    "SELECT 1 /* a /* b */": UNKNOWN_WRITE,
    "SELECT 1 -- a\r; DELETE FROM t": write("t"),
    "SELECT 1 # 2; DELETE FROM t": write("t"),
    "SELECT /*! a */ 1": READ,
    "SELECT 1--1; DELETE FROM t": READ,
    # A number ends where its digits end
    "SELECT 1INTO x": UNKNOWN_WRITE,
    # Strings
    "SELECT E'\\'; DELETE FROM t --'": READ,
    "SELECT e'a\\\\'; DELETE FROM t": write("t"),
    "SELECT '\\'; DELETE FROM t": write("t"),
    "SELECT note'\\'; DELETE FROM t": write("t"),
    "SELECT E'a'\n'\\''; DELETE FROM t; SELECT ''": write("t"),
    "SELECT $$; DELETE FROM t$$": READ,
    "SELECT $a$ $$ ; DELETE FROM t $b$ $a$": READ,
    "SELECT $é$; DELETE FROM t$é$": READ,
    "SELECT a$b$; DELETE FROM t; SELECT c$b$": write("t"),
    "SELECT $$a$$; DELETE FROM t; SELECT $$b$$": write("t"),
    "SELECT $1; DELETE FROM t": write("t"),
    "SELECT 1; $a$": UNKNOWN_WRITE,
    "DO $$BEGIN DELETE FROM t; END$$": UNKNOWN_WRITE,
    "CREATE FUNCTION f() RETURNS int AS $f$ BEGIN DELETE FROM t; END $f$ LANGUAGE plpgsql": SCHEMA,
    "SELECT '{a;b}'::text[]; DELETE FROM t": write("t"),
    "SELECT (ARRAY[1, 2])[1]; DELETE FROM t": write("t"),
    # Names may have any character beyond ASCII, the no-break space among them
    "UPDATE bücher SET a = 1": write("bücher"),
    "UPDATE a\xa0b SET a = 1": write("a\xa0b"),
    "UPDATE \xa0b SET a = 1": write("\xa0b"),
}

MYSQL = {
    "INSERT INTO `shop_book` (`a`) VALUES (%s) ON DUPLICATE KEY UPDATE `a` = 1": write("shop_book"),
    "INSERT IGNORE INTO `shop_book` (`a`) VALUES (%s)": write("shop_book"),
    "INSERT INTO `t` (`a`) VALUES (%s) RETURNING `t`.`id`": write("t"),
    "DELETE `t` FROM `t` INNER JOIN `u` ON (`t`.`a` = `u`.`a`)": UNKNOWN_WRITE,
    "DELETE FROM `db`.`t`": write("db.t"),
    "UPDATE `a``b` SET a = 1": write("a`b"),
    # A name may begin with a digit
    "UPDATE 2fa SET a = 1": write("2fa"),
    'UPDATE "t" SET a = 1': UNKNOWN_WRITE,
    "SELECT * FROM `t` FOR UPDATE OF `t` SKIP LOCKED": READ,
    "SELECT 1 AS `into` -- \n": READ,
    "SELECT * INTO OUTFILE 'f' FROM t": UNKNOWN_WRITE,
    "SELECT 1INTO x": READ,
    "SET SQL_AUTO_IS_NULL = 0": READ,
    "SET STATEMENT max_statement_time = 1 FOR DELETE FROM t": UNKNOWN_WRITE,
    "ANALYZE FORMAT=JSON UPDATE `t` SET a = 1": write("t"),
    "EXPLAIN EXTENDED SELECT 1": READ,
    # Comments
    "SELECT 1 # ; DELETE FROM t": READ,
    "# SELECT\nDELETE FROM t": write("t"),
    "SELECT 1--1; DELETE FROM t": write("t"),
    "SELECT 1 --\t1; DELETE FROM t": READ,
    "SELECT 1; --": READ,
    "SELECT 1 /* a /* b */; DELETE FROM t": write("t"),
    "SELECT 1 -- a\r; DELETE FROM t": READ,
    "SELECT 1 /*! ; DELETE FROM t */": UNKNOWN_WRITE,
    "SELECT /*!40001 SQL_NO_CACHE */ 1": UNKNOWN_WRITE,
    "/*!99999 SELECT */ DELETE FROM t": UNKNOWN_WRITE,
    "/*M!100000 SELECT */ DELETE FROM t": UNKNOWN_WRITE,
    "DELETE /*!99999 FROM t */ FROM u": UNKNOWN_WRITE,
    # Strings
    "SELECT '\\'; DELETE FROM t -- '": READ,
    'SELECT "\\"; DELETE FROM t -- "': READ,
    "SELECT 'a\\\\'; DELETE FROM t": write("t"),
    'SELECT "a;b""c"': READ,
    "SELECT `a;b`; DELETE FROM `t`": write("t"),
    "SELECT 1; SELECT `a": UNKNOWN_WRITE,
    "SELECT $$; DELETE FROM t": write("t"),
}

SQLITE = {
    'INSERT INTO "shop_book" ("title") VALUES (%s) RETURNING "shop_book"."id"': write("shop_book"),
    'INSERT OR IGNORE INTO "t" ("a") VALUES (?)': write("t"),
    'INSERT INTO "new__t" ("a") SELECT "a" FROM "t"': write("new__t"),
    "UPDATE [a b] SET c = 1": write("a b"),
    "UPDATE `t` SET a = 1": write("t"),
    "UPDATE 't' SET a = 1": UNKNOWN_WRITE,
    "SELECT [a;b]; DELETE FROM t": write("t"),
    "SELECT 1; SELECT [a": UNKNOWN_WRITE,
    "SELECT 1 -- a\r; DELETE FROM t": READ,
    "SELECT 1 /* a /* b */; DELETE FROM t": write("t"),
    "SELECT '\\'; DELETE FROM t": write("t"),
    "PRAGMA legacy_alter_table = ON": READ,
    "PRAGMA foreign_key_check": READ,
    "BEGIN EXCLUSIVE TRANSACTION": READ,
    "BEGIN CONCURRENT": READ,
}

# Whatever Django backend there may be: the standard, and Transact-SQL's brackets.
ORACLE = {
    'INSERT INTO "T" ("A") VALUES (:arg0) RETURNING "T"."ID" INTO :arg1': write("T"),
    "UPDATE [dbo].[t] SET a = 1": write("dbo.t"),
    "UPDATE [dbo]..[t] SET a = 1": write("dbo.t"),
    "UPDATE [a]]b] SET a = 1": write("a]b"),
    "DELETE TOP (5) FROM t": UNKNOWN_WRITE,
    "SET NOCOUNT ON INSERT INTO [t] VALUES (1); SELECT SCOPE_IDENTITY()": UNKNOWN_WRITE,
    "SET IDENTITY_INSERT [t] ON; INSERT INTO [t] VALUES (1); SET IDENTITY_INSERT [t] OFF": write(
        "t"
    ),
    "SELECT 1 FROM DUAL": READ,
    "ALTER SESSION SET NLS_DATE_FORMAT = 'x'": SCHEMA,
    "SELECT 1; SELECT [a": UNKNOWN_WRITE,
}

OF_ONE_VENDOR = {"postgresql": POSTGRESQL, "mysql": MYSQL, "sqlite": SQLITE, "oracle": ORACLE}


@pytest.mark.parametrize("vendor", VENDORS)
def test_each_statement_is_what_it_does(vendor):
    """A statement is a read, a schema change, or a write on certain tables or on unknown ones."""
    cases = EVERYWHERE | OF_ONE_VENDOR[vendor]
    assert {sql: classify(sql, vendor) for sql in cases} == cases


def test_a_plain_select_is_not_taken_apart():
    """A long IN list costs nothing: the usual query is known from its first word."""
    assert classify("SELECT '" + "unclosed" * 100, "postgresql") == READ


# What Django itself sends


@pytest.fixture
def sent():
    """Collect what Django sends, and with it each vendor's verdict."""
    statements = []

    def note(execute, sql, params, many, context):
        statements.append(classify(sql, context["connection"].vendor))
        return execute(sql, params, many, context)

    with connections["default"].execute_wrapper(note):
        yield statements


def test_what_the_orm_reads_is_a_read(sent):
    """Queries of every shape that the ORM makes are reads."""
    books = Book.objects.using("default")
    list(books.select_related("shelf").prefetch_related("labels"))
    list(books.filter(pk=1).union(books.filter(pk=2), all=True))
    list(books.filter(shelf__in=Shelf.objects.using("default").filter(name="x")).values("note"))
    books.count()
    books.filter(title__contains="; DELETE").exists()
    books.explain()
    list(books.iterator(chunk_size=1))
    list(books.raw("SELECT * FROM shop_book"))
    assert len(sent) > 7
    assert set(sent) == {READ}


def test_what_the_orm_writes_is_a_write_of_its_table(sent):
    """Saves, updates and deletions of every shape name their table."""
    books = Book.objects.using("default")
    book = books.create(title="a")
    book.save(force_update=True)
    books.bulk_create([Book(pk=1, title="b")], ignore_conflicts=True)
    books.bulk_create(
        [Book(pk=1, title="b")],
        update_conflicts=True,
        unique_fields=["pk"],
        update_fields=["title"],
    )
    books.bulk_update([Book(pk=1, title="c"), Book(pk=book.pk, title="d")], ["title"])
    books.filter(shelf__name="x").update(note=F("title"))
    books.filter(shelf__name="x")._raw_delete("default")
    assert {each for each in sent if each != READ} == {write("shop_book")}
    assert sent.count(write("shop_book")) == 7


def test_a_schema_editor_changes_the_schema(sent):
    """Creating and dropping a table are schema changes, savepoints and pragmas are reads."""
    with connections["default"].schema_editor() as editor:
        editor.deferred_sql = []
        editor.execute("CREATE TABLE shop_extra (a int)")
        editor.execute("DROP TABLE shop_extra")
    assert set(sent) == {READ, SCHEMA}


def test_what_a_flush_sends_is_a_write():
    """What empties a table is a write of it."""
    flush = connections["default"].ops.sql_flush(no_style(), ["shop_book"])
    assert [classify(sql, "sqlite") for sql in flush] == [write("shop_book")]


# Whatever stands around the words

READS = [
    "SELECT a FROM t WHERE b IN ( 1 , 2 ) FOR UPDATE",
    "WITH x AS ( SELECT 1 ) SELECT a FROM x WHERE ( a ) FOR UPDATE",
    "VALUES ( 1 )",
    "EXPLAIN ANALYZE SELECT 1",
    "SHOW x",
    "SET x = 1",
    "SAVEPOINT x",
    "BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE , READ ONLY",
]
WRITES = [
    "INSERT INTO t ( a ) VALUES ( 1 )",
    "REPLACE INTO t VALUES ( 1 )",
    "UPDATE t SET a = 1 WHERE b IN ( SELECT b FROM u )",
    "DELETE FROM s . t WHERE a = 1",
    "TRUNCATE TABLE t",
    "WITH x AS ( DELETE FROM t RETURNING a ) SELECT a FROM x",
    "WITH x AS ( SELECT 1 ) UPDATE t SET a = 1",
    "EXPLAIN ANALYZE DELETE FROM t",
    "UPDATE t , u SET a = 1",
    "DELETE t FROM t JOIN u",
    "SELECT a INTO t FROM u",
    "CALL p ( 1 )",
]

unhurried = settings(deadline=None)
vendors = st.sampled_from(VENDORS)
any_text = st.text(max_size=30)


def line_comments(vendor):
    ends = {"postgresql": "\n\r"}.get(vendor, "\n")
    starts = ["-- ", "# "] if vendor == "mysql" else ["--"]
    content = st.text(st.characters(exclude_characters="\n\r"), max_size=20)
    return st.builds("".join, st.tuples(st.sampled_from(starts), content, st.sampled_from(ends)))


def block_comments(vendor):
    content = any_text.filter(
        lambda text: "/" not in text and "*" not in text and text[:1] not in ("!", "M")
    )
    comment = content.map("/*{}*/".format)
    if vendor == "postgresql":
        return st.recursive(comment, lambda inner: inner.map("/* a {} b */".format), max_leaves=4)
    return comment


def gaps(vendor):
    blank = st.sampled_from([" ", "\n", "\t", "\r\n", "  "])
    noise = blank | line_comments(vendor) | block_comments(vendor)
    return st.lists(noise, min_size=1, max_size=3).map("".join)


@st.composite
def dressed(draw, vendor, statements):
    """Draw a statement, and the same with other gaps, in other case, maybe in parentheses."""
    plain = draw(st.sampled_from(statements))
    cases = [str.lower, str.upper, str.title]
    words = [draw(st.sampled_from(cases))(word) for word in plain.split(" ")]
    gap = gaps(vendor)
    sql = "".join(draw(gap) + word for word in words) + draw(st.just("") | gap)
    if plain.split(" ")[0] in ("SELECT", "VALUES", "WITH") and draw(st.booleans()):
        sql = f"({sql}\n)"
    return plain, sql


@unhurried
@given(st.data(), vendors)
def test_dress_never_changes_the_verdict(data, vendor):
    """Comments, whitespace, case and parentheses are of no consequence."""
    plain, sql = data.draw(dressed(vendor, READS + WRITES))
    assert classify(sql, vendor) == classify(plain, vendor)


@unhurried
@given(st.data(), vendors)
def test_a_write_behind_a_read_is_a_write(data, vendor):
    """Nothing can be hidden behind a semicolon."""
    _, read = data.draw(st.just((None, "SELECT 1")) | dressed(vendor, READS))
    written = data.draw(st.sampled_from(data.draw(dressed(vendor, WRITES))))
    assert classify(f"{read}\n;{written}", vendor).kind is Kind.WRITE


def literals(vendor):
    """Draw anything, quoted as one literal of the vendor's."""
    plain = any_text.map(lambda text: text.replace("'", "''"))
    if vendor == "mysql":
        escaped = any_text.map(lambda text: text.replace("\\", "\\\\"))
        return escaped.map(lambda text: "'" + text.replace("'", "\\'") + "'") | escaped.map(
            lambda text: '"' + text.replace('"', '""') + '"'
        )
    if vendor == "postgresql":
        dollars = any_text.filter(lambda text: "$" not in text)
        return (
            plain.map("'{}'".format)
            | plain.map(lambda text: "E'" + text.replace("\\", "\\\\") + "'")
            | dollars.map("$${}$$".format)
            | dollars.map("$tag$ $$ {} $other$ $tag$".format)
        )
    return plain.map("'{}'".format)


FRAMES = {
    "SELECT {} /* */": READ,
    "SELECT {};": READ,
    "WITH x AS (SELECT {}) SELECT * FROM x": READ,
    "SET x = {}": READ,
    "EXPLAIN ANALYZE SELECT {}": READ,
    "UPDATE t SET a = {};": write("t"),
    "INSERT INTO t VALUES ({}); DELETE FROM u": write("t", "u"),
    "WITH x AS (DELETE FROM t WHERE a = {} RETURNING *) SELECT {}": write("t"),
    "CREATE TABLE t (a text DEFAULT {});": SCHEMA,
}


@unhurried
@given(st.data(), vendors, st.sampled_from(list(FRAMES)))
def test_what_a_literal_says_is_of_no_consequence(data, vendor, frame):
    """No text that is quoted for the vendor is ever read as SQL."""
    literal = data.draw(literals(vendor))
    assert classify(frame.replace("{}", literal), vendor) == FRAMES[frame]


FRAGMENTS = [
    *("'", '"', "`", "[", "]", "$", "$$", "$a$", "\\", "E'", "--", "#", "/*", "*/", "/*!"),
    *("(", ")", ";", ",", ".", "%s", "%(a)s", "\n", "\r", "1", "é", "\0", " "),
    *("WITH", "SELECT", "INSERT", "INTO", "UPDATE", "SET", "DELETE", "FROM", "EXPLAIN", "ANALYZE"),
    *("SEARCH", "BEGIN", "TRUNCATE", "t"),
]


@unhurried
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join) | st.text(), vendors)
def test_any_text_has_a_verdict(sql, vendor):
    """Whatever is thrown at it, there is a verdict, and only a write names tables."""
    statement = classify(sql, vendor)
    assert statement.kind is Kind.WRITE or statement.tables == frozenset()
    assert statement.tables is None or all(statement.tables)


@example("$a", "postgresql")
@example("e'' \n", "postgresql")
@example("[", "sqlite")
@example("''", "mysql")
@example(")UPDATE ", "sqlite")
@settings(deadline=timedelta(seconds=20), max_examples=10)
@given(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=3).map("".join), vendors)
def test_long_text_has_a_verdict_too(fragment, vendor):
    """No repetition makes reading hang: its time grows as the text does, not as its square.

    The deadline is dozens of times what it takes.
    """
    for before in ("UPDATE ;", "WITH x AS ("):
        classify(before + fragment * (100_000 // len(fragment)), vendor)


# The text of what a cursor was given

UNCONNECTED = SimpleNamespace(connection=None)


def test_the_text_of_text_is_itself():
    """A string is what it says."""
    assert text_of("SELECT 1", UNCONNECTED) == "SELECT 1"


def test_bytes_are_read_as_utf8():
    """Bytes are decoded, and what cannot be decoded stands for itself."""
    assert text_of("SELECT 'é'".encode(), UNCONNECTED) == "SELECT 'é'"
    assert text_of(b"SELECT '\xff'", UNCONNECTED) == "SELECT '\ufffd'"


def test_composed_sql_is_asked_for_its_text():
    """psycopg's composed queries say what they will send."""
    composed = psycopg_sql.SQL("DELETE FROM {}").format(psycopg_sql.Identifier("shop_book"))
    assert text_of(composed, UNCONNECTED) == 'DELETE FROM "shop_book"'


def test_composed_sql_is_shown_the_drivers_connection():
    """The object that Django wraps is what a composed query wants to see."""

    class Composed:
        def as_string(self, context):
            return f"SELECT {context}"

    assert text_of(Composed(), SimpleNamespace(connection="the driver's")) == "SELECT the driver's"


class Failing:
    def as_string(self, context):
        raise ZeroDivisionError


class Misleading:
    def as_string(self, context):
        return b"SELECT 1"


@pytest.mark.parametrize("sql", [None, 1, object(), Failing(), Misleading()])
def test_what_has_no_text_has_none(sql):
    """An object of another kind, or one that fails to tell, has no text."""
    assert text_of(sql, UNCONNECTED) is None
