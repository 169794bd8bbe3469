"""Each view twice: as it is under ``sync/``, as a coroutine under ``async/``."""

from django.urls import include, path

from . import views

sync_urls = [
    path("title", views.title),
    path("touch", views.touch),
    path("books/<code>", views.book),
    path("by-get/<code>", views.book_by_get),
    path("transaction", views.inside_transaction),
    path("related", views.related),
    path("stream", views.stream),
    path("fail", views.fail),
    path("file", views.file),
    path("nothing", views.nothing),
]
async_urls = [
    path("title", views.title_async),
    path("books/<code>", views.book_async),
    path("by-get/<code>", views.book_by_get_async),
    path("transaction", views.inside_transaction_async),
    path("related", views.related_async),
    path("stream", views.stream_async),
    path("fail", views.fail_async),
]
urlpatterns = [
    path("title", views.title),
    path("sync/", include(sync_urls)),
    path("async/", include(async_urls)),
]
