from django.contrib.sessions.backends.db import SessionStore as DatabaseStore


class SessionStore(DatabaseStore):
    @classmethod
    def get_model_class(cls):
        from .models import Visit  # noqa: PLC0415 - a session engine is imported before its models

        return Visit
