"""The engine over a session model with a column of its own, as Django's documentation has it."""

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from sessions_tests.models import CustomSession
from sessions_tests.models import SessionStore as CustomStore

from django_replicas.sessions.write_behind import SessionStore as WriteBehindStore


class SessionStore(WriteBehindStore):
    key_salt = "django.contrib.sessions." + DatabaseStore.__qualname__

    @classmethod
    def get_model_class(cls):
        return CustomSession

    def create_model_instance(self, data):
        instance = super().create_model_instance(data)
        account = str(data.get("_auth_user_id", ""))
        instance.account_id = int(account) if account.isdecimal() else None
        return instance

    get_session_cookie_age = CustomStore.get_session_cookie_age
