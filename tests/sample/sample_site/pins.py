"""What makes the admin, and other views that were not written for it, work with StrictPinRouter."""

from django_replicas import pin


def pin_unsafe_methods(get_response):
    """Pin every request that may write, as its method says."""

    def middleware(request):
        if request.method not in {"GET", "HEAD", "OPTIONS", "TRACE"}:
            pin("default", count_as_new=False)
        return get_response(request)

    return middleware
