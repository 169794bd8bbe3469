"""Django's own session tests, over the session engine of this package.

``TestCase`` has a transaction around each test, so that every save is synchronous;
``TransactionTestCase`` has none, and the queue's threads write.
"""

import sessions_tests.tests as djangos
from django.test import TestCase, TransactionTestCase, override_settings

from django_replicas.sessions.process import drain
from django_replicas.sessions.write_behind import SessionStore
from tests.django_sessions.engines import SessionStore as CustomStore


class InTransaction(djangos.CacheDBSessionTests):
    backend = SessionStore


@override_settings(USE_TZ=True)
class InTransactionWithTimeZone(djangos.CacheDBSessionTests):
    backend = SessionStore


class OfDatabase(djangos.DatabaseSessionTests):
    """Those of the database's engine that do not edit the row behind the engine's back."""

    backend = SessionStore
    session_engine = "django_replicas.sessions.write_behind"
    test_sessionmanager_save = None


class OfCustomModel(djangos.CustomDatabaseSessionTests):
    backend = CustomStore
    session_engine = "tests.django_sessions.engines"
    test_sessionmanager_save = None


class WithThreads(djangos.SessionTestsMixin, TransactionTestCase):
    backend = SessionStore
    # Their tables alone are emptied after each test, and nothing is migrated again.
    available_apps = ("django.contrib.sessions", "django_replicas", "sessions_tests")

    def tearDown(self):
        assert drain(10) == 0


class WithThreadsAndCustomModel(WithThreads):
    backend = CustomStore
    test_custom_expiry_reset = djangos.CustomDatabaseSessionTests.test_custom_expiry_reset
    test_custom_expiry_reset_async = (
        djangos.CustomDatabaseSessionTests.test_custom_expiry_reset_async
    )
    test_default_expiry = djangos.CustomDatabaseSessionTests.test_default_expiry
    test_default_expiry_async = djangos.CustomDatabaseSessionTests.test_default_expiry_async
    custom_session_cookie_age = 60 * 60 * 24


class OfMiddleware(djangos.SessionMiddlewareTests):
    """With the engine of the settings, which is ours."""


# The classes alone would be run as Django's tests of Django.
assert TestCase
