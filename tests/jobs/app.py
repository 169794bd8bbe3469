"""The Celery application, as the module ``celery.py`` of a project."""

import os

from celery import Celery

from django_replicas.integrations.celery import install

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.jobs.settings")

app = Celery("jobs")
app.conf.update(
    broker_url=os.environ.get("DJANGO_REPLICAS_TEST_BROKER", "memory://"),
    broker_connection_retry_on_startup=True,
    imports=["tests.jobs.celery_tasks"],
    result_backend=os.environ.get("DJANGO_REPLICAS_TEST_BROKER"),
    task_ignore_result=True,
    worker_hijack_root_logger=False,
)
install()
