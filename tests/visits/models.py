from django.contrib.sessions.base_session import AbstractBaseSession


class Visit(AbstractBaseSession):
    class Meta:
        app_label = "visits"
